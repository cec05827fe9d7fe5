"""The training loop: batches, losses, schedule, early stopping, checkpoints.

Batches and augmentation depend on the seed and the number of the step alone, so that a resumed run is bit for bit the
uninterrupted one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multimodal.adapt.finetuning import losses
from multimodal.adapt.finetuning.checkpoint import TrainingCheckpoint
from multimodal.adapt.finetuning.examples import Examples, Progress
from multimodal.adapt.finetuning.gradients import Devices, backward
from multimodal.adapt.finetuning.targets import check_alive
from multimodal.adapt.finetuning.towers import Tower
from multimodal.core.items import Item
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Augment = Callable[[Item, "np.random.Generator"], Item]
ALIVE_AFTER = 10  # steps after which every adapter must have learned something


@dataclass(frozen=True)
class TrainingConfig:
    """How a tower is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Pairs per step, and replayed pairs per step.
        chunk: Items embedded with gradients at a time; a smaller number needs less memory and gives the same gradient.
        learning_rate: Of AdamW, after a warm-up of a tenth of the steps and with a cosine decay.
        weight_decay: Of AdamW.
        eval_every: Steps between evaluations on the validation pairs.
        patience: Evaluations without improvement after which training stops.
        replay_weight: Factor of the loss on replayed pairs.
        pull: Factor of 1 - cosine between replayed items and their vectors before training.
        mixed_precision: Whether towers run in bfloat16 where autocast allows.
        seed: Seed of batches, augmentation and adapters.
    """

    steps: int
    batch_size: int
    chunk: int
    learning_rate: float
    weight_decay: float = 0.01
    eval_every: int = 20
    patience: int = 4
    replay_weight: float = 1.0
    pull: float = 10.0
    mixed_precision: bool = False
    seed: int = 0


@dataclass
class History:
    """What happened during training.

    Attributes:
        losses: Training loss of each step.
        validation: (step, loss on the validation pairs) of each evaluation.
        best_step: The step whose weights are kept.
        stopped: Why training ended before the last step; None if it did not.
    """

    losses: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    stopped: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


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


class Trainer:
    """Runs a job.

    Args:
        job: What is trained on what.
        config: How.
        checkpoint: Where the state is saved; `TrainingCheckpoint(None)` for nowhere.
        progress: Called with (task, done, total).
    """

    def __init__(
        self, job: Job, config: TrainingConfig, checkpoint: TrainingCheckpoint, progress: Progress
    ) -> None:
        self.job, self.config, self.checkpoint, self.progress = job, config, checkpoint, progress
        self.history, self.devices = History(), Devices()
        self.parameters = {
            f"{modality}/{name}": parameter
            for modality, tower in job.towers.items()
            for name, parameter in tower.parameters.items()
        }
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    def run(self) -> dict[Modality, dict[str, Tensor]]:
        """Trains.

        Returns:
            The weights of the step with the lowest validation loss, by modality.
        """
        start, best = self._resumed()
        if not self.history.validation:
            self._evaluate(0)
        for step in range(start, self.config.steps):
            value = self._step(step)
            if not math.isfinite(value):
                self.history.stopped = (
                    f"the loss became {value} at step {step + 1}; the weights of step {self.history.best_step} "
                    "are kept"
                )
                break
            self.history.losses.append(value)
            done = step + 1
            if done == min(ALIVE_AFTER, self.config.steps):
                self._check_alive()
            if done % self.config.eval_every == 0 or done == self.config.steps:
                if self._evaluate(done):
                    best = self._state()
                if self._is_exhausted():
                    self.history.stopped = f"no improvement since step {self.history.best_step}"
                if self.devices.is_main:
                    self.checkpoint.save(done, self.parameters, self.optimizer, self.history.to_dict(), best)
            self.progress("training", done, self.config.steps)
            if self.history.stopped:
                break
        return self._by_modality(best)

    def _resumed(self) -> tuple[int, dict[str, Tensor]]:
        """The step to continue from and the best weights so far."""
        saved = self.checkpoint.load(self.parameters, self.optimizer)
        if saved is None:
            return 0, self._state()
        values = dict(saved.history)
        values["validation"] = [(int(step), float(loss)) for step, loss in values["validation"]]
        self.history = History(**values)
        return (self.config.steps if self.history.stopped else saved.step), saved.best

    def _state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.parameters.items()}

    def _by_modality(self, state: Mapping[str, Tensor]) -> dict[Modality, dict[str, Tensor]]:
        return {
            modality: {name: state[f"{modality}/{name}"] for name in tower.parameters}
            for modality, tower in self.job.towers.items()
        }

    def _check_alive(self) -> None:
        for tower in self.job.towers.values():
            if tower.peft is not None:
                check_alive(tower.encoder.net)

    def _is_exhausted(self) -> bool:
        evaluations_since = [step for step, _ in self.history.validation if step > self.history.best_step]
        return len(evaluations_since) >= self.config.patience

    def _step(self, step: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * schedule(step, self.config.steps)
        self.optimizer.zero_grad(set_to_none=True)
        value = self._contrastive(self.job.train, step, "train")
        if self.job.replay is not None:
            value += self._contrastive(self.job.replay, step, "replay")
        if not math.isfinite(value):
            return value
        self.devices.sum_gradients(self.parameters.values())
        if not all(_is_finite(parameter.grad) for parameter in self.parameters.values()):
            return math.nan
        self.optimizer.step()
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

    def _evaluate(self, step: int) -> bool:
        """Records the validation loss; returns whether it is the lowest so far."""
        validation = self.job.validation
        batch = _Batch(self, validation, list(range(len(validation))), None)
        with torch.no_grad():
            first, second = (
                torch.cat([embed(range(start, min(start + self.config.chunk, n)))
                           for start in range(0, n, self.config.chunk)])
                for embed, n in ((batch.first, len(validation)), (batch.second, batch.n_seconds))
            )  # fmt: skip
            value = float(self.job.loss(first, second, batch.positives.to(first.device)))
        is_best = not self.history.validation or value < min(loss for _, loss in self.history.validation)
        self.history.validation.append((step, value))
        if is_best:
            self.history.best_step = step
        return is_best

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


def batch_indices(n: int, size: int, step: int, seed: int, stream: str) -> list[int]:
    """The rows of a batch: epochs without repetition, whose order depends on the seed and the epoch.

    Args:
        n: Number of rows.
        size: Rows of a batch; at most n.
        step: Number of the step.
        seed: Seed of the run.
        stream: Name of the data, so that two sets are drawn independently.

    Returns:
        The indices.
    """
    import numpy as np

    size = min(size, n)
    per_epoch = n // size
    epoch, position = divmod(step, per_epoch)
    order = np.random.default_rng([seed, epoch, *stream.encode()]).permutation(n)
    return [int(index) for index in order[position * size : (position + 1) * size]]


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: a linear warm-up over a tenth of the steps, then a cosine to a tenth."""
    warmup = steps // 10
    if step < warmup:
        return (step + 1) / (warmup + 1)
    share = (step - warmup) / max(1, steps - warmup)
    return 0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * share))


def _is_finite(gradient: Tensor | None) -> bool:
    return gradient is None or bool(torch.isfinite(gradient).all())
