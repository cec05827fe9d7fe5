"""Renders scenes as images: glyphs are recoloured, placed and composited over backgrounds, in batches with torch.

`Compositor.draw` renders clean scenes; `augment` adds the augmentations of training, `stress` those for evaluation
only.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from recipes.starter.captioner.captions import COLOURS, NONE, SIZE_NAMES, Scene

LUMINANCE = torch.tensor([0.299, 0.587, 0.114])
SCALES = {
    NONE: (0.55, 1.05),
    SIZE_NAMES.index("small"): (0.28, 0.42),
    SIZE_NAMES.index("large"): (0.95, 1.15),
}
PAIR_SCALE = (0.40, 0.56)
TURN = 0.3  # radians that a thing may be turned to either side
STRESS = ("JPEG blocks", "big pixels", "salt and pepper", "perspective", "ripples", "dark rim")
PALETTE = torch.tensor(list(COLOURS.values()), dtype=torch.float32) / 255


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(count,) in [low, high)."""
    return low + (high - low) * torch.rand(count, generator=generator)


@dataclass
class Compositor:
    """Drawings (makers, concepts, 4, side, side) uint8, of which the first `artists` are as their artists made them
    and the others redrawn, and a pool of backgrounds (n, 3, side, side) uint8, as large as the pictures to be drawn."""

    glyphs: Tensor
    artists: int
    backgrounds: Tensor
    generator: torch.Generator
    scales: dict[int, tuple[float, float]] = field(
        default_factory=lambda: SCALES
    )  # of single things, by size
    turn: float = TURN  # radians to either side, at most
    upright: frozenset[int] = frozenset()  # concepts whose direction is their meaning: turned by TURN at most

    def draw(
        self,
        scenes: list[Scene],
        side: int,
        *,
        jitter: float = 1.0,
        restyle: float = 0.0,
    ) -> Tensor:
        """Renders scenes -> float32 (scenes, 3, side, side) in [0, 1], each object by a random artist.

        `jitter` scales rotation and offsets; `restyle` is the share of restyled drawings.
        """
        canvas = self.ground(len(scenes))
        for turn in range(max(map(len, scenes))):
            rows = [row for row, scene in enumerate(scenes) if len(scene) > turn]
            subjects = [scenes[row][turn] for row in rows]
            makers = torch.randint(self.artists, (len(rows),), generator=self.generator)
            if restyle > 0:
                redrawn = torch.randint(
                    self.artists, len(self.glyphs), (len(rows),), generator=self.generator
                )
                chance = torch.rand(len(rows), generator=self.generator)
                makers = torch.where(chance < restyle, redrawn, makers)
            glyphs = (
                self.glyphs[makers, torch.tensor([subject.concept for subject in subjects])].float() / 255
            )
            glyphs = tint(glyphs, torch.tensor([subject.colour for subject in subjects]), self.generator)
            pairs = torch.tensor([len(scenes[row]) == 2 for row in rows])
            placed = self.place(glyphs, subjects, pairs, turn, side, jitter)
            canvas[rows] = canvas[rows] * (1 - placed[:, 3:]) + placed[:, :3]
        return canvas

    def ground(self, count: int) -> Tensor:
        """Random backgrounds, flipped and recoloured."""
        rows = torch.randint(len(self.backgrounds), (count,), generator=self.generator)
        ground = self.backgrounds[rows].float() / 255
        if torch.rand(1, generator=self.generator) < 0.5:
            ground = ground.flip(3)
        if torch.rand(1, generator=self.generator) < 0.5:
            ground = ground.transpose(2, 3)
        return ground.contiguous()

    def place(
        self, glyphs: Tensor, subjects: list, pairs: Tensor, turn: int, side: int, jitter: float
    ) -> Tensor:
        """Glyphs scaled, turned and moved on a transparent canvas: premultiplied (n, 4, side, side)."""
        count, generator = len(glyphs), self.generator
        low = torch.tensor([self.scales[subject.size][0] for subject in subjects])
        high = torch.tensor([self.scales[subject.size][1] for subject in subjects])
        low, high = torch.where(pairs, PAIR_SCALE[0], low), torch.where(pairs, PAIR_SCALE[1], high)
        scale = low + (high - low) * torch.rand(count, generator=generator)
        most = torch.tensor([TURN if subject.concept in self.upright else self.turn for subject in subjects])
        angle = (2 * most * torch.rand(count, generator=generator) - most) * jitter
        room = (1 - scale).clamp(min=0.08) * jitter
        across, down = uniform(count, -1, 1, generator) * room, uniform(count, -1, 1, generator) * room
        # two things stand on opposite sides of a line that `self.sides` turns, the same for both turns of a scene
        if pairs.any():
            tilt = self.tilts(pairs, turn)
            apart = 0.46 if turn == 0 else -0.46
            across = torch.where(pairs, apart * tilt.cos() * 1.05 + across * 0.15, across)
            down = torch.where(pairs, apart * tilt.sin() * 1.05 + down * 0.15, down)
        cos, sin = angle.cos() / scale, angle.sin() / scale
        stretch = 1 + uniform(count, -0.12, 0.12, generator) * jitter
        matrix = torch.stack([
            torch.stack([cos * stretch, sin, -(cos * stretch * across + sin * down)], 1),
            torch.stack([-sin, cos, -(-sin * across + cos * down)], 1),
        ], 1)  # fmt: skip
        premultiplied = torch.cat([glyphs[:, :3] * glyphs[:, 3:], glyphs[:, 3:]], dim=1)
        # where a glyph is drawn much smaller than it is kept, average first, or the sampling would skip pixels
        small = scale * side < 0.6 * glyphs.shape[2]
        grid = F.affine_grid(matrix, [count, 4, side, side], align_corners=False)
        placed = F.grid_sample(premultiplied, grid, align_corners=False)
        if small.any():
            half = F.avg_pool2d(premultiplied[small], 2)
            placed[small] = F.grid_sample(half, grid[small], align_corners=False)
        return placed

    def tilts(self, pairs: Tensor, turn: int) -> Tensor:
        """The direction from one object of a pair to the other; sampled for the first and reused for the second."""
        if turn == 0:
            drawn = uniform(len(pairs), 0, 2 * math.pi, self.generator)
            self.kept = drawn[pairs]
            return drawn
        full = torch.zeros(len(pairs))
        full[pairs] = self.kept
        return full


def kept_at(drawings: np.ndarray, side: int) -> Tensor:
    """uint8 (..., h, w, 4) straight alpha -> uint8 (..., 4, side, side): what a Compositor keeps of the drawings."""
    flat = torch.from_numpy(drawings.reshape(-1, *drawings.shape[-3:])).permute(0, 3, 1, 2)
    rows = []
    for part in flat.split(256):
        part = part.float() / 255
        soft = F.interpolate(
            torch.cat([part[:, :3] * part[:, 3:], part[:, 3:]], 1),
            size=(side, side),
            mode="bilinear",
            antialias=True,
        )
        rows.append(as_bytes(torch.cat([soft[:, :3] / soft[:, 3:].clamp(min=1e-3), soft[:, 3:]], 1)))
    return torch.cat(rows).reshape(*drawings.shape[:-3], 4, side, side)


def resized(pool: Tensor, side: int) -> Tensor:
    """uint8 pictures (n, 3, h, w) at another size."""
    parts = [
        F.interpolate(p.float(), size=(side, side), mode="bilinear", antialias=True) for p in pool.split(512)
    ]
    return torch.cat(parts).round().clamp(0, 255).to(torch.uint8)


def tint(glyphs: Tensor, colours: Tensor, generator: torch.Generator, waver: float = 0.05) -> Tensor:
    """Where a colour is said, its hue with the drawing's own light and shade; other glyphs stay as they are. `waver`:
    the deviation of the palette's numbers."""
    said = (colours != NONE).nonzero()[:, 0]
    if not len(said):
        return glyphs
    light = (glyphs[said, :3] * LUMINANCE[:, None, None]).sum(1, keepdim=True)
    tone = PALETTE[colours[said]] + waver * torch.randn(len(said), 3, generator=generator)
    tone = tone.clamp(0, 1)[:, :, None, None]
    dark = tone * (light / 0.6).clamp(max=1)
    bright = (light - 0.6).clamp(min=0) / 0.4
    glyphs = glyphs.clone()
    glyphs[said, :3] = dark + (1 - dark) * 0.6 * bright
    return glyphs


def blur(images: Tensor, radius: int = 1) -> Tensor:
    """Box blur that keeps the size."""
    return F.avg_pool2d(images, 2 * radius + 1, 1, radius, count_include_pad=False)


def redraw(glyphs: Tensor, generator: torch.Generator) -> Tensor:
    """As another artist might: dark outlines, flat fewer tones, shifted hue, or the line drawing alone."""
    colour, alpha = glyphs[:, :3], glyphs[:, 3:]
    count = len(glyphs)
    light = (colour * alpha).mean(1, keepdim=True)
    flat = blur(colour, 2) if torch.rand(1, generator=generator) < 0.5 else colour
    levels = float(torch.randint(3, 7, (1,), generator=generator))
    flat = torch.where(
        uniform(count, 0, 1, generator)[:, None, None, None] < 0.6, (flat * levels).round() / levels, flat
    )
    radius = int(torch.randint(1, 3, (1,), generator=generator))
    grown = F.max_pool2d(alpha, 2 * radius + 1, 1, radius)
    inside = -F.max_pool2d(-alpha, 2 * radius + 1, 1, radius)
    rim = (grown - inside).clamp(0, 1)
    edges = ((F.max_pool2d(light, 3, 1, 1) + F.max_pool2d(-light, 3, 1, 1)) * 4 - 0.35).clamp(0, 1)
    line = torch.maximum(rim, edges)
    shift = torch.rand(count, 3, 1, 1, generator=generator) * 0.7 + 0.5
    flat = (
        flat * torch.where(uniform(count, 0, 1, generator)[:, None, None, None] < 0.4, shift, torch.ones(1))
    ).clamp(0, 1)
    hollow = (uniform(count, 0, 1, generator) < 0.25)[:, None, None, None]
    flat = torch.where(hollow, torch.ones_like(flat), flat)
    outlined = (hollow[:, 0, 0, 0] | (uniform(count, 0, 1, generator) < 0.7))[:, None, None, None].float()
    ink = uniform(count, 0.0, 0.25, generator)[:, None, None, None]
    drawn = flat * (1 - line * outlined) + ink * line * outlined
    return torch.cat([drawn, torch.maximum(alpha, rim * outlined)], dim=1)


def with_redrawn(glyphs: Tensor, times: int, generator: torch.Generator) -> Tensor:
    """Artists' drawings uint8 (artists, concepts, 4, side, side) -> those, and `times` as many redrawn ones."""
    more = [glyphs]
    for _ in range(times):
        for artist in glyphs:
            # few at a time: redraw takes some of its choices once for all that it is given
            more.append(
                torch.cat([as_bytes(redraw(part.float() / 255, generator)) for part in artist.split(24)])[
                    None
                ]
            )
    return torch.cat(more)


def bend(images: Tensor, amount: float, cells: int, generator: torch.Generator) -> Tensor:
    """A smooth random warp of up to `amount` of the side."""
    count, side = len(images), images.shape[2]
    flow = (
        F.interpolate(
            torch.randn(count, 2, cells, cells, generator=generator), size=(side, side), mode="bicubic"
        )
        * amount
    )
    axis = torch.linspace(-1, 1, side)
    base = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    return F.grid_sample(images, base + flow.permute(0, 2, 3, 1), align_corners=True, padding_mode="border")


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """The augmentations of training: brightness, contrast, saturation, blur, noise, warps, erased patches."""
    count, side = len(images), images.shape[2]

    def some(share: float) -> Tensor:
        return (torch.rand(count, generator=generator) < share).nonzero()[:, 0]

    if len(rows := some(0.25)):
        images[rows] = bend(images[rows], 0.07, 4, generator)
    light = uniform(count, 0.65, 1.3, generator)[:, None, None, None]
    lift = uniform(count, -0.12, 0.12, generator)[:, None, None, None]
    cast = 1 + 0.08 * torch.randn(count, 3, 1, 1, generator=generator)
    grey = (images * LUMINANCE[:, None, None]).sum(1, keepdim=True)
    images = (
        grey + (images - grey) * uniform(count, 0.65, 1.35, generator)[:, None, None, None]
    ) * light * cast + lift
    if len(rows := some(0.2)):
        images[rows] = blur(images[rows], 1)
    if len(rows := some(0.06)):
        images[rows] = blur(images[rows], 2)
    if len(rows := some(0.25)):
        strength = uniform(len(rows), 0.01, 0.12, generator)[:, None, None, None]
        images[rows] = images[rows] + strength * torch.randn(images[rows].shape, generator=generator)
    for row in some(0.15).tolist():
        edge = int(torch.randint(side // 8, side // 3, (1,), generator=generator))
        top, left = torch.randint(0, side - edge, (2,), generator=generator).tolist()
        images[row, :, top : top + edge, left : left + edge] = torch.rand(3, 1, 1, generator=generator)
    return images.clamp(0, 1)


def stress(images: Tensor, seed: int) -> Tensor:
    """Distortions not used in training, one per image in turn: JPEG artefacts, pixelation, salt-and-pepper noise,
    perspective, ripples, vignetting."""
    rng = np.random.default_rng(seed)
    count, side = len(images), images.shape[2]
    axis = torch.linspace(-1, 1, side)
    across, down = torch.meshgrid(axis, axis, indexing="xy")
    out = images.clone()
    for row in range(count):
        image = images[row : row + 1]
        kind = row % 6
        if kind == 0:
            raw = (image[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(raw).save(buffer, "JPEG", quality=int(rng.integers(12, 30)))
            image = torch.from_numpy(np.asarray(Image.open(buffer)).copy()).permute(2, 0, 1)[None] / 255
        elif kind == 1:
            image = F.interpolate(
                F.interpolate(image, size=int(rng.integers(26, 36)), mode="area"), size=side
            )
        elif kind == 2:
            specks = torch.from_numpy(rng.random((side, side)))
            image = torch.where(specks < 0.03, 0.0, torch.where(specks > 0.97, 1.0, image.double())).float()
        elif kind == 3:
            lean, tip = rng.uniform(-0.35, 0.35, 2)
            depth = 1 + lean * across + tip * down
            image = F.grid_sample(image, torch.stack([across, down], -1)[None] / depth[None, ..., None].float(),
                                    align_corners=True, padding_mode="border")  # fmt: skip
        elif kind == 4:
            ripple = 0.06 * torch.sin(down * rng.uniform(5, 9) + rng.uniform(0, 6))
            image = F.grid_sample(image, torch.stack([across + ripple, down], -1)[None].float(),
                                    align_corners=True, padding_mode="border")  # fmt: skip
        else:
            image = image * (1.15 - 0.55 * (across**2 + down**2) / 1.2).clamp(0.2, 1)
        out[row] = image[0]
    return out.clamp(0, 1)


def as_bytes(images: Tensor) -> Tensor:
    """Floats in [0, 1] -> uint8, the input of a tower."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)
