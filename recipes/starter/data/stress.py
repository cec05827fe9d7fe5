"""Distortions set aside with `backgrounds.UNTOUCHED`: not used in training or for any decision.

One per image in turn: motion blur, posterisation, swirl, haze, scan lines, colour cast.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def smear(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Motion blur along a random direction."""
    length, angle = int(rng.integers(3, 8)), rng.uniform(0, math.pi)
    shifts = [
        (round(step * math.sin(angle)), round(step * math.cos(angle)))
        for step in range(-(length // 2), length // 2 + 1)
    ]
    return torch.stack([torch.roll(image, shift, dims=(2, 3)) for shift in shifts]).mean(0)


def posterise(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Two to four tones a channel."""
    levels = int(rng.integers(1, 4))
    return (image * levels).round() / levels


def swirl(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Turned more the nearer to the middle."""
    axis = torch.linspace(-1, 1, image.shape[2])
    across, down = torch.meshgrid(axis, axis, indexing="xy")
    turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.0) * (1 - torch.hypot(across, down)).clamp(min=0)
    grid = torch.stack([across * turn.cos() - down * turn.sin(), across * turn.sin() + down * turn.cos()], -1)
    return F.grid_sample(image, grid[None].float(), align_corners=True, padding_mode="border")


def haze(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Whiter toward one side."""
    share = torch.linspace(rng.uniform(0.1, 0.4), rng.uniform(0.5, 0.75), image.shape[2])
    share = share.flip(0) if rng.random() < 0.5 else share
    return image * (1 - share[:, None]) + share[:, None]


def scan_lines(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Every third line dark."""
    lines = torch.ones(image.shape[2])
    lines[int(rng.integers(3)) :: 3] = rng.uniform(0.1, 0.5)
    return image * lines[:, None]


def cast(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Each channel by its own factor."""
    return image * torch.from_numpy(rng.uniform(0.45, 1.35, 3)).float()[:, None, None]


KINDS = (smear, posterise, swirl, haze, scan_lines, cast)
NAMES = ("motion blur", "few tones", "swirl", "haze", "scan lines", "colour cast")


def apply(images: Tensor, seed: int) -> Tensor:
    """(n, 3, side, side) in [0, 1] -> the same, each distorted by one of KINDS."""
    rng = np.random.default_rng(seed)
    parts = [KINDS[row % len(KINDS)](images[row : row + 1], rng) for row in range(len(images))]
    return torch.cat(parts).clamp(0, 1)
