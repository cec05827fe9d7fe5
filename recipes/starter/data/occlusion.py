"""What hides parts of a picture in training: lines over all of it, and things in front."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recipes.starter.data.compositor import uniform

CLOSEST, FARTHEST = 2.0, 14.0  # pixels from line to line
FRONTS, LINED, LINED_ELSEWHERE = 0.16, 0.2, 0.08  # shares of the pictures


def plane(
    count: int, side: int, generator: torch.Generator, straight_share: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Pixel coordinates along a random direction and across it, one for each picture: (count, side, side) each.
    A share of the directions is level or upright."""
    angle = uniform(count, 0, math.pi, generator)
    straight = torch.rand(count, generator=generator) < straight_share
    angle = torch.where(straight, (angle / (math.pi / 2)).round() * (math.pi / 2), angle)[:, None, None]
    axis = torch.arange(side, dtype=torch.float32) - side / 2
    across, down = torch.meshgrid(axis, axis, indexing="xy")
    return across * angle.cos() + down * angle.sin(), down * angle.cos() - across * angle.sin()


def lines(images: Tensor, generator: torch.Generator) -> Tensor:
    """Thin lines at equal distances, mostly dark: screens, fences, blinds. (n, 3, side, side) in [0, 1].

    Distances are uniform in their logarithm: close lines change every convolution of a small picture.
    """
    count, side = len(images), images.shape[2]
    along, _ = plane(count, side, generator, straight_share=0.65)
    apart = CLOSEST * uniform(count, 0, math.log(FARTHEST / CLOSEST), generator).exp()[:, None, None]
    apart = torch.where(torch.rand(count, 1, 1, generator=generator) < 0.6, apart.round(), apart)
    width = uniform(count, 0.6, 2.2, generator)[:, None, None].minimum(0.45 * apart)
    place = (along + uniform(count, 0, 14, generator)[:, None, None]).remainder(apart)
    mask = (width - place + 0.5).clamp(0, 1) * uniform(count, 0.3, 1.0, generator)[:, None, None]
    shade = torch.where(
        torch.rand(count, 1, generator=generator) < 0.75,
        0.2 * torch.rand(count, 3, generator=generator),
        torch.rand(count, 3, generator=generator),
    )
    mask = mask[:, None]
    return images * (1 - mask) + shade[:, :, None, None] * mask


def fronts(images: Tensor, ground: Tensor, generator: torch.Generator) -> Tensor:
    """One to three bars, boxes or discs in front, of one colour or cut from other backgrounds (n, 3, side, side)."""
    count, side = len(images), images.shape[2]
    images = images.clone()
    for turn in range(3):
        along, aside = plane(count, side, generator)
        x, y = (uniform(count, -0.45, 0.45, generator)[:, None, None] * side for _ in range(2))
        wide = uniform(count, 0.05, 0.2, generator)[:, None, None] * side
        long = uniform(count, 0.08, 0.9, generator)[:, None, None] * side
        box = ((along - x).abs() < wide) & ((aside - y).abs() < long)
        round_ = torch.hypot(along - x, aside - y) < 1.2 * wide
        mask = torch.where(torch.rand(count, 1, 1, generator=generator) < 0.3, round_, box)
        mask &= torch.rand(count, 1, 1, generator=generator) < (1.0, 0.5, 0.25)[turn]
        plain = torch.rand(count, 3, 1, 1, generator=generator)
        cover = torch.where(torch.rand(count, 1, 1, 1, generator=generator) < 0.5, plain, ground)
        images = torch.where(mask[:, None], cover, images)
    return images


def some_lined(images: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Lines over a share of the pictures (n, 3, side, side) in [0, 1]."""
    images = images.clone()
    rows = (torch.rand(len(images), generator=generator) < share).nonzero()[:, 0]
    if len(rows):
        images[rows] = lines(images[rows], generator)
    return images


def hide(images: Tensor, ground: Tensor, generator: torch.Generator) -> Tensor:
    """Things in front of a sixth of the pictures, lines over a fifth; `ground` (n, 3, side, side) in [0, 1]."""
    images = images.clone()
    rows = (torch.rand(len(images), generator=generator) < FRONTS).nonzero()[:, 0]
    if len(rows):
        images[rows] = fronts(images[rows], ground[rows], generator)
    return some_lined(images, generator, LINED)
