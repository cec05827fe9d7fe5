"""Target images of the generator: one object or two on white, in the stated colours and sizes.

Objects are upright and only in a few positions on the flow's grid: a small image then has the same latents in every
position, so all scenes share what is learned. With random rotation, position and scale, a network of this size
generated coloured blobs after as many steps. Two objects are side by side, one above the other or diagonal, the first
above or to the left. Held-out combinations never occur.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from multimodal.pipelines.generation.backends.space_prior import ASIDES, PAIRS, SINGLES
from recipes.starter.captioner import captions
from recipes.starter.data import compositor

SIDE = 64
TOKEN = 16  # pixels a side of what the flow sees as one
CELL = 2 * TOKEN  # pixels a side of each of two things, and of one that is small
SMALL, LARGE = (captions.SIZE_NAMES.index(name) for name in ("small", "large"))
CENTRED = {captions.NONE: 60, LARGE: 64}  # pixels a side of single things in the middle, by size
ASIDE = 3 * TOKEN  # and of those put aside, half of those whose size is not said
KEPT_AT = 64  # pixels of a stored drawing
SHARES = {"plain": 0.35, "coloured": 0.27, "sized": 0.06, "pair": 0.32}
PAIR_COLOURED = 0.25  # of the things in pairs


class Place(NamedTuple):
    """The position of an object: row from the top, column from the left, side; in pixels."""

    top: int
    left: int
    edge: int


@dataclass
class Easel:
    """Drawings (artists, concepts, 4, KEPT_AT, KEPT_AT) uint8, and white paper. Colours are the palette's own."""

    drawings: Tensor
    generator: torch.Generator

    def layouts(self, count: int) -> Tensor:
        """int (count, 3): where one thing stands, where two do, and which of those places a small one has."""
        most = (SINGLES, len(PAIRS), 2)
        return torch.stack([torch.randint(item, (count,), generator=self.generator) for item in most], dim=1)

    def draw(self, scenes: list[captions.Scene], layouts: Tensor | None = None) -> Tensor:
        """float32 (scenes, 3, SIDE, SIDE) in [0, 1]; all of a scene is by one artist, drawn by chance."""
        paper = torch.ones(len(scenes), 3, SIDE, SIDE)
        makers = torch.randint(len(self.drawings), (len(scenes),), generator=self.generator)
        layouts = self.layouts(len(scenes)) if layouts is None else layouts
        for row, (scene, layout) in enumerate(zip(scenes, layouts.tolist(), strict=True)):
            for subject, place in zip(scene, places(scene, layout), strict=True):
                self.put(paper[row], int(makers[row]), subject, place)
        return paper

    def put(self, paper: Tensor, maker: int, subject: captions.Subject, place: Place) -> None:
        """Composites an object onto the canvas (3, SIDE, SIDE)."""
        glyph = self.drawings[maker, subject.concept][None].float() / 255
        glyph = compositor.tint(glyph, torch.tensor([subject.colour]), self.generator, waver=0.0)
        soft = torch.cat([glyph[:, :3] * glyph[:, 3:], glyph[:, 3:]], 1)
        small = torch.nn.functional.interpolate(
            soft, size=(place.edge, place.edge), mode="bilinear", antialias=True
        )[0]
        part = paper[:, place.top : place.top + place.edge, place.left : place.left + place.edge]
        part.mul_(1 - small[3:]).add_(small[:3])


def places(scene: captions.Scene, layout: list[int]) -> list[Place]:
    """The positions of the objects in a layout."""
    single, pair, turn = layout
    corners = [Place(TOKEN * down, TOKEN * across, CELL) for down, across in PAIRS[pair]]
    if len(scene) == 2:
        return corners
    if scene[0].size == SMALL:
        return [corners[turn]]
    aside = single - (SINGLES - len(ASIDES))
    if scene[0].size == captions.NONE and aside >= 0:
        down, across = ASIDES[aside]
        return [Place(TOKEN * down, TOKEN * across, ASIDE)]
    edge = CENTRED[scene[0].size]
    return [Place((SIDE - edge) // 2, (SIDE - edge) // 2, edge)]


def easel(drawings: np.ndarray, seed: int) -> Easel:
    """For uint8 drawings (artists, concepts, h, w, 4)."""
    return Easel(compositor.kept_at(drawings, KEPT_AT), torch.Generator().manual_seed(seed))


def artist(work: object) -> np.ndarray:
    """uint8 (1, concepts, h, w, 4): Noto's drawings. A second artist's would need a network of twice the memory."""
    drawings: np.ndarray = np.load(f"{work}/glyphs.npz")["noto"]
    return drawings[None]


def random_scene(rng: random.Random, count: int, held: captions.HeldOut) -> captions.Scene:
    """One of SHARES' kinds."""
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    while True:
        scene = _scene(kind, rng, count)
        if len({subject.concept for subject in scene}) == len(scene) and captions.allowed(scene, held):
            return scene


def _scene(kind: str, rng: random.Random, count: int) -> captions.Scene:
    def colour() -> int:
        return rng.randrange(len(captions.COLOUR_NAMES))

    def pick() -> int:
        return rng.randrange(count)

    if kind == "pair":
        return tuple(
            captions.Subject(pick(), colour() if rng.random() < PAIR_COLOURED else captions.NONE)
            for _ in range(2)
        )
    if kind == "coloured":
        size = rng.randrange(2) if rng.random() < 0.15 else captions.NONE
        return (captions.Subject(pick(), colour(), size),)
    return (captions.Subject(pick(), size=rng.randrange(2) if kind == "sized" else captions.NONE),)
