"""Shared by the three trainings: a time budget, a learning rate that decays to zero over it, resuming, a log."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from recipes.starter.towers.muon import Muon

CLIP = 1.0  # largest gradient norm
LOWEST_RATE = 2e-6
MOST_SCALE = 80.0  # of the contrastive logits


def is_matrix(weight: nn.Parameter) -> bool:
    """Whether Muon is meant for this weight: no bias, norm, scale or depthwise kernel."""
    return weight.ndim >= 2 and weight[0].numel() >= 16


class Training:
    """Trains modules for `minutes` of wall time in total; interrupted runs resume from the last checkpoint.

    `scale` is the learned logit scale, as in CLIP. The seed advances with the step, so that a resumed run does not
    repeat its first batches. `muon` names the module whose matrices Muon trains; AdamW trains the rest.
    """

    def __init__(
        self,
        work: Path,
        name: str,
        modules: dict[str, nn.Module],
        *,
        minutes: float,
        peak: float,
        decay: float,
        warm_up: int,
        seed: int,
        first_scale: float = 16.0,
        muon: str | None = None,
    ) -> None:
        self.file, self.journal = work / f"{name}_state.pt", work / f"{name}.log.jsonl"
        self.modules, self.minutes, self.peak, self.warm_up = modules, minutes, peak, warm_up
        self.log_scale = nn.Parameter(torch.tensor(math.log(first_scale)))
        self.parameters = [*(p for module in modules.values() for p in module.parameters()), self.log_scale]
        matrices = [p for p in modules[muon].parameters() if is_matrix(p)] if muon else []
        taken = {id(p) for p in matrices}
        others = [p for p in self.parameters if id(p) not in taken]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.98), weight_decay=decay)
        ]
        if matrices:
            self.optimisers.append(Muon(matrices, lr=peak, decay=decay))
        self.step, spent = 0, 0.0
        if self.file.exists():
            saved = torch.load(self.file, weights_only=True)
            for key, module in modules.items():
                module.load_state_dict(saved[key])
            for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
                optimiser.load_state_dict(state)
            self.log_scale.data, self.step, spent = saved["scale"], saved["step"], saved["spent"]
        self.seed = seed + self.step
        self.began = time.time() - spent

    @property
    def scale(self) -> Tensor:
        """The factor itself."""
        return self.log_scale.exp()

    @property
    def spent(self) -> float:
        """Seconds of training so far, earlier runs included."""
        return time.time() - self.began

    @property
    def done(self) -> float:
        """The share of the budget that is spent."""
        return self.spent / (60 * self.minutes)

    def going_on(self) -> bool:
        """Whether there is budget left; sets the learning rate (warm-up, then half a cosine)."""
        rate = self.peak * min(1.0, (self.step + 1) / self.warm_up)
        rate *= 0.5 + 0.5 * math.cos(math.pi * min(1.0, self.done))
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = max(rate, LOWEST_RATE)
        return self.done < 1

    def learn(self, loss: Tensor) -> None:
        """One step down the gradient."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CLIP)
        for optimiser in self.optimisers:
            optimiser.step()
        self.log_scale.data.clamp_(max=math.log(MOST_SCALE))
        self.step += 1

    def log(self, **row: float | Tensor) -> None:
        """Append one JSON line to the journal, floats cut to four digits, and print it."""
        numbers = {
            key: float(value.detach()) if isinstance(value, Tensor) else value for key, value in row.items()
        }
        short = {"step": self.step, "seconds": round(self.spent)}
        short |= {key: round(value, 4) for key, value in numbers.items()}
        with self.journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(short) + "\n")
        print(short, flush=True)

    def save(self) -> None:
        """A checkpoint to go on from; replaced whole."""
        state = {key: module.state_dict() for key, module in self.modules.items()}
        state |= {
            "scale": self.log_scale.data,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }
        scratch = self.file.with_suffix(".tmp")
        torch.save(state | {"step": self.step, "spent": self.spent}, scratch)
        scratch.replace(self.file)
