"""One run: a model of one size, trained once through a part of the text, and what it then does on the test text.

Each run has its own full schedule: warm-up, then a cosine to zero at its last step. A run that is cut short, or read in
the middle of a longer schedule, is not a point of the law (Hoffmann et al. 2022).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

from recipes.scaling.corpus import Corpus
from recipes.scaling.metrics import judge
from recipes.scaling.model import CONTEXT, CharacterModel

LEARNING_RATE, AT_WIDTH = 2.4e-2, 64  # of AdamW; in proportion to the fourth root of 1 / width
BATCH, AT_CHARACTERS = 1024, 1.6e6  # characters of a step; in proportion to the square root of all characters
WARM_UP = 0.05  # of the steps
BFLOAT16_FROM = 256  # width from which bfloat16 is faster where the CPU has AMX


@dataclass(frozen=True)
class Plan:
    """One run of the grid."""

    width: int
    n_characters: int
    seed: int = 0


def schedule(step: int, steps: int) -> float:
    """The share of the peak learning rate at a step."""
    return min(1.0, (step + 1) / max(1.0, WARM_UP * steps)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def train(plan: Plan, corpus: Corpus, learning_rate: float | None = None) -> dict[str, Any]:
    """Trains one model, each character of its part of the text once and in random order, and evaluates it.

    Returns:
        A row of the table: size, data, compute, seed, and the figures of `metrics.judge`.

    Raises:
        ValueError: If the text is shorter than the run.
    """
    if plan.n_characters + CONTEXT > len(corpus.train):
        raise ValueError(
            f"got {plan.n_characters:,} characters to train on, but the text has {len(corpus.train):,}: "
            "give a longer text with --text, or a smaller grid"
        )
    generator = torch.Generator().manual_seed(plan.seed)
    torch.manual_seed(plan.seed)
    model = CharacterModel(plan.width)
    size = max(64, round(BATCH * math.sqrt(plan.n_characters / AT_CHARACTERS)))
    steps = plan.n_characters // size
    windows = torch.from_numpy(corpus.train[: plan.n_characters + CONTEXT]).unfold(0, CONTEXT + 1, 1)
    order = torch.randperm(plan.n_characters, generator=generator)
    peak = learning_rate or LEARNING_RATE * (AT_WIDTH / plan.width) ** 0.25
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    began = time.process_time()
    for step in range(steps):
        rows = windows[order[step * size : (step + 1) * size]].long()
        with torch.autocast("cpu", torch.bfloat16, enabled=plan.width >= BFLOAT16_FROM):
            logits = model(rows[:, :-1])
        loss = F.cross_entropy(logits.float(), rows[:, -1])
        optimiser.param_groups[0]["lr"] = peak * schedule(step, steps)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    seconds = time.process_time() - began
    trained = steps * size
    return {
        "width": plan.width, "seed": plan.seed, "N": model.n_parameters, "D": trained,
        "C": 6 * model.n_parameters * trained, **judge(model, corpus.test), "steps": steps, "batch": size,
        "learning_rate": peak, "cpu_seconds": round(seconds, 1),
    }  # fmt: skip
