"""A judge without learned parameters: finds the artists' image that is nearest in pixels.

It shares nothing with the towers. The object is cut out of the background, scaled to a fixed size, and compared by
outline and luminance (or colour). Two objects are first separated as connected regions. The judge is strict: a rotated
or stretched object is often confused, so its figures on the artists' images are reported as the upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from recipes.starter.captioner import captions
from recipes.starter.data import compositor

EDGE = 24  # pixels a side that are compared
RIM = 2  # pixels of paper around what is shown alone
AWAY = 0.10  # from the paper's colour, of 1, and a pixel is part of what is drawn
OUTLINE = 0.6  # what the outline counts against the lights

Floats = NDArray[np.float32]


def mask_of(images: Tensor) -> Tensor:
    """pictures (n, 3, h, w) in [0, 1] -> bool (n, h, w): what is not paper, whose colour is that of most of the rim."""
    rim = torch.cat([images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]], dim=2)
    paper = rim.median(dim=2).values[:, :, None, None]
    return (images - paper).abs().amax(1) > AWAY


def cut(image: Tensor, mask: Tensor, edge: int = EDGE) -> Tensor:
    """What the mask holds, in its box made square, as (4, edge, edge): colours on white, and the mask."""
    rows, columns = mask.nonzero(as_tuple=True)
    if not len(rows):
        return torch.cat([torch.ones(3, edge, edge), torch.zeros(1, edge, edge)])
    box = image[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    kept = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].float()
    both = torch.cat([box * kept + (1 - kept), kept[None]])
    height, width = kept.shape
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    around = (left, side - width - left, top, side - height - top)
    square = torch.cat([F.pad(both[:3], around, value=1.0), F.pad(both[3:], around)])
    return F.interpolate(square[None], size=(edge, edge), mode="bilinear", antialias=True)[0]


def halves(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The two clouds of a mask: 2-means of its pixels' places, begun along their longest axis."""
    places = mask.nonzero().float()
    if len(places) < 2:
        return mask, mask
    centred = places - places.mean(0)
    axis = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    along = centred @ axis
    first = along < 0
    for _ in range(12):
        if first.all() or not first.any():
            break
        centres = torch.stack([places[first].mean(0), places[~first].mean(0)])
        first = torch.cdist(places, centres).argmin(1) == 0
    results = []
    for chosen in (first, ~first):
        part = torch.zeros_like(mask)
        part[tuple(places[chosen].long().T)] = True
        results.append(part)
    return results[0], results[1]


def apart(images: Tensor) -> tuple[Tensor, Tensor]:
    """Each of the two clouds of pictures (n, 3, h, w), large and alone on white paper."""
    side = images.shape[-1]
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for image, mask in zip(images, mask_of(images), strict=True):
        for results, half in zip(parts, halves(mask), strict=True):
            results.append(cut(image, half, side - 2 * RIM)[:3])
    first, second = (F.pad(torch.stack(part), (RIM,) * 4, value=1.0) for part in parts)
    return first, second


def features(cuts: Tensor, *, coloured: bool) -> Tensor:
    """(n, 4, EDGE, EDGE) -> unit rows: outline and lights, or outline and colours where those are the thing's own."""
    outline = cuts[:, 3:]
    shown = (
        cuts[:, :3] if coloured else (cuts[:, :3] * compositor.LUMINANCE[:, None, None]).sum(1, keepdim=True)
    )
    weight = outline.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (shown * outline).sum((2, 3), keepdim=True) / weight
    lights = (shown - mean) * outline
    if coloured:
        lights = shown * outline - 0.5 * outline
    parts = [
        F.normalize(lights.flatten(1), dim=1),
        OUTLINE * F.normalize((outline - outline.mean()).flatten(1), dim=1),
    ]
    return F.normalize(torch.cat(parts, dim=1), dim=1)


@dataclass(frozen=True)
class PixelJudge:
    """The drawings (artists, concepts, 4, side, side) uint8 that it knows."""

    drawings: Tensor

    def gallery(self, *, coloured: bool) -> Tensor:
        """Unit rows (artists * concepts, …)."""
        flat = self.drawings.flatten(0, 1).float() / 255
        on_white = flat[:, :3] * flat[:, 3:] + 1 - flat[:, 3:]
        cuts = torch.stack(
            [cut(item, one_mask) for item, one_mask in zip(on_white, mask_of(on_white), strict=True)]
        )
        return features(cuts, coloured=coloured)

    def ranked(self, cuts: Tensor, *, coloured: bool) -> Tensor:
        """(n, concepts): each concept's better similarity of the artists'."""
        scores = features(cuts, coloured=coloured) @ self.gallery(coloured=coloured).T
        return scores.view(len(cuts), len(self.drawings), -1).amax(1)

    def single(self, images: Tensor, *, coloured: bool) -> Tensor:
        """Similarities (n, concepts) of images of one object."""
        masks = mask_of(images)
        return self.ranked(
            torch.stack([cut(*pair) for pair in zip(images, masks, strict=True)]), coloured=coloured
        )

    def hues(self, images: Tensor, concepts: list[int]) -> list[int]:
        """The colour, by its place in captions.COLOUR_NAMES, in which the thing would look most as it does, on average.

        Every drawing of the thing is dyed in each colour, and the mean colours compared.
        """
        masks = mask_of(images)[:, None]
        means = (images * masks).sum((2, 3)) / masks.sum((2, 3)).clamp(min=1)
        result = []
        generator = torch.Generator().manual_seed(5)
        for mean, concept in zip(means, concepts, strict=True):
            glyphs = self.drawings[:, concept].float() / 255
            distances = []
            for colour in range(len(captions.COLOUR_NAMES)):
                dyed = compositor.tint(glyphs, torch.full((len(glyphs),), colour), generator)
                own = (dyed[:, :3] * dyed[:, 3:]).sum((2, 3)) / dyed[:, 3:].sum((2, 3))
                distances.append(float((own - mean).norm(dim=1).min()))
            result.append(int(np.argmin(distances)))
        return result
