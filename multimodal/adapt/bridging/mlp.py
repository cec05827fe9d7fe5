"""An MLP bridge: a small network on top of the ridge solution, similar to C-MCR and Ex-MCR.

The loss has two terms. A symmetric contrastive loss matches projected texts with their target vectors and, with
unpaired media, projected media with their pseudo targets and both with pseudo-paired target media. An alignment loss
pulls projected media towards the projections of the texts they attend to, which closes the modality gap. Noise is
added to the inputs, so that the map also holds in the neighbourhood of a text, where the media are.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.adapt.bridging.checkpoint import BridgeCheckpoint
from multimodal.adapt.bridging.encoding import SAVE_EVERY_S
from multimodal.adapt.bridging.pairs import TrainingPairs
from multimodal.core.projector import Projector


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters. `noise` is the standard deviation per component of 512-dimensional vectors (C-MCR: 0.063).

    For other sizes it is scaled so that vectors are rotated by the same angle.
    """

    steps: int = 1500
    batch: int = 512
    hidden_times: int = 2  # width of the network, as a multiple of the target dimensions
    rate: float = 1e-3
    decay: float = 0.05
    noise: float = 0.03
    temperature: float = 0.05
    alignment: float = 0.1  # weight of the alignment loss
    warm_up: int = 50


def train(
    projector: Projector,
    training_pairs: Sequence[TrainingPairs],
    config: TrainingConfig,
    seed: int,
    checkpoint: BridgeCheckpoint,
    progress: Callable[[int], None],
) -> None:
    """Trains the projector in place. An interrupted job resumes from its last checkpoint with an identical result."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(projector.parameters(), lr=config.rate, weight_decay=config.decay)
    step = _restore(checkpoint, projector, optimiser, generator)
    batches = [_PairTensors.of(pairs) for pairs in training_pairs]
    saved_at = time.monotonic()
    progress(step)
    while step < config.steps:
        for group in optimiser.param_groups:
            group["lr"] = config.rate * _rate_factor(step, config)
        optimiser.zero_grad()
        _loss(projector, batches, config, generator).backward()
        optimiser.step()
        step += 1
        progress(step)
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            checkpoint.save_state(_state(projector, optimiser, generator, step))
            saved_at = time.monotonic()


@dataclass(frozen=True)
class _PairTensors:
    """Training pairs as tensors."""

    rows: Tensor
    targets: list[Tensor]
    anchors: Tensor | None

    @classmethod
    def of(cls, pairs: TrainingPairs) -> Self:
        targets = [torch.from_numpy(rows) for rows in pairs.targets]
        anchors = None if pairs.anchors is None else torch.from_numpy(pairs.anchors)
        return cls(torch.from_numpy(pairs.rows), targets, anchors)


def _loss(
    projector: Projector, pair_tensors: list[_PairTensors], config: TrainingConfig, generator: torch.Generator
) -> Tensor:
    total = torch.zeros(())
    for pairs in pair_tensors:
        chosen = torch.randint(len(pairs.rows), (min(config.batch, len(pairs.rows)),), generator=generator)
        moved = F.normalize(projector(_noisy(pairs.rows[chosen], config.noise, generator)), dim=-1)
        for targets in pairs.targets:
            wanted = _noisy(targets[chosen], config.noise, generator)
            total = total + _contrastive_loss(moved, wanted, chosen, config.temperature) / len(pairs.targets)
        if pairs.anchors is not None:
            anchors = F.normalize(projector(_noisy(pairs.anchors[chosen], config.noise, generator)), dim=-1)
            total = total + config.alignment * (moved - anchors).square().sum(1).mean()
    return total / len(pair_tensors)


def _noisy(rows: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    spread = noise * math.sqrt(512 / rows.shape[1])
    return F.normalize(rows + spread * torch.randn(rows.shape, generator=generator), dim=-1)


def _contrastive_loss(rows: Tensor, targets: Tensor, chosen: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE; items drawn twice are not negatives of themselves."""
    logits = rows @ targets.T / temperature
    duplicates = (chosen[:, None] == chosen[None]) & ~torch.eye(len(chosen), dtype=torch.bool)
    logits = logits.masked_fill(duplicates, -torch.inf)
    own = torch.arange(len(rows))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _rate_factor(step: int, config: TrainingConfig) -> float:
    """Linear warm-up and cosine decay."""
    return min(1.0, (step + 1) / config.warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / config.steps))


def _state(
    projector: Projector, optimiser: torch.optim.Optimizer, generator: torch.Generator, step: int
) -> dict[str, Tensor]:
    state = {f"net.{name}": tensor for name, tensor in projector.state_dict().items()}
    for number, values in optimiser.state_dict()["state"].items():
        state |= {f"adam.{number}.{name}": value for name, value in values.items()}
    return state | {"generator": generator.get_state(), "step": torch.tensor(step)}


def _restore(
    checkpoint: BridgeCheckpoint,
    projector: Projector,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> int:
    """Restores the last checkpoint and returns its step; 0 if there is none."""
    saved = checkpoint.state()
    if saved is None:
        return 0
    projector.load_state_dict(
        {name.removeprefix("net."): tensor for name, tensor in saved.items() if name.startswith("net.")}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in saved.items():
        if name.startswith("adam."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    generator.set_state(saved["generator"])
    return int(saved["step"])
