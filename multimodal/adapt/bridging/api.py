"""bridge(a, b): what one space knows and another does not, brought over without a single pair.

Two spaces trained apart both know, say, text. Every text encoded by both is a pair, so a map from one space to the
other can be learned from texts alone; what lies near a text in the first space, such as its sounds, comes over with it.
After C-MCR (Wang et al. 2023, arXiv:2305.14381) and Ex-MCR (Zhang et al. 2024, arXiv:2310.08884): as in the second,
the target space stays as it is, bit for bit.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from multimodal.adapt.bridging import assemble, fitting
from multimodal.adapt.bridging import corpus as reading
from multimodal.adapt.bridging.checkpoint import Kept
from multimodal.adapt.bridging.encoding import Progress, encode_all
from multimodal.adapt.bridging.kernel import disturbed
from multimodal.adapt.bridging.report import Bridge, BridgeReport, PoorBridge, chance, is_trusted, recall
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput, SpaceMismatch, UnsupportedModality
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Method = Literal["memory", "mlp", "procrustes", "ridge"]
VERSION = 1  # of the learning: a job begun by another version is not gone on from


def bridge(
    space_a: Space | str | os.PathLike[str],
    space_b: Space | str | os.PathLike[str],
    over: str = "text",
    *,
    corpus: object,
    media: object = None,
    method: Method = "memory",
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Bridge:
    """Brings what `space_a` encodes and `space_b` does not into `space_b` -> the joined space and its report.

    space_a, space_b: spaces, or what `load` takes. over: a modality both encode.
    corpus: what to learn from, of that modality: a file of texts, one a line, a folder of media, or an iterable of
    items; at least 200 different ones, better thousands, and of the kind the bridge will be used on.
    media: sounds of the first space, pictures of the second and so on, without any pairs: a folder, an iterable, or a
    mapping whose values are such. They show where each modality lies in its space.
    method: "memory" (a rotation, and the corpus itself kept in both spaces: see adapt/memory.py), "ridge" or
    "procrustes" (linear, solved at once), "mlp" (a small network, trained on top of the ridge solution). Where the two
    spaces' texts do not lie alike, only the memory follows; recipes/bridge has the figures.
    out: a folder to save the space in, for `load`; a stopped job goes on when called again with the same arguments,
    and a finished one is opened.
    progress: called with what is being done, how much of it is done, and how much there is.

    A tenth of the corpus is held out and judges the bridge; it warns with PoorBridge if it is poor (see BridgeReport).
    What was held out is learned from too once it has judged, save by "mlp". The same seed gives the same bridge on the
    same machine.
    Raises SpaceMismatch for spaces without a common modality, UnsupportedModality, InvalidInput for a corpus that is
    too small, a space that has nothing to bring, or an `out` that is something else.
    """
    a, b = as_space(space_a), as_space(space_b)
    shared, brought = _what(a, b, over)
    _check(method, seed)
    _check_families(
        [*(a.encoders[one] for one in brought), *(b.encoders.values() if out is not None else ())]
    )
    texts = reading.read_corpus(corpus, shared)
    wanted = [*brought, *(modality for modality in b.modalities if modality != shared)]
    loose = reading.sort_media(reading.read_media(media), wanted)
    job = _job(a, b, shared, brought, texts, loose, method, seed)
    kept = Kept(None if out is None else Path(out).expanduser(), job)
    finished = kept.finished()
    if finished is not None:
        report, maps = finished
        return Bridge(assemble.joined(a, b, shared, maps, report.scale, kept.folder), report)
    began = time.monotonic()
    task = _Task(a, b, shared, brought, method, seed, kept, progress or _silent)
    done = _build(task, texts, loose, began)
    kept.finish(done)
    if not done.report.trusted:
        warnings.warn(_poor(done.report), PoorBridge, stacklevel=2)
    return done


@dataclass(frozen=True)
class _Task:
    a: Space
    b: Space
    over: Modality
    brought: Sequence[Modality]
    method: Method
    seed: int
    kept: Kept
    progress: Progress


def _build(task: _Task, texts: Sequence[Item], loose: Mapping[Modality, list[Item]], began: float) -> Bridge:
    own, wanted, notes = _both(task, texts)
    vectors = {one: _loose(task, one, items, notes) for one, items in loose.items()}
    learn_from, judge_by = reading.held_out(len(own), task.seed)
    sides = [
        {m: rows for m, rows in vectors.items() if (m in task.brought) is first} for first in (True, False)
    ]
    material = fitting.Material(own[learn_from], wanted[learn_from], *sides)
    maps = fitting.fit(material, task.brought, task.method, task.seed, task.kept, task.progress)
    projected, right = fitting.project(maps[task.brought[0]], own[judge_by]), wanted[judge_by]
    found, scale = recall(projected, right), assemble.fitted_scale(projected, right)
    again = learn_from[:: max(1, len(learn_from) // len(judge_by))][: len(judge_by)]
    known = recall(fitting.project(maps[task.brought[0]], disturbed(own[again], task.seed)), wanted[again])
    if task.method != "mlp":  # solved again in no time, with all there is
        whole = fitting.Material(own, wanted, *sides)
        maps = fitting.fit(whole, task.brought, task.method, task.seed, task.kept, task.progress)
    notes += _notes(task, len(learn_from), vectors)
    report = BridgeReport(
        method=task.method,
        over=str(task.over),
        modalities=tuple(map(str, task.brought)),
        n_texts=len(own),
        n_held_out=len(judge_by),
        media={str(modality): len(rows) for modality, rows in vectors.items()},
        recall=found,
        known=known,
        before=recall(fitting.unlearned(own[judge_by], task.b.dim, task.seed), right),
        chance=chance(len(judge_by)),
        trusted=is_trusted(found, len(judge_by)),
        scale=scale,
        seconds=round(time.monotonic() - began, 2),
        seed=task.seed,
        warnings=tuple(notes),
    )
    return Bridge(assemble.joined(task.a, task.b, task.over, maps, scale, task.kept.folder), report)


def _both(task: _Task, texts: Sequence[Item]) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """The corpus in both spaces, without what either could not encode, and a note if there was any."""
    rows = []
    for side, space in (("first", task.a), ("second", task.b)):
        name = f"{task.over} by the {side} space"
        rows.append(encode_all(space.encoder_for(task.over), texts, name, task.kept, task.progress))
    good = rows[0].any(axis=1) & rows[1].any(axis=1)
    left_out = int((~good).sum())
    notes = [f"{left_out:,} of {len(texts):,} in the corpus could not be encoded and were left out"] * bool(
        left_out
    )
    if good.sum() < reading.FEWEST:
        raise InvalidInput(
            f"only {int(good.sum()):,} of the corpus's {len(texts):,} could be encoded by both spaces: {reading.WHY}"
        )
    return rows[0][good], rows[1][good], notes


def _loose(task: _Task, modality: Modality, items: list[Item], notes: list[str]) -> NDArray[np.float32]:
    space = task.a if modality in task.brought else task.b
    rows = encode_all(
        space.encoder_for(modality), items, f"{modality} without pairs", task.kept, task.progress
    )
    good = rows.any(axis=1)
    if not good.all():
        notes.append(
            f"{int((~good).sum()):,} of {len(rows):,} {modality} items could not be encoded and were left out"
        )
    return rows[good]


def _notes(task: _Task, n: int, vectors: Mapping[Modality, NDArray[np.float32]]) -> list[str]:
    notes = []
    if n < task.a.dim:
        notes.append(
            f"{n:,} to learn from are fewer than the {task.a.dim} numbers of a vector of {task.a.name!r}, "
            "so the map is not settled by them; give some thousands"
        )
    for modality in task.brought:
        if not len(vectors.get(modality, ())):
            notes.append(
                f"no {modality} was given, so where {modality} lies beside {task.over} in {task.a.name!r} is not "
                "known; some hundreds in media=, without pairs, let the bridge make up for it"
            )
    return notes


def _what(a: Space, b: Space, over: str) -> tuple[Modality, list[Modality]]:
    """(the modality to bridge over, those to bring). Raises if there is no bridge to build."""
    common = [modality for modality in a.modalities if modality in b.modalities]
    has = f"{a.name!r} has {', '.join(a.modalities)}, {b.name!r} has {', '.join(b.modalities)}"
    if over not in tuple(Modality):
        raise InvalidInput(f"over must be one of {', '.join(map(repr, map(str, Modality)))}, got {over!r}")
    if not common:
        raise SpaceMismatch(
            f"these spaces have no modality in common: {has}; a bridge is learned over one that both encode, so load "
            "two that share one"
        )
    if over not in common:
        raise UnsupportedModality(
            f"over={str(over)!r} needs a modality that both encode, which is {' or '.join(common)}: {has}"
        )
    brought = [modality for modality in a.modalities if modality not in b.modalities]
    if not brought:
        raise InvalidInput(
            f"there is nothing to bring over: {has}; the first must encode something that the second does not "
            "(are they the wrong way round?)"
        )
    return Modality(over), brought


def _check(method: str, seed: int) -> None:
    if method not in get_args(Method):
        raise InvalidInput(f"method must be one of {', '.join(map(repr, get_args(Method)))}, got {method!r}")
    if seed < 0:
        raise InvalidInput(f"seed must be a whole number of at least 0, got {seed!r}")


def _check_families(encoders: Sequence[Encoder]) -> None:
    """Before minutes of work: an encoder that no family can rebuild can neither be wrapped nor saved."""
    for encoder in encoders:
        if encoder.family is None:
            raise InvalidInput(
                f"cannot bridge {type(encoder).__name__}: its module {type(encoder).__module__!r} belongs to no "
                "encoder family; register it with multimodal.register_family(name, module)"
            )


def _job(
    a: Space,
    b: Space,
    over: Modality,
    brought: Sequence[Modality],
    texts: Sequence[Item],
    loose: Mapping[Modality, list[Item]],
    method: Method,
    seed: int,
) -> dict[str, Any]:
    """Everything the outcome depends on, so that a stopped job is known again."""
    first = {str(one): a.encoders[one].fingerprint for one in (over, *brought)}
    return {
        "version": VERSION,
        "first space": first,
        "second space": b.fingerprint,
        "over": str(over),
        "corpus": _digest(texts),
        "media": {str(modality): _digest(items) for modality, items in loose.items()},
        "method": method,
        "seed": seed,
    }


def _digest(items: Sequence[Item]) -> str:
    return hashlib.sha256("\n".join(map(reading.key_of, items)).encode("utf-8", "surrogatepass")).hexdigest()


def _poor(report: BridgeReport) -> str:
    held_out, known = report.recall["R@10"], report.known["R@10"]
    return (
        f"this bridge is poor: of {report.n_held_out:,} held-out, {held_out:.1%} have their own among the first ten "
        f"({report.chance['R@10']:.1%} by chance; {known:.1%} of as many that it learned from), so do not trust it "
        "beyond what the corpus names; give more, and more various, things of the kind both spaces know"
    )


def _silent(what: str, done: int, total: int) -> None:
    return None
