"""The learned bridge: a small network on top of the ridge solution, in the manner of C-MCR and Ex-MCR.

Three losses. Contrastive, both ways: a projected text finds its own vector in the other space among the batch's; where
there are media, a projected sound finds what the texts say of it, and both find the pictures the texts tell of. Noise
on the unit vectors going in, so that the map holds for the neighbourhood of a text, where the sounds are, and not for
the text alone. And closeness, without pushing anything apart, of a projected sound and the projected texts that tell
it: the gap between the modalities is closed, not moved.
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

from multimodal.adapt.bridging.checkpoint import Kept
from multimodal.adapt.bridging.encoding import SAVE_EVERY_S
from multimodal.adapt.bridging.pairs import Lesson
from multimodal.core.projector import Projector


@dataclass(frozen=True)
class Recipe:
    """Numbers of the training. `noise`: standard deviation of each of a vector's numbers, times the root of their count
    over 512, so that it turns vectors of any size alike (C-MCR: 0.063 for 512)."""

    steps: int = 1500
    batch: int = 512
    hidden_times: int = 2  # the network's width, in vectors of the target
    rate: float = 1e-3
    decay: float = 0.05
    noise: float = 0.03
    temperature: float = 0.05
    closeness: float = 0.1
    warm_up: int = 50


def learn(
    projector: Projector,
    lessons: Sequence[Lesson],
    recipe: Recipe,
    seed: int,
    kept: Kept,
    progress: Callable[[int], None],
) -> None:
    """Trains the projector in place; a job that was stopped goes on where it was last kept, to the same end."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(projector.parameters(), lr=recipe.rate, weight_decay=recipe.decay)
    step = _restore(kept, projector, optimiser, generator)
    sources = [_Source.of(lesson) for lesson in lessons]
    saved_at = time.monotonic()
    progress(step)
    while step < recipe.steps:
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate * _share_of_rate(step, recipe)
        optimiser.zero_grad()
        _loss(projector, sources, recipe, generator).backward()
        optimiser.step()
        step += 1
        progress(step)
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            kept.keep_state(_state(projector, optimiser, generator, step))
            saved_at = time.monotonic()


@dataclass(frozen=True)
class _Source:
    """A lesson as tensors."""

    rows: Tensor
    targets: list[Tensor]
    meets: Tensor | None

    @classmethod
    def of(cls, lesson: Lesson) -> Self:
        targets = [torch.from_numpy(one) for one in lesson.targets]
        meets = None if lesson.meets is None else torch.from_numpy(lesson.meets)
        return cls(torch.from_numpy(lesson.rows), targets, meets)


def _loss(projector: Projector, sources: list[_Source], recipe: Recipe, generator: torch.Generator) -> Tensor:
    total = torch.zeros(())
    for source in sources:
        chosen = torch.randint(len(source.rows), (min(recipe.batch, len(source.rows)),), generator=generator)
        moved = F.normalize(projector(_noisy(source.rows[chosen], recipe.noise, generator)), dim=-1)
        for targets in source.targets:
            wanted = _noisy(targets[chosen], recipe.noise, generator)
            total = total + _contrast(moved, wanted, chosen, recipe.temperature) / len(source.targets)
        if source.meets is not None:
            met = F.normalize(projector(_noisy(source.meets[chosen], recipe.noise, generator)), dim=-1)
            total = total + recipe.closeness * (moved - met).square().sum(1).mean()
    return total / len(sources)


def _noisy(rows: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    spread = noise * math.sqrt(512 / rows.shape[1])
    return F.normalize(rows + spread * torch.randn(rows.shape, generator=generator), dim=-1)


def _contrast(rows: Tensor, targets: Tensor, chosen: Tensor, temperature: float) -> Tensor:
    """InfoNCE both ways; what was drawn twice is not its own negative."""
    logits = rows @ targets.T / temperature
    twice = (chosen[:, None] == chosen[None]) & ~torch.eye(len(chosen), dtype=torch.bool)
    logits = logits.masked_fill(twice, -torch.inf)
    own = torch.arange(len(rows))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _share_of_rate(step: int, recipe: Recipe) -> float:
    """Warm-up, then half a cosine."""
    return min(1.0, (step + 1) / recipe.warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / recipe.steps))


def _state(
    projector: Projector, optimiser: torch.optim.Optimizer, generator: torch.Generator, step: int
) -> dict[str, Tensor]:
    found = {f"net.{name}": tensor for name, tensor in projector.state_dict().items()}
    for number, values in optimiser.state_dict()["state"].items():
        found |= {f"adam.{number}.{name}": value for name, value in values.items()}
    return found | {"generator": generator.get_state(), "step": torch.tensor(step)}


def _restore(
    kept: Kept, projector: Projector, optimiser: torch.optim.Optimizer, generator: torch.Generator
) -> int:
    """Puts back what was kept -> the step it was kept at."""
    saved = kept.state()
    if saved is None:
        return 0
    projector.load_state_dict(
        {name.removeprefix("net."): one for name, one in saved.items() if name.startswith("net.")}
    )
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in saved.items():
        if name.startswith("adam."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    generator.set_state(saved["generator"])
    return int(saved["step"])
