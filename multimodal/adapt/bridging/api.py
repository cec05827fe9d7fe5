"""bridge(a, b): aligns two embedding spaces through a shared modality, without paired data.

Two independently trained spaces may both encode text, for example. Every text encoded by both is a pair, so a map from
one space to the other can be learned from text alone. Other modalities of the source space, such as audio, lie near
their texts and are mapped with them. After C-MCR (Wang et al. 2023, arXiv:2305.14381) and Ex-MCR (Zhang et al. 2024,
arXiv:2310.08884); as in the latter, the target space stays unchanged.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from multimodal.adapt.bridging import assemble, fitting
from multimodal.adapt.bridging import corpus as reading
from multimodal.adapt.bridging.checkpoint import BridgeCheckpoint, current_method
from multimodal.adapt.bridging.encoding import Progress, encode_all
from multimodal.adapt.bridging.kernel import perturbed
from multimodal.adapt.bridging.report import Bridge, BridgeReport, PoorBridge, chance, is_trusted, recall
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput, SpaceMismatch, UnsupportedModality
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.paths import local_path
from multimodal.core.pipeline import as_space
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.projector import Projector

Method = Literal["kernel", "mlp", "procrustes", "ridge"]
VERSION = 1  # of the training procedure: jobs of another version are not resumed


def bridge(
    space_a: Space | str | os.PathLike[str],
    space_b: Space | str | os.PathLike[str],
    over: str = "text",
    *,
    corpus: object,
    media: object = None,
    method: Method | Literal["memory"] = "kernel",
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Bridge:
    """Adds the modalities that only `space_a` encodes to `space_b`.

    A tenth of the corpus is held out for evaluation; afterwards all methods but "mlp" are fitted on all of it. The
    same seed gives the same bridge on the same machine. Interrupted jobs with `out` resume on the next call with the
    same arguments; a finished bridge is opened.

    Args:
        space_a: The source space, or a name or folder for `load`.
        space_b: The target space, or a name or folder for `load`; its vectors do not change.
        over: A modality that both encode.
        corpus: Items of that modality: a text file with one text per line, a folder of media, or an iterable of items;
            at least 200 different ones, preferably thousands, of the kind the bridge will be used on.
        media: Unpaired media of either space: a folder, an iterable, or a mapping whose values are such. They locate
            each modality in its space, so that the modality gap can be corrected.
        method: "kernel" (a rotation, and a kernel regression that stores the corpus in both spaces), "ridge" or
            "procrustes" (linear, closed form), or "mlp" (a small network on top of the ridge solution). If the geometry
            of the two spaces differs, only "kernel" fits; recipes/bridge has figures. "memory" is a deprecated name of
            "kernel".
        out: A folder to save the space in, for `load`.
        seed: Seed of all random choices.
        progress: Called with (task, done, total).

    Returns:
        The joined space and a report of its quality. A poor bridge also emits the warning `PoorBridge`.

    Raises:
        SpaceMismatch: If the spaces have no modality in common.
        UnsupportedModality: If `over` or an item's modality is not encoded.
        InvalidInput: If the corpus is too small, `space_a` has nothing to add, or `out` contains something else.
        MediaNotFound: If a path does not exist.
    """
    method = _check_method(method)
    a, b = as_space(space_a), as_space(space_b)
    shared, brought = _modalities(a, b, over)
    _check_seed(seed)
    _check_families(
        [*(a.encoders[modality] for modality in brought), *(b.encoders.values() if out is not None else ())]
    )
    texts = reading.read_corpus(corpus, shared)
    supported = [*brought, *(modality for modality in b.modalities if modality != shared)]
    unpaired = reading.sort_media(reading.read_media(media), supported)
    job = _job(a, b, shared, brought, texts, unpaired, method, seed)
    checkpoint = BridgeCheckpoint(None if out is None else local_path(out, "a bridge"), job)
    finished = checkpoint.finished()
    if finished is not None:
        report, projectors = finished
        space = assemble.assemble(a, b, shared, projectors, report.scale, checkpoint.folder)
        return Bridge(space, report)
    start = time.monotonic()
    task = _Task(a, b, shared, brought, method, seed, checkpoint, progress or _no_progress)
    result = _build(task, texts, unpaired, start)
    checkpoint.finish(result)
    if not result.report.trusted:
        warnings.warn(_poor(result.report), PoorBridge, stacklevel=2)
    return result


@dataclass(frozen=True)
class _Task:
    """The arguments of one call of `bridge`."""

    a: Space
    b: Space
    over: Modality
    brought: Sequence[Modality]
    method: Method
    seed: int
    checkpoint: BridgeCheckpoint
    progress: Progress


def _build(
    task: _Task, texts: Sequence[Item], unpaired: Mapping[Modality, list[Item]], start: float
) -> Bridge:
    source, target, notes = _encode_corpus(task, texts)
    media = {modality: _encode_unpaired(task, modality, items, notes) for modality, items in unpaired.items()}
    train, held_out = reading.held_out(len(source), task.seed)
    source_media = {modality: rows for modality, rows in media.items() if modality in task.brought}
    target_media = {modality: rows for modality, rows in media.items() if modality not in task.brought}

    def fit(rows: Sequence[int] | slice) -> dict[Modality, Projector]:
        training_set = fitting.TrainingSet(source[rows], target[rows], source_media, target_media)
        return fitting.fit(training_set, task.brought, task.method, task.seed, task.checkpoint, task.progress)

    projectors = fit(train)
    projector = projectors[task.brought[0]]
    projected, expected = fitting.project(projector, source[held_out]), target[held_out]
    held_out_recall, scale = recall(projected, expected), assemble.fit_scale(projected, expected)
    seen = train[:: max(1, len(train) // len(held_out))][: len(held_out)]
    known = recall(fitting.project(projector, perturbed(source[seen], task.seed)), target[seen])
    if task.method != "mlp":  # closed forms are fitted again on everything
        projectors = fit(slice(None))
    notes += _notes(task, len(train), media)
    report = BridgeReport(
        method=task.method,
        over=str(task.over),
        modalities=tuple(map(str, task.brought)),
        n_texts=len(source),
        n_held_out=len(held_out),
        media={str(modality): len(rows) for modality, rows in media.items()},
        recall=held_out_recall,
        known=known,
        before=recall(fitting.random_baseline(source[held_out], task.b.dim, task.seed), expected),
        chance=chance(len(held_out)),
        trusted=is_trusted(held_out_recall, len(held_out)),
        scale=scale,
        seconds=round(time.monotonic() - start, 2),
        seed=task.seed,
        warnings=tuple(notes),
    )
    space = assemble.assemble(task.a, task.b, task.over, projectors, scale, task.checkpoint.folder)
    return Bridge(space, report)


def _encode_corpus(
    task: _Task, texts: Sequence[Item]
) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """Encodes the corpus in both spaces -> (source rows, target rows, notes), without items that either rejects."""
    sides = []
    for side, space in (("first", task.a), ("second", task.b)):
        name = f"{task.over} with the {side} space"
        encoder = space.encoder_for(task.over)
        sides.append(encode_all(encoder, texts, name, task.checkpoint, task.progress))
    source, target = sides
    valid = source.any(axis=1) & target.any(axis=1)
    n_valid = int(valid.sum())
    if n_valid < reading.MIN_CORPUS:
        raise InvalidInput(
            f"only {n_valid:,} of {len(texts):,} corpus items could be encoded by both spaces: {reading.REQUIREMENT}"
        )
    notes = []
    if n_valid < len(texts):
        notes.append(
            f"{len(texts) - n_valid:,} of {len(texts):,} corpus items could not be encoded and were skipped"
        )
    return source[valid], target[valid], notes


def _encode_unpaired(
    task: _Task, modality: Modality, items: list[Item], notes: list[str]
) -> NDArray[np.float32]:
    space = task.a if modality in task.brought else task.b
    encoder = space.encoder_for(modality)
    rows = encode_all(encoder, items, f"unpaired {modality}", task.checkpoint, task.progress)
    valid = rows.any(axis=1)
    if not valid.all():
        notes.append(
            f"{int((~valid).sum()):,} of {len(rows):,} {modality} items could not be encoded and were skipped"
        )
    return rows[valid]


def _notes(task: _Task, n: int, media: Mapping[Modality, NDArray[np.float32]]) -> list[str]:
    notes = []
    if n < task.a.dim:
        notes.append(
            f"{n:,} training items are fewer than the {task.a.dim} dimensions of {task.a.name!r}, so the map is "
            "underdetermined; use a corpus of some thousands"
        )
    for modality in task.brought:
        if not len(media.get(modality, ())):
            notes.append(
                f"no {modality} was given, so the gap between {modality} and {task.over} in {task.a.name!r} is not "
                "corrected; some hundreds of unpaired items in media= are enough"
            )
    return notes


def _modalities(a: Space, b: Space, over: str) -> tuple[Modality, list[Modality]]:
    """(the shared modality, the modalities to add). Raises if the spaces cannot be bridged."""
    common = [modality for modality in a.modalities if modality in b.modalities]
    described = f"{a.name!r} has {', '.join(a.modalities)}, {b.name!r} has {', '.join(b.modalities)}"
    if over not in tuple(Modality):
        raise InvalidInput(f"over must be one of {', '.join(map(repr, map(str, Modality)))}, got {over!r}")
    if not common:
        raise SpaceMismatch(
            f"these spaces have no modality in common: {described}; a bridge needs one that both encode"
        )
    if over not in common:
        raise UnsupportedModality(
            f"over={str(over)!r} needs a modality that both encode, which is {' or '.join(common)}: {described}"
        )
    brought = [modality for modality in a.modalities if modality not in b.modalities]
    if not brought:
        raise InvalidInput(
            f"there is nothing to add: {described}; the first space must encode a modality that the second does not "
            "(try the other order)"
        )
    return Modality(over), brought


def _check_method(method: str) -> Method:
    if method == "memory":
        message = "method='memory' is deprecated, use method='kernel'"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
    method = current_method(method)
    if method not in get_args(Method):
        raise InvalidInput(f"method must be one of {', '.join(map(repr, get_args(Method)))}, got {method!r}")
    return cast("Method", method)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise InvalidInput(f"seed must be an integer of at least 0, got {seed!r}")


def _check_families(encoders: Sequence[Encoder]) -> None:
    """Refuses, before minutes of work, encoders that no family can rebuild: they can neither be wrapped nor saved."""
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
    unpaired: Mapping[Modality, list[Item]],
    method: Method,
    seed: int,
) -> dict[str, Any]:
    """Everything the result depends on, to recognise an interrupted job."""
    first = {str(modality): a.encoders[modality].fingerprint for modality in (over, *brought)}
    return {
        "version": VERSION,
        "first space": first,
        "second space": b.fingerprint,
        "over": str(over),
        "corpus": _digest(texts),
        "media": {str(modality): _digest(items) for modality, items in unpaired.items()},
        "method": method,
        "seed": seed,
    }


def _digest(items: Sequence[Item]) -> str:
    return hashlib.sha256("\n".join(map(reading.key_of, items)).encode("utf-8", "surrogatepass")).hexdigest()


def _poor(report: BridgeReport) -> str:
    held_out, known = report.recall["R@10"], report.known["R@10"]
    return (
        f"this bridge is poor: recall@10 is {held_out:.1%} on {report.n_held_out:,} held-out items "
        f"({report.chance['R@10']:.1%} by chance; {known:.1%} on as many training items), so do not rely on it beyond "
        "what the corpus names; use a larger and more varied corpus of content that both spaces encode well"
    )


def _no_progress(task: str, done: int, total: int) -> None:
    return None
