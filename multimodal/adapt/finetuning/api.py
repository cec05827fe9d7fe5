"""finetune(space, data): trains encoders of a space on pairs, and measures what was gained and what was forgotten.

The data are split into training, validation and held-out pairs. The towers of one or more modalities train; the others
stay as they are, so their vectors are computed once. Old pairs are replayed beside the new ones. Afterwards the weights
are interpolated between those before and after (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903), as far as the
reference figure does not fall below its interval.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.adapt.finetuning.data import Pair, read_pairs
from multimodal.adapt.finetuning.examples import Examples, Progress, encode_pairs
from multimodal.adapt.finetuning.judge import change, scores, share
from multimodal.adapt.finetuning.options import FinetuneOptions, loss_for, trained_modalities
from multimodal.adapt.finetuning.reference import REFERENCE, REPLAY, automatic_pairs
from multimodal.adapt.finetuning.report import CurvePoint, FinetuneReport
from multimodal.adapt.finetuning.split import content_hash, split_pairs
from multimodal.adapt.finetuning.targets import ADAPTERS
from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality
from multimodal.core.paths import local_path
from multimodal.core.pipeline import Pipeline, as_space
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.adapt.finetuning.loop import Augment
    from multimodal.adapt.finetuning.optimisation import History
    from multimodal.adapt.finetuning.towers import Tower

VERSION = 1  # of the training procedure: runs of another version are not resumed
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the interpolation
MAX_REFERENCE = 2000  # pairs of the reference set
METRIC_PAIRS = "recall@1 among the distinct items of the other side, mean of both directions"
METRIC_LABELS = "share of items whose nearest class is their own"


def finetune(
    space: Space | Pipeline | str | os.PathLike[str],
    data: object,
    *,
    method: str = "lora",
    modality: str | Sequence[str] | None = None,
    lock: Sequence[str] = ("text",),
    loss: str = "auto",
    matryoshka: Sequence[int] | None = None,
    replay: object = "auto",
    reference: object = "auto",
    interpolate: str | float | None = "auto",
    held_out: object = 0.2,
    steps: int | None = None,
    batch_size: int = 96,
    chunk_size: int = 96,
    learning_rate: float | None = None,
    rank: int = 8,
    targets: str | list[str] | None = None,
    augment: Augment | None = None,
    mixed_precision: bool = False,
    eval_every: int | None = None,
    patience: int = 4,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> tuple[Any, FinetuneReport]:
    """Trains encoders of a space on pairs of items, or the decoder of a pipeline.

    Args:
        space: A space, or a name or folder for `load`; or a pipeline whose decoder trains by "lora", "dora" or "full"
            (Whisper on audio and transcripts, a captioning model on images and captions, Stable Diffusion and Flux on
            images and prompts). It is not changed.
        data: Pairs: a .csv, .tsv, .jsonl or .parquet table, a folder with one folder per class, a .tar archive of a
            WebDataset, a data set, or an iterable of (item, text) or (item, text, hard negative).
        method: "lora" (adapters of a few hundred kB), "dora" (LoRA that trains the lengths of weight vectors apart
            from their directions), "last" (the last layer), "full" (every weight) or "probe" (a linear map of the
            vectors).
        modality: The modality or modalities to train. Default: those of the pairs that are not in `lock`.
        lock: Modalities that stay as they are.
        loss: "clip", "siglip", or "auto" for the one the space was trained with. Equal items are positives of each
            other.
        matryoshka: Shorter dimensions at which the vectors are trained as well.
        replay: Pairs of what the space knew before, trained along with the new ones; "auto" for half of the gallery
            that ships with the package, None for none.
        reference: Pairs that measure forgetting; "auto" for the other half of the gallery, None for none.
        interpolate: Weight of the trained weights against those before, 0 to 1; "auto" to choose it on the validation
            pairs, among the weights whose reference figure stays within its interval before; None for 1.
        held_out: Share of the pairs that only the report uses, or such pairs themselves.
        steps: Optimiser steps. Default: ten epochs, at least 20 and at most 200.
        batch_size: Pairs of a step. All are negatives of each other, whatever `chunk_size` is.
        chunk_size: Items that are embedded with gradients at a time.
        learning_rate: Of AdamW. Default: by method.
        rank: Of the adapters.
        targets: The layers that get adapters, as a regular expression or a list of names. Default: by architecture.
        augment: Called with an item of a trained modality and a numpy generator; returns the item to train on.
        mixed_precision: Train in bfloat16 where torch's autocast does.
        eval_every: Steps between evaluations. Default: a tenth of the steps.
        patience: Evaluations without improvement after which training stops.
        out: A new folder for the adapter ("lora", "dora") or the space (other methods), with report.html and
            report.json.
        resume: Continue the interrupted run in `out`. The result is bit for bit that of an uninterrupted one.
        seed: Seed of the split, the batches and the adapters.
        columns: {column: role} of a table, with the roles "first", "second", "label", "negative" and "split".
        progress: Called with (task, done, total).

    Returns:
        The new space (or pipeline) and its report.

    Raises:
        InvalidInput: For too few pairs, an unknown option, layers that cannot be trained or merged, or an `out` that
            contains something else.
        UnsupportedModality: If the space does not encode the items.
        MissingExtra: If PEFT is not installed and the method is "lora" or "dora".
    """
    folder = None if out is None else local_path(out, "an adapter")
    options = FinetuneOptions(
        method, modality, lock, loss, matryoshka, replay, reference, interpolate, held_out, steps, batch_size,
        chunk_size, learning_rate, rank, targets, augment, mixed_precision, eval_every, patience, folder, resume, seed,
    )  # fmt: skip
    start = time.monotonic()
    if folder is not None:
        _check_out(folder, resume=resume)
    if isinstance(space, Pipeline):
        from multimodal.adapt.finetuning.decoders import finetune_decoder

        return finetune_decoder(space, data, options, columns, progress or _no_progress)
    from multimodal.adapt.finetuning.gradients import start_processes

    start_processes()
    base = as_space(space)
    run = _prepared(base, read_pairs(data, columns), options, columns, progress or _no_progress)
    return _trained(run, start)


@dataclass
class _Run:
    """One call of `finetune`: the space, the encoded sets and what was found while reading them."""

    space: Space
    options: FinetuneOptions
    modalities: tuple[Modality, ...]
    train: Examples
    validation: Examples
    held_out: Examples
    replay: Examples | None
    reference: Examples | None
    reference_name: str
    notes: list[str]
    progress: Progress


def _prepared(
    space: Space,
    pairs: list[Pair],
    options: FinetuneOptions,
    columns: Mapping[str, str] | None,
    progress: Progress,
) -> _Run:
    given = None if isinstance(options.held_out, int | float) else read_pairs(options.held_out, columns)
    held_out_share = float(options.held_out) if isinstance(options.held_out, int | float) else 0.0
    split = split_pairs(
        pairs, given, share=held_out_share, validation=held_out_share / 2 or 0.1, seed=options.seed
    )
    notes = []
    if split.leaks:
        notes.append(
            f"{split.leaks:,} training pairs were removed because the held-out pairs contain the same items"
        )
    sets, failures = [], []
    for name, part in (
        ("training", split.train),
        ("validation", split.validation),
        ("held-out", split.held_out),
    ):
        examples, failed = encode_pairs(space, part, name, progress)
        sets.append(examples)
        failures += failed
    if failures:
        notes.append(f"{len(failures):,} items could not be read and were left out, first {failures[0]}")
    notes.append(
        "no held-out text was trained"
        if split.by_text
        else "held-out items are of texts that were trained too"
    )
    train, validation, held_out = sets
    modalities = trained_modalities(space, train, options)
    reference, reference_name = _old_pairs(space, modalities, options.reference, REFERENCE, progress)
    replay, _ = _old_pairs(space, modalities, options.replay, REPLAY, progress)
    replay = _without(replay, reference, notes)
    return _Run(
        space, options, modalities, train, validation, held_out, replay,
        None if reference is None else reference.take(MAX_REFERENCE, options.seed), reference_name, notes, progress,
    )  # fmt: skip


def _old_pairs(
    space: Space, modalities: Sequence[Modality], given: object, half: int, progress: Progress
) -> tuple[Examples | None, str]:
    """(pairs of what the space knew before, where they come from)."""
    name = "reference" if half == REFERENCE else "replay"
    if given is None:
        return None, "none"
    if isinstance(given, str) and given == "auto":
        pairs = automatic_pairs(space.modalities, modalities, half)
        if not pairs:
            return None, f"none: the gallery has no pairs of {' and '.join(modalities)}"
        return encode_pairs(space, pairs, name, progress)[0], "half of the bundled gallery, in several views"
    return encode_pairs(space, read_pairs(given), name, progress)[0], "given"


def _without(replay: Examples | None, reference: Examples | None, notes: list[str]) -> Examples | None:
    """Replayed pairs whose items are not in the reference."""
    if replay is None or reference is None:
        return replay
    reserved = {content_hash(item) for item in reference.firsts}
    kept = [i for i, item in enumerate(replay.firsts) if content_hash(item) not in reserved]
    if len(kept) == len(replay):
        return replay
    notes.append(
        f"{len(replay) - len(kept):,} replayed pairs were removed because the reference contains them"
    )
    return replay.rows(kept) if kept else None


def _trained(run: _Run, start: float) -> tuple[Space, FinetuneReport]:
    from multimodal.adapt.finetuning.checkpoint import TrainingCheckpoint
    from multimodal.adapt.finetuning.loop import Job, Trainer
    from multimodal.adapt.finetuning.towers import Tower

    options = run.options
    towers = {
        modality: Tower(
            run.space.encoders[modality], options.method, rank=options.rank, alpha=2.0 * options.rank,
            targets=options.targets, seed=options.seed,
        )
        for modality in run.modalities
    }  # fmt: skip
    loss_name, loss = loss_for(run.space, run.train, options)
    config = options.config(len(run.train))
    job = Job(towers, run.train, run.validation, run.replay, loss, options.augment)
    described = _job(run, loss_name, asdict(config))
    checkpoint = TrainingCheckpoint(options.out, described, resume=options.resume)
    trainer = Trainer(job, config, checkpoint, run.progress)
    state = trainer.run()
    curve, weight, measured = _interpolated(run, towers, state)
    for modality, tower in towers.items():
        tower.interpolate(state[modality], weight)
    adapted = _merged_space(run, towers)
    settings = {
        "loss": loss_name,
        **asdict(config),
        "rank": options.rank if options.method in ADAPTERS else None,
    }
    report = _report(run, towers, trainer.history, curve, weight, measured, adapted, settings, start)
    if options.out is not None and trainer.devices.is_main:
        report = _write(run, towers, adapted, report, checkpoint)
    return adapted, report


def _job(run: _Run, loss_name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Everything the result depends on, to recognise an interrupted run."""
    options = run.options

    def digest(examples: Examples | None) -> str | None:
        if examples is None:
            return None
        keys = [content_hash(item) for side in (examples.firsts, examples.seconds) for item in side]
        return hashlib.sha256("\n".join(keys).encode()).hexdigest()

    sets = (run.train, run.validation, run.held_out, run.replay)
    return {
        "version": VERSION,
        "base": run.space.fingerprint,
        "data": [digest(examples) for examples in sets],
        "modalities": list(map(str, run.modalities)),
        "loss": loss_name,
        "matryoshka": options.matryoshka and list(options.matryoshka),
        "method": [options.method, options.rank, options.targets],
        "config": config,
    }


def _interpolated(
    run: _Run, towers: Mapping[Modality, Tower], state: Mapping[str, Any]
) -> tuple[list[CurvePoint], float, dict[float, list[NDArray[np.float64]]]]:
    """(the curve, the chosen weight, the scores of held-out and reference pairs by weight)."""
    given = run.options.interpolate
    weights = WEIGHTS if given == "auto" else (0.0, 1.0 if given is None else float(given))
    encoders = {modality: tower.encoder for modality, tower in towers.items()}
    sets = [examples for examples in (run.validation, run.held_out, run.reference) if examples is not None]
    measured: dict[float, list[NDArray[np.float64]]] = {}
    curve = []
    for done, weight in enumerate(dict.fromkeys(weights)):
        for modality, tower in towers.items():
            tower.interpolate(state[modality], weight)
        validation, *rest = (scores(examples, encoders) for examples in sets)
        measured[weight] = rest
        old = share(rest[1]) if run.reference is not None else None
        curve.append(CurvePoint(weight, share(validation), share(rest[0]), old))
        run.progress("measuring", done + 1, len(weights))
    return curve, _choose(curve) if given == "auto" else weights[-1], measured


def _choose(curve: Sequence[CurvePoint]) -> float:
    """The best weight on the validation pairs among those that forget nothing measurable; of equal ones the largest."""
    before = curve[0].old
    allowed = [
        point for point in curve if before is None or point.old is None or point.old.value >= before.low
    ]
    return max(allowed, key=lambda point: (point.validation.value, point.weight)).weight


def _merged_space(run: _Run, towers: Mapping[Modality, Tower]) -> Space:
    """The space with the trained weights; verifies that merged adapters compute the same."""
    from multimodal.adapt.finetuning.targets import check_merge

    encoders = dict(run.space.encoders)
    for modality, tower in towers.items():
        encoders[modality] = tower.merged()
        if tower.peft is not None:
            side = run.held_out.firsts if run.held_out.modalities[0] is modality else run.held_out.seconds
            check_merge(tower.encoder.encode(side[:8]), encoders[modality].encode(side[:8]))
    space = run.space
    shorter = tuple(run.options.matryoshka or ())
    card = space.card and replace(space.card, base=space.card.name, teacher="", matryoshka=shorter)
    return Space(encoders, space.logit_scales, name=space.name, card=card, revisions=space.revisions)


def _report(
    run: _Run,
    towers: Mapping[Modality, Tower],
    history: History,
    curve: list[CurvePoint],
    weight: float,
    measured: Mapping[float, list[NDArray[np.float64]]],
    adapted: Space,
    settings: dict[str, Any],
    start: float,
) -> FinetuneReport:
    before, after = measured[0.0], measured[weight]
    has_reference = run.reference is not None
    notes = list(run.notes)
    if weight == 0.0:
        notes.append(
            "no weight above 0 improved the validation pairs without forgetting: the space is as before"
        )
    if history.stopped:
        notes.append(history.stopped)
    return FinetuneReport(
        method=run.options.method,
        modalities=tuple(map(str, run.modalities)),
        metric=METRIC_LABELS if run.held_out.labelled else METRIC_PAIRS,
        gain=change(before[0], after[0]),
        forgetting=change(before[1], after[1]) if has_reference else None,
        before=share(before[0]),
        after=share(after[0]),
        reference_before=share(before[1]) if has_reference else None,
        reference_after=share(after[1]) if has_reference else None,
        reference=run.reference_name,
        weight=weight,
        curve=tuple(curve),
        n_train=len(run.train),
        n_validation=len(run.validation),
        n_replay=0 if run.replay is None else len(run.replay),
        n_parameters=sum(value.numel() for tower in towers.values() for value in tower.parameters.values()),
        size_kb=None,
        losses=tuple(history.losses),
        validation=tuple(history.validation),
        best_step=history.best_step,
        stopped=history.stopped,
        seconds=round(time.monotonic() - start, 2),
        base=run.space.fingerprint,
        fingerprint=adapted.fingerprint,
        settings=settings,
        notes=tuple(notes),
    )


def _write(
    run: _Run, towers: Mapping[Modality, Tower], adapted: Space, report: FinetuneReport, checkpoint: Any
) -> FinetuneReport:
    """Writes the adapter or the space, and the report; returns the report with the size of the adapter."""
    from dataclasses import replace

    from multimodal.adapt.finetuning.output import write_adapters, write_space

    out = run.options.out
    assert out is not None
    if run.options.method in ADAPTERS:
        checkpoint.delete()
        size = write_adapters(out, run.space, adapted, towers)
        report = replace(report, size_kb=round(size / 1000, 1))
    else:
        checkpoint.delete()
        write_space(out, adapted)
    report.save(out / "report.json")
    report.save(out / "report.html")
    return report


def _check_out(folder: Path, *, resume: bool) -> None:
    from multimodal.adapt.finetuning.checkpoint import FILE

    if not folder.exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        if (folder / FILE).is_file():
            if not resume:
                raise InvalidInput(
                    f"{folder} holds an interrupted run: continue it with resume=True (--resume), or give another "
                    "folder"
                )
            return
        raise InvalidInput(f"{folder} exists and is not empty; give a new folder")


def _no_progress(task: str, done: int, total: int) -> None:
    return None
