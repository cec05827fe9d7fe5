"""Procedural backgrounds in named families. Some are for training, the others for evaluation only.

Each maker takes a generator and a side in pixels, and returns float32 (side, side, 3) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Maker = Callable[[np.random.Generator, int], np.ndarray]


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column coordinates in [0, 1]."""
    axis = np.linspace(0, 1, side, dtype=np.float32)
    return axis[:, None] + 0 * axis, axis[None, :] + 0 * axis[:, None]


def mix(mask: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """first where mask is 0, second where it is 1: (side, side, 3)."""
    return first * (1 - mask[..., None]) + second * mask[..., None]


def waves(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Smooth noise (side, side, 3): a coarse random grid, enlarged."""
    coarse = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return (
        np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    )


def solid(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.broadcast_to(rng.random(3, np.float32), (side, side, 3)).copy()


def white(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.full((side, side, 3), 1 - 0.03 * rng.random(), np.float32)


def linear(rng: np.random.Generator, side: int) -> np.ndarray:
    down, across = grid(side)
    angle = rng.uniform(0, 2 * np.pi)
    slope = np.clip(0.5 + (down - 0.5) * np.sin(angle) + (across - 0.5) * np.cos(angle), 0, 1)
    return mix(slope, rng.random(3, np.float32), rng.random(3, np.float32))


def radial(rng: np.random.Generator, side: int) -> np.ndarray:
    down, across = grid(side)
    far = np.hypot(down - rng.random(), across - rng.random())
    return mix(np.clip(far * rng.uniform(0.8, 2), 0, 1), rng.random(3, np.float32), rng.random(3, np.float32))


def blobs(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.clip(waves(rng, side, int(rng.integers(2, 7))), 0, 1)


def grain(rng: np.random.Generator, side: int) -> np.ndarray:
    noise = rng.standard_normal((side, side, 3 if rng.random() < 0.5 else 1), np.float32)
    return np.clip(rng.random(3, np.float32) + rng.uniform(0.05, 0.3) * noise, 0, 1)


def drawn(shape: str) -> Maker:
    """Many random polygons, discs or strokes over a plain ground."""

    def maker(rng: np.random.Generator, side: int) -> np.ndarray:
        image = Image.new("RGB", (side, side), tuple(rng.integers(0, 256, 3).tolist()))
        pen = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(4, 22))):
            colour = tuple(rng.integers(0, 256, 3).tolist())
            points = rng.integers(-side // 4, side + side // 4, 8).tolist()
            if shape == "polygons":
                pen.polygon(points[: int(rng.choice([6, 8]))], fill=colour)
            elif shape == "strokes":
                pen.line(points, fill=colour, width=int(rng.integers(1, 5)), joint="curve")
            else:
                radius = int(rng.integers(2, side // 4))
                pen.ellipse(
                    [points[0] - radius, points[1] - radius, points[0] + radius, points[1] + radius],
                    fill=colour,
                )
        return np.asarray(image, np.float32) / 255

    return maker


def cells(rng: np.random.Generator, side: int) -> np.ndarray:
    """Voronoi patches."""
    down, across = grid(side)
    centres = rng.random((int(rng.integers(4, 25)), 2), np.float32)
    nearest = ((down[..., None] - centres[:, 0]) ** 2 + (across[..., None] - centres[:, 1]) ** 2).argmin(-1)
    return rng.random((len(centres), 3), np.float32)[nearest]


def two_tone(rng: np.random.Generator, side: int) -> np.ndarray:
    """A wavy horizon between two smooth grounds."""
    down, across = grid(side)
    line = rng.uniform(0.25, 0.75) + rng.uniform(0, 0.12) * np.sin(
        across * rng.uniform(2, 9) + rng.uniform(0, 6)
    )
    above, below = linear(rng, side), linear(rng, side)
    return mix((down > line).astype(np.float32), above, below)


def patches(rng: np.random.Generator, side: int) -> np.ndarray:
    """Flat rectangles of any size over a smooth background, some translucent."""
    image = waves(rng, side, int(rng.integers(2, 9)))
    for _ in range(int(rng.integers(3, 40))):
        top, left = rng.integers(-side // 4, side, 2)
        height, width = rng.integers(2, side // 2, 2)
        part = image[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
        part += (rng.random(3, np.float32) - part) * rng.uniform(0.4, 1)
    return np.clip(image, 0, 1)


def terraces(rng: np.random.Generator, side: int) -> np.ndarray:
    """Smooth noise in a few flat steps, as on a map of heights."""
    height = waves(rng, side, int(rng.integers(2, 8))).mean(-1)
    steps = int(rng.integers(3, 8))
    level = np.clip((height - height.min()) / (np.ptp(height) + 1e-6) * steps, 0, steps - 1e-3).astype(int)
    return rng.random((steps, 3), np.float32)[level]


def letters(rng: np.random.Generator, side: int) -> np.ndarray:
    """Characters of many sizes, all over."""
    image = Image.new("RGB", (side, side), tuple(rng.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(5, 40))):
        place = rng.integers(-side // 5, side, 2).tolist()
        font = ImageFont.load_default(size=int(rng.integers(6, side // 2)))
        pen.text(
            place, chr(int(rng.integers(33, 127))), fill=tuple(rng.integers(0, 256, 3).tolist()), font=font
        )
    return np.asarray(image, np.float32) / 255


def stripes(rng: np.random.Generator, side: int) -> np.ndarray:
    down, across = grid(side)
    angle = rng.uniform(0, np.pi)
    phase = (down * np.sin(angle) + across * np.cos(angle)) * rng.uniform(4, 12)
    return mix((phase % 1 > 0.5).astype(np.float32), rng.random(3, np.float32), rng.random(3, np.float32))


def checks(rng: np.random.Generator, side: int) -> np.ndarray:
    down, across = grid(side)
    count = rng.uniform(3, 10)
    board = (np.floor(down * count) + np.floor(across * count)) % 2
    return mix(board.astype(np.float32), rng.random(3, np.float32), rng.random(3, np.float32))


def clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    """Noise whose power falls as 1/f², as photographs' does, over several octaves."""
    total = sum(waves(rng, side, size).mean(-1) * (2.0 / size) for size in (2, 4, 8, 16, 32))
    height = (total - total.min()) / (np.ptp(total) + 1e-6)
    return mix(height.astype(np.float32), rng.random(3, np.float32), rng.random(3, np.float32))


def dots(rng: np.random.Generator, side: int) -> np.ndarray:
    down, across = grid(side)
    count = rng.uniform(4, 10)
    far = np.hypot(down * count % 1 - 0.5, across * count % 1 - 0.5)
    return mix(
        (far < rng.uniform(0.2, 0.4)).astype(np.float32), rng.random(3, np.float32), rng.random(3, np.float32)
    )


def bricks(rng: np.random.Generator, side: int) -> np.ndarray:
    down, across = grid(side)
    rows = rng.uniform(4, 9)
    row = np.floor(down * rows)
    mortar = ((down * rows % 1) < 0.15) | (((across * rows / 2 + 0.5 * (row % 2)) % 1) < 0.08)
    tone = rng.random(3, np.float32) * (0.9 + 0.2 * rng.random((side, side, 1), np.float32))
    return np.clip(mix(mortar.astype(np.float32), tone, rng.random(3, np.float32)), 0, 1).astype(np.float32)


def rays(rng: np.random.Generator, side: int) -> np.ndarray:
    """Beams from a point."""
    down, across = grid(side)
    turn = np.arctan2(down - rng.uniform(-0.2, 1.2), across - rng.uniform(-0.2, 1.2)) * int(
        rng.integers(3, 11)
    )
    beam = np.clip(0.5 + np.sin(turn + rng.uniform(0, 6)) * rng.uniform(0.5, 4), 0, 1)
    return mix(beam.astype(np.float32), rng.random(3, np.float32), rng.random(3, np.float32))


def rings(rng: np.random.Generator, side: int) -> np.ndarray:
    down, across = grid(side)
    far = np.hypot(down - rng.random(), across - rng.random()) * rng.uniform(15, 60)
    ring = np.clip(0.5 + np.sin(far) * rng.uniform(0.5, 4), 0, 1)
    return mix(ring.astype(np.float32), rng.random(3, np.float32), rng.random(3, np.float32))


def zigzag(rng: np.random.Generator, side: int) -> np.ndarray:
    down, across = grid(side)
    fold = np.abs((across * rng.uniform(2, 7)) % 1 - 0.5) * rng.uniform(0.1, 0.4)
    band = (down + fold) * rng.uniform(4, 10) % 1 > 0.5
    return mix(band.astype(np.float32), rng.random(3, np.float32), rng.random(3, np.float32))


def marble(rng: np.random.Generator, side: int) -> np.ndarray:
    """Veins: a sine whose phase is noise (after Perlin 1985)."""
    down, across = grid(side)
    noise = sum(waves(rng, side, size).mean(-1) * (4.0 / size) for size in (4, 8, 16))
    vein = 0.5 + 0.5 * np.sin((down + across) * rng.uniform(4, 16) + noise * rng.uniform(4, 10))
    return mix(vein.astype(np.float32), rng.random(3, np.float32), rng.random(3, np.float32))


TRAINED: dict[str, Maker] = {
    "white": white, "solid": solid, "linear": linear, "radial": radial, "blobs": blobs, "grain": grain,
    "polygons": drawn("polygons"), "strokes": drawn("strokes"), "discs": drawn("discs"), "cells": cells,
    "two_tone": two_tone, "patches": patches, "terraces": terraces, "letters": letters,
}  # fmt: skip
SIMPLE = {name: TRAINED[name] for name in ("white", "solid", "linear")}  # trained on first
HELD_OUT: dict[str, Maker] = {
    "stripes": stripes,
    "checks": checks,
    "clouds": clouds,
    "dots": dots,
    "bricks": bricks,
}
# Never trained on and never looked at while anything was trained or chosen: drawn once, for the finished weights.
UNTOUCHED: dict[str, Maker] = {"rays": rays, "rings": rings, "zigzag": zigzag, "marble": marble}


def pool(makers: dict[str, Maker], count: int, side: int, seed: int) -> np.ndarray:
    """uint8 (count, 3, side, side), the families in turn."""
    rng, kinds = np.random.default_rng(seed), list(makers.values())
    result = np.empty((count, side, side, 3), np.uint8)
    for number in range(count):
        result[number] = np.round(np.clip(kinds[number % len(kinds)](rng, side), 0, 1) * 255)
    return result.transpose(0, 3, 1, 2).copy()
