"""Muon: momentum with orthogonalised updates (Jordan et al. 2024).

Convolutions are treated as matrices (out, in * kernel). Step sizes match AdamW's (Liu et al. 2025), so that one
learning rate serves both.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, chosen for speed, not for exactness
ROUNDS = 5
MATCH_ADAMW = 0.2


def orthogonal(matrix: Tensor) -> Tensor:
    """Near the closest orthogonal matrix: singular values brought to about 1 by Newton-Schulz steps."""
    a, b, c = COEFFICIENTS
    wide = matrix.bfloat16()
    tall = wide.shape[0] > wide.shape[1]
    if tall:
        wide = wide.T
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(ROUNDS):
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return (wide.T if tall else wide).float()


class Muon(torch.optim.Optimizer):
    """For weights of two axes and more; give biases, norms and embeddings to another optimiser."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.0
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step; weights without a gradient stay as they are."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:  # not part of this step's loss
                    continue
                memory = self.state[weight].setdefault("memory", torch.zeros_like(weight))
                memory.lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(memory, group["momentum"])
                update = orthogonal(ahead.reshape(len(weight), -1))
                weight.mul_(1 - group["lr"] * group["decay"])
                size = MATCH_ADAMW * max(update.shape) ** 0.5
                weight.add_(update.view_as(weight), alpha=-group["lr"] * size)
