"""The optimiser's loop: schedule, early stopping, checkpoints. What is trained is for a subclass to say.

Everything random depends on the seed and the number of the step alone, so that a resumed run is bit for bit the
uninterrupted one.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from multimodal.adapt.finetuning.checkpoint import TrainingCheckpoint
from multimodal.adapt.finetuning.examples import Progress
from multimodal.adapt.finetuning.gradients import Devices
from multimodal.adapt.finetuning.targets import check_alive
from multimodal.adapt.finetuning.weights import TrainableNetwork

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


class Optimisation(abc.ABC):
    """Trains networks with AdamW.

    Args:
        networks: The networks, by a name of one word.
        config: How they are trained.
        checkpoint: Where the state is saved; `TrainingCheckpoint(None)` for nowhere.
        progress: Called with (task, done, total).
    """

    def __init__(
        self,
        networks: Mapping[str, TrainableNetwork],
        config: TrainingConfig,
        checkpoint: TrainingCheckpoint,
        progress: Progress,
    ) -> None:
        self.networks, self.config = networks, config
        self.checkpoint, self.progress = checkpoint, progress
        self.history, self.devices = History(), Devices()
        self.parameters = {
            f"{key}/{name}": parameter
            for key, network in networks.items()
            for name, parameter in network.parameters.items()
        }
        self.optimizer = torch.optim.AdamW(
            list(self.parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay
        )

    @abc.abstractmethod
    def add_gradient(self, step: int) -> float:
        """Adds the gradient of a step to the parameters; returns its loss."""

    @abc.abstractmethod
    def validation_loss(self) -> float:
        """The loss on the validation pairs."""

    def run(self) -> dict[str, dict[str, Tensor]]:
        """Trains.

        Returns:
            The weights of the step with the lowest validation loss, by network.
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
            latest = self.history.validation[-1][1]
            self.progress(f"training, validation loss {latest:.3f}", done, self.config.steps)
            if self.history.stopped:
                break
        return self._by_network(best)

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

    def _by_network(self, state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        return {
            key: {name: state[f"{key}/{name}"] for name in network.parameters}
            for key, network in self.networks.items()
        }

    def _check_alive(self) -> None:
        for network in self.networks.values():
            if network.peft is not None:
                check_alive(network.net)

    def _is_exhausted(self) -> bool:
        evaluations_since = [step for step, _ in self.history.validation if step > self.history.best_step]
        return len(evaluations_since) >= self.config.patience

    def _step(self, step: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * schedule(step, self.config.steps)
        self.optimizer.zero_grad(set_to_none=True)
        value = self.add_gradient(step)
        if not math.isfinite(value):
            return value
        self.devices.sum_gradients(self.parameters.values())
        if not all(_is_finite(parameter.grad) for parameter in self.parameters.values()):
            return math.nan
        self.optimizer.step()
        return value

    def _evaluate(self, step: int) -> bool:
        """Records the validation loss; returns whether it is the lowest so far."""
        with torch.no_grad():
            value = self.validation_loss()
        is_best = not self.history.validation or value < min(loss for _, loss in self.history.validation)
        self.history.validation.append((step, value))
        if is_best:
            self.history.best_step = step
        return is_best


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
