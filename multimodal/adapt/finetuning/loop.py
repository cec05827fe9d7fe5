"""Contrastive training: batches of pairs, replay and the pull to the vectors before training."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multimodal.adapt.finetuning import losses
from multimodal.adapt.finetuning.checkpoint import TrainingCheckpoint
from multimodal.adapt.finetuning.examples import Examples, Progress
from multimodal.adapt.finetuning.gradients import backward
from multimodal.adapt.finetuning.optimisation import Optimisation, TrainingConfig, batch_indices
from multimodal.adapt.finetuning.towers import Tower
from multimodal.core.items import Item
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Augment = Callable[[Item, "np.random.Generator"], Item]


@dataclass(frozen=True)
class Job:
    """What is trained on what.

    Attributes:
        towers: The towers that train, by modality.
        train: Pairs to train on.
        validation: Pairs for early stopping.
        replay: Pairs of what the space knew before; None for none.
        loss: The contrastive loss.
        augment: Changes an item of a trained modality before it is encoded; None for none.
    """

    towers: Mapping[Modality, Tower]
    train: Examples
    validation: Examples
    replay: Examples | None
    loss: losses.LossFunction
    augment: Augment | None = None


class Trainer(Optimisation):
    """Runs a job; see `Optimisation`."""

    def __init__(
        self, job: Job, config: TrainingConfig, checkpoint: TrainingCheckpoint, progress: Progress
    ) -> None:
        super().__init__({str(key): tower for key, tower in job.towers.items()}, config, checkpoint, progress)
        self.job = job

    def add_gradient(self, step: int) -> float:
        value = self._contrastive(self.job.train, step, "train")
        if self.job.replay is not None:
            value += self._contrastive(self.job.replay, step, "replay")
        return value

    def _contrastive(self, examples: Examples, step: int, stream: str) -> float:
        """Adds the gradient of one batch; returns its loss."""
        import numpy as np

        config = self.config
        indices = batch_indices(len(examples), config.batch_size, step, config.seed, stream)
        rng = np.random.default_rng([config.seed, step, len(stream)])
        batch = _Batch(self, examples, indices, rng)
        replayed = stream == "replay"

        def loss(first: Tensor, second: Tensor) -> Tensor:
            value = self.job.loss(first, second, batch.positives.to(first.device))
            if not replayed:
                return value
            pulls = [
                losses.pull(rows[: len(indices)], anchors.to(rows.device))
                for rows, anchors, modality in zip(
                    (first, second), batch.anchors, examples.modalities, strict=True
                )
                if modality in self.job.towers
            ]
            return config.replay_weight * value + config.pull * sum(
                pulls, torch.zeros((), device=value.device)
            )

        sides = (batch.first, batch.second)
        return backward(loss, sides, (len(indices), batch.n_seconds), config.chunk, self.devices)

    def validation_loss(self) -> float:
        validation = self.job.validation
        batch = _Batch(self, validation, list(range(len(validation))), None)
        first, second = (
            torch.cat(
                [
                    embed(range(start, min(start + self.config.chunk, n)))
                    for start in range(0, n, self.config.chunk)
                ]
            )
            for embed, n in ((batch.first, len(validation)), (batch.second, batch.n_seconds))
        )
        return float(self.job.loss(first, second, batch.positives.to(first.device)))

    def embed(self, tower: Tower | None, items: Sequence[Item], rows: NDArray[np.float32]) -> Tensor:
        """Unit rows (n, dim) of items by a tower, or as they were before training where none is trained."""
        device = self._device
        if tower is None:
            return torch.from_numpy(rows).to(device)
        if tower.projector is not None:
            return tower.forward_vectors(torch.from_numpy(rows)).to(device)
        batch = tower.encoder.prepare(items)
        autocast = (
            torch.autocast(device.type, torch.bfloat16)
            if self.config.mixed_precision
            else contextlib.nullcontext()
        )
        with autocast:
            return tower.forward(batch).to(device)

    @property
    def _device(self) -> torch.device:
        return next(iter(self.parameters.values())).device


class _Batch:
    """One batch: how to embed its sides."""

    def __init__(
        self,
        trainer: Trainer,
        examples: Examples,
        indices: Sequence[int],
        rng: np.random.Generator | None,
    ) -> None:
        self.trainer, self.examples, self.indices = trainer, examples, list(indices)
        self.with_negative = [i for i in self.indices if examples.negatives[i] is not None]
        self.n_seconds = len(self.indices) + len(self.with_negative)
        self.positives = torch.from_numpy(examples.positives(self.indices, self.with_negative))
        augment = trainer.job.augment if rng is not None else None
        # Drawn once, since a batch in parts is embedded twice
        self.items = [
            item
            if augment is None or rng is None or modality not in trainer.job.towers
            else augment(item, rng)
            for modality, side in zip(examples.modalities, (examples.firsts, examples.seconds), strict=True)
            for item in (side[i] for i in self.indices)
        ]

    @property
    def anchors(self) -> tuple[Tensor, Tensor]:
        """The rows of both sides before training (n, dim)."""
        examples = self.examples
        return torch.from_numpy(examples.first_rows[self.indices]), torch.from_numpy(
            examples.second_rows[self.indices]
        )

    def first(self, positions: Sequence[int]) -> Tensor:
        tower = self.trainer.job.towers.get(self.examples.modalities[0])
        chosen = list(positions)
        rows = self.examples.first_rows[[self.indices[p] for p in chosen]]
        return self.trainer.embed(tower, [self.items[p] for p in chosen], rows)

    def second(self, positions: Sequence[int]) -> Tensor:
        examples, n = self.examples, len(self.indices)
        tower = self.trainer.job.towers.get(examples.modalities[1])
        items: list[Any] = []
        rows = []
        for position in positions:
            if position < n:
                items.append(self.items[n + position])
                rows.append(examples.second_rows[self.indices[position]])
            else:
                row = self.with_negative[position - n]
                items.append(examples.negatives[row])
                rows.append(examples.negative_rows[row])
        import numpy as np

        return self.trainer.embed(tower, items, np.stack(rows))
