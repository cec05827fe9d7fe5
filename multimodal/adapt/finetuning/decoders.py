"""Fine-tunes the decoder of a pipeline: Whisper, captioning models, Stable Diffusion.

The figures are losses, so lower is better. Forgetting is measured on `reference=` pairs, which a decoder needs from the
user: nothing that ships with the package is what such a model knew before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from multimodal.adapt.finetuning.checkpoint import TrainingCheckpoint
from multimodal.adapt.finetuning.data import Pair, read_pairs
from multimodal.adapt.finetuning.examples import ITEM_ERRORS, Progress
from multimodal.adapt.finetuning.judge import Figure, change, mean
from multimodal.adapt.finetuning.optimisation import Optimisation, TrainingConfig, batch_indices
from multimodal.adapt.finetuning.options import FinetuneOptions
from multimodal.adapt.finetuning.report import CurvePoint, FinetuneReport
from multimodal.adapt.finetuning.split import content_hash, split_pairs
from multimodal.adapt.finetuning.targets import ADAPTERS, check_merge
from multimodal.adapt.finetuning.weights import TrainableNetwork
from multimodal.core.adapters import AdapterMetadata
from multimodal.core.adapters.decoders import (
    TrainableBackend,
    decoder_fingerprint,
    trainable_backend,
    with_backend,
)
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.pipeline import Pipeline

WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the interpolation
LEARNING_RATE = 1e-4
METRIC = "mean loss, lower is better; a gain is a decrease of the loss"
Tuples = list[tuple[Item, Item]]


class _DecoderTraining(Optimisation):
    """Batches of pairs by the backend's own loss."""

    def __init__(
        self,
        backend: TrainableBackend,
        network: TrainableNetwork,
        sets: dict[str, Tuples],
        config: TrainingConfig,
        checkpoint: TrainingCheckpoint,
        progress: Progress,
    ) -> None:
        super().__init__({"decoder": network}, config, checkpoint, progress)
        self.backend, self.sets = backend.with_network(network.net), sets

    def add_gradient(self, step: int) -> float:
        total = 0.0
        for stream in ("train", "replay"):
            pairs = self.sets.get(stream)
            if pairs:
                indices = batch_indices(len(pairs), self.config.batch_size, step, self.config.seed, stream)
                total += self._add([pairs[i] for i in indices], step)
        return total

    def _add(self, batch: Tuples, step: int) -> float:
        """The gradient of the mean is accumulated over parts of the batch."""
        total = 0.0
        for start in range(0, len(batch), self.config.chunk):
            part = batch[start : start + self.config.chunk]
            seed = self.config.seed * 1_000_003 + step * 1_009 + start
            loss = self.backend.pair_losses(part, seed).sum() / len(batch)
            if torch.isfinite(loss):
                loss.backward()
            total += float(loss.detach())
        return total

    def validation_loss(self) -> float:
        return float(self.measured("validation").mean())

    def measured(self, name: str) -> NDArray[np.float64]:
        """The loss of each pair of a set (n)."""
        import numpy as np

        pairs, chunk = self.sets[name], self.config.chunk
        with torch.no_grad():
            parts = [
                self.backend.pair_losses(pairs[start : start + chunk], start).double().cpu().numpy()
                for start in range(0, len(pairs), chunk)
            ]
        return np.concatenate(parts)


def finetune_decoder(
    pipeline: Pipeline, data: object, options: FinetuneOptions, columns: Any, progress: Progress
) -> tuple[Pipeline, FinetuneReport]:
    """See `finetune`."""
    start = time.monotonic()
    backend = trainable_backend(pipeline)
    if options.method not in (*ADAPTERS, "full"):
        raise InvalidInput(
            f"method={options.method!r} is for spaces; a decoder is trained by 'lora', 'dora' or 'full'"
        )
    sets, notes = _sets(data, options, columns)
    config = options.config(len(sets["train"]))
    if options.learning_rate is None:
        config = TrainingConfig(**(asdict(config) | {"learning_rate": LEARNING_RATE}))
    network = TrainableNetwork(
        backend.decoder_network, options.method, rank=options.rank, alpha=2.0 * options.rank,
        targets=options.targets, seed=options.seed,
    )  # fmt: skip
    base = decoder_fingerprint(backend.decoder_network)
    job = {"base": base, "method": options.method, "config": asdict(config)} | {
        name: [content_hash(item) for pair in pairs for item in pair] for name, pairs in sets.items()
    }
    checkpoint = TrainingCheckpoint(options.out, job, resume=options.resume)
    training = _DecoderTraining(backend, network, sets, config, checkpoint, progress)
    state = training.run()["decoder"]
    curve, weight, measured = _interpolated(training, network, state, options)
    network.interpolate(state, weight)
    merged = network.merged_network()
    adapted = backend.with_network(merged)
    sample = sets["held-out"][:4]
    if network.peft is not None:
        with torch.no_grad():
            pairs_of_losses = [
                one.pair_losses(sample, 0)[None].cpu().numpy() for one in (training.backend, adapted)
            ]
        check_merge(*pairs_of_losses)
    report = _report(
        options, training, curve, weight, measured, notes, base, decoder_fingerprint(merged), start
    )
    if options.out is not None and training.devices.is_main:
        report = _write(options, network, backend, report, checkpoint, base)
    return with_backend(pipeline, adapted), report


def _sets(data: object, options: FinetuneOptions, columns: Any) -> tuple[dict[str, Tuples], list[str]]:
    """Readable pairs by set, and notes."""
    given = None if isinstance(options.held_out, int | float) else read_pairs(options.held_out, columns)
    part = float(options.held_out) if isinstance(options.held_out, int | float) else 0.0
    split = split_pairs(
        read_pairs(data, columns), given, share=part, validation=part / 2 or 0.1, seed=options.seed
    )
    named: dict[str, Sequence[Pair]] = {
        "train": split.train, "validation": split.validation, "held-out": split.held_out
    }  # fmt: skip
    for name, source in (("replay", options.replay), ("reference", options.reference)):
        if source is not None and source != "auto":
            named[name] = read_pairs(source, columns)
    notes = [f"{split.leaks:,} training pairs were removed because the held-out pairs contain the same items"]
    notes = notes if split.leaks else []
    sets: dict[str, Tuples] = {}
    failures: list[str] = []
    for name, pairs in named.items():
        sets[name] = []
        for pair in pairs:
            try:
                pair.first.load()  # a file that cannot be read is found before training, not in the middle of it
                pair.second.load()
                sets[name].append((pair.first, pair.second))
            except ITEM_ERRORS as error:
                failures.append(f"{pair.first!r}: {error}")
        if not sets[name]:
            raise InvalidInput(f"none of the {len(pairs)} {name} pairs can be read: {failures[-1]}")
    if failures:
        notes.append(f"{len(failures):,} pairs could not be read and were left out, first {failures[0]}")
    if "reference" not in sets:
        notes.append("nothing measures what was forgotten: give reference= pairs that the model knew")
    return sets, notes


def _interpolated(
    training: _DecoderTraining, network: TrainableNetwork, state: Any, options: FinetuneOptions
) -> tuple[list[CurvePoint], float, dict[float, dict[str, NDArray[np.float64]]]]:
    given = options.interpolate
    weights = WEIGHTS if given == "auto" else (0.0, 1.0 if given is None else float(given))
    names = [name for name in ("validation", "held-out", "reference") if name in training.sets]
    measured: dict[float, dict[str, NDArray[np.float64]]] = {}
    curve = []
    for done, weight in enumerate(dict.fromkeys(weights)):
        network.interpolate(state, weight)
        measured[weight] = {name: training.measured(name) for name in names}
        figures: dict[str, Figure] = {name: mean(values) for name, values in measured[weight].items()}
        curve.append(CurvePoint(weight, figures["validation"], figures["held-out"], figures.get("reference")))
        training.progress("measuring", done + 1, len(weights))
    if given != "auto":
        return curve, weights[-1], measured
    before = curve[0].old
    allowed = [
        point for point in curve if before is None or point.old is None or point.old.value <= before.high
    ]
    return curve, min(allowed, key=lambda point: (point.validation.value, -point.weight)).weight, measured


def _report(
    options: FinetuneOptions,
    training: _DecoderTraining,
    curve: list[CurvePoint],
    weight: float,
    measured: dict[float, dict[str, NDArray[np.float64]]],
    notes: list[str],
    base: str,
    fingerprint: str,
    start: float,
) -> FinetuneReport:
    before, after, history = measured[0.0], measured[weight], training.history
    has_reference = "reference" in before
    return FinetuneReport(
        method=options.method,
        modalities=("decoder",),
        metric=METRIC,
        gain=change(after["held-out"], before["held-out"]),
        forgetting=change(after["reference"], before["reference"]) if has_reference else None,
        before=mean(before["held-out"]),
        after=mean(after["held-out"]),
        reference_before=mean(before["reference"]) if has_reference else None,
        reference_after=mean(after["reference"]) if has_reference else None,
        reference="given" if has_reference else "none",
        weight=weight,
        curve=tuple(curve),
        n_train=len(training.sets["train"]),
        n_validation=len(training.sets["validation"]),
        n_replay=len(training.sets.get("replay", ())),
        n_parameters=sum(value.numel() for value in training.parameters.values()),
        size_kb=None,
        losses=tuple(history.losses),
        validation=tuple(history.validation),
        best_step=history.best_step,
        stopped=history.stopped,
        seconds=round(time.monotonic() - start, 2),
        base=base,
        fingerprint=fingerprint,
        settings=asdict(training.config),
        notes=(*notes, *([history.stopped] if history.stopped else [])),
        is_loss=True,
    )


def _write(
    options: FinetuneOptions,
    network: TrainableNetwork,
    backend: TrainableBackend,
    report: FinetuneReport,
    checkpoint: TrainingCheckpoint,
    base: str,
) -> FinetuneReport:
    """Writes the adapter, or the weights of the decoder as model.safetensors, and the report."""
    from dataclasses import replace

    from safetensors.torch import save_model

    out = options.out
    assert out is not None
    checkpoint.delete()
    out.mkdir(parents=True, exist_ok=True)
    if network.peft is not None:
        network.save_adapter(out, AdapterMetadata("", base, backend.name, report.fingerprint))
    else:
        save_model(network.merged_network(), str(out / "model.safetensors"))
    size = sum(path.stat().st_size for path in out.iterdir())
    report = replace(report, size_kb=round(size / 1000, 1))
    report.save(out / "report.json")
    report.save(out / "report.html")
    return report
