"""Fits projectors from vectors, by any method."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.adapt.bridging import kernel, linear, pairs
from multimodal.adapt.bridging.checkpoint import BridgeCheckpoint
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.projector import Projector

    Rows = NDArray[np.float32]


LOOKUP_INVERSE_TEMPERATURE = 100.0  # of pseudo pairs, as in C-MCR
BLOCK_ROWS = 1024


@dataclass(frozen=True)
class TrainingSet:
    """Unit rows to fit projectors on.

    Attributes:
        source: The corpus in the source space (n, source dim).
        target: The same items in the target space (n, target dim).
        source_media: Unpaired media of the source space, by modality (m, source dim).
        target_media: Unpaired media of the target space, by modality (m, target dim).
    """

    source: Rows
    target: Rows
    source_media: Mapping[Modality, Rows]
    target_media: Mapping[Modality, Rows]


def fit(
    training_set: TrainingSet,
    brought: Sequence[Modality],
    method: str,
    seed: int,
    checkpoint: BridgeCheckpoint,
    progress: Callable[[str, int, int], None],
) -> dict[Modality, Projector]:
    """Fits a projector for each modality to bring over.

    They differ only in the shift from the mean of the modality's unpaired media to the mean of the corpus, which is
    zero without media.

    Args:
        training_set: Vectors of the corpus and of unpaired media.
        brought: The modalities to bring over.
        method: "kernel", "ridge", "procrustes" or "mlp".
        seed: Seed of random choices.
        checkpoint: Where training state is saved.
        progress: Called with (task, done, total).
    """
    import torch

    shifts = {
        modality: training_set.source.mean(axis=0) - rows.mean(axis=0)
        for modality, rows in training_set.source_media.items()
    }
    if method == "mlp":
        shared = _train_mlp(training_set, shifts, seed, checkpoint, progress)
    elif method == "kernel":
        shared = kernel.fit_kernel(training_set.source, training_set.target, seed)
    else:
        shared = linear.fit_projector(training_set.source, training_set.target, method)
    shared.eval().requires_grad_(False)
    projectors = {modality: copy.deepcopy(shared) for modality in brought}
    for modality, shift in shifts.items():
        projectors[modality].shift.copy_(torch.from_numpy(shift))
    return projectors


def project(projector: Projector, rows: Rows) -> Rows:
    """Projects rows of the corpus modality (n, source dim) -> unit rows (n, target dim); no shift applies to these."""
    import torch

    unshifted, blocks = projector.unshifted(), []
    with torch.inference_mode():
        for start in range(0, len(rows), BLOCK_ROWS):
            projected = unshifted(torch.from_numpy(rows[start : start + BLOCK_ROWS]))
            blocks.append(torch.nn.functional.normalize(projected, dim=-1))
    unit_rows: Rows = torch.cat(blocks).numpy()
    return unit_rows


def random_baseline(rows: Rows, out: int, seed: int) -> Rows:
    """Rows (n, source dim) without a learned map: unchanged if `out` is their size, else projected at random."""
    import numpy as np

    if rows.shape[1] == out:
        return rows
    projected = rows @ np.random.default_rng(seed).standard_normal((rows.shape[1], out)).astype(np.float32)
    return np.asarray(projected / np.linalg.norm(projected, axis=1, keepdims=True))


def _train_mlp(
    training_set: TrainingSet,
    shifts: Mapping[Modality, Rows],
    seed: int,
    checkpoint: BridgeCheckpoint,
    progress: Callable[[str, int, int], None],
) -> Projector:
    """The ridge solution, and a network trained on its residuals."""
    from multimodal.adapt.bridging.mlp import TrainingConfig, train

    config = TrainingConfig()
    hidden = config.hidden_times * training_set.target.shape[1]
    projector = linear.fit_projector(
        training_set.source, training_set.target, "ridge", hidden=hidden, seed=seed
    )
    train(
        projector,
        _training_pairs(training_set, shifts),
        config,
        seed,
        checkpoint,
        lambda step: progress("training", step, config.steps),
    )
    return projector


def _training_pairs(training_set: TrainingSet, shifts: Mapping[Modality, Rows]) -> list[pairs.TrainingPairs]:
    """Texts paired with their target vectors and pseudo-paired target media; source media with their pseudo targets."""
    gallery = list(training_set.target_media.values())

    def targets(rows: Rows) -> list[Rows]:
        return [
            rows,
            *(pairs.soft_lookup(rows, media, media, LOOKUP_INVERSE_TEMPERATURE) for media in gallery),
        ]

    training_pairs = [pairs.TrainingPairs(training_set.source, targets(training_set.target))]
    for modality, rows in training_set.source_media.items():
        source_lookup, target_lookup = (
            pairs.soft_lookup(rows, training_set.source, side, LOOKUP_INVERSE_TEMPERATURE)
            for side in (training_set.source, training_set.target)
        )
        training_pairs.append(
            pairs.TrainingPairs(
                pairs.unit(rows + shifts[modality]), targets(target_lookup), anchors=source_lookup
            )
        )
    return training_pairs
