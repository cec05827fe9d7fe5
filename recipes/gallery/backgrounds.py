"""Backgrounds of the gallery's images: painted places, out-of-focus colours, plain tints.

Each function takes a seeded generator and a side in pixels, and returns float64 (side, side, 3) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.float64]
Colour = tuple[int, int, int]


def grid(side: int) -> tuple[Picture, Picture]:
    """x and y of each pixel, 0 to 1, (side, side) each."""
    y, x = np.mgrid[0:side, 0:side] / (side - 1)
    return x, y


def mix(a: Colour | Picture, b: Colour | Picture, share: Picture) -> Picture:
    """`a` where share is 0, `b` where it is 1; colours are 0 to 255, pictures 0 to 1."""
    first, second = (np.array(c) / 255 if isinstance(c, tuple) else c for c in (a, b))
    return first + (second - first) * share[..., None]


def noise(rng: np.random.Generator, side: int, cells: int, rows: int | None = None) -> Picture:
    """Smooth random values (side, side) in 0 to 1, with features about side / cells wide and side / rows high."""
    small = rng.random((rows or cells, cells)).astype(np.float32)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC), np.float64).clip(
        0, 1
    )


def step(values: Picture, edge: float | Picture, width: float) -> Picture:
    """0 below the edge, 1 above, smooth over `width`."""
    t = ((values - edge) / width + 0.5).clip(0, 1)
    return t * t * (3 - 2 * t)


def spot(side: int, x0: float, y0: float, radius: float, softness: float) -> Picture:
    """A disc of ones (side, side) with a soft rim."""
    x, y = grid(side)
    return 1 - step(np.hypot(x - x0, y - y0), radius, softness)


def grain(rng: np.random.Generator, image: Picture, strength: float = 0.012) -> Picture:
    """What a sensor adds."""
    return image + rng.normal(0, strength, image.shape[:2])[..., None]


def tint(rng: np.random.Generator, side: int, colour: Colour) -> Picture:
    """One colour, a little darker to the corners."""
    x, y = grid(side)
    dark = tuple(int(0.82 * c) for c in colour)
    return mix(colour, (dark[0], dark[1], dark[2]), step(np.hypot(x - 0.5, y - 0.42), 0.62, 0.7))


def gradient(rng: np.random.Generator, side: int, top: Colour, bottom: Colour) -> Picture:
    """One colour into another, on a slant."""
    x, y = grid(side)
    slant = rng.uniform(-0.5, 0.5)
    return mix(top, bottom, ((y + slant * (x - 0.5)) * 0.9 + 0.05).clip(0, 1))


def bokeh(rng: np.random.Generator, side: int, dark: Colour, light: Colour) -> Picture:
    """Lights far out of focus."""
    image = mix(dark, light, 0.55 * noise(rng, side, 4))
    for _ in range(16):
        x0, y0 = rng.random(2)
        disc = spot(side, x0, y0, rng.uniform(0.04, 0.13), rng.uniform(0.02, 0.06))
        image = mix(image, light, disc * rng.uniform(0.12, 0.5))
    return image


def ground(
    rng: np.random.Generator, side: int, above: Picture, near: Colour, far: Colour, horizon: float
) -> Picture:
    """A floor of some roughness under a hilly horizon."""
    _, y = grid(side)
    hills = horizon + 0.05 * (noise(rng, side, 4)[0] - 0.5)[None, :]
    floor = mix(far, near, ((y - horizon) / (1 - horizon)).clip(0, 1))
    floor = floor * (1 + 0.16 * (noise(rng, side, 40, 70) - 0.5) * y)[..., None]
    return mix(above, floor, step(y, hills, 0.03))


def sky(
    rng: np.random.Generator, side: int, top: Colour = (92, 158, 222), low: Colour = (205, 229, 244)
) -> Picture:
    """A bright sky with clouds."""
    _, y = grid(side)
    clouds = 0.6 * noise(rng, side, 4, 6) + 0.4 * noise(rng, side, 9, 14)
    return mix(mix(top, low, y), (255, 255, 255), 0.75 * step(clouds, 0.62, 0.3))


def meadow(rng: np.random.Generator, side: int) -> Picture:
    return ground(rng, side, sky(rng, side), (74, 138, 52), (142, 190, 92), 0.56)


def beach(rng: np.random.Generator, side: int) -> Picture:
    sea = ground(rng, side, sky(rng, side), (58, 160, 186), (36, 112, 164), 0.42)
    return ground(rng, side, sea, (224, 196, 144), (240, 220, 176), 0.64)


def sea(rng: np.random.Generator, side: int) -> Picture:
    return ground(
        rng, side, sky(rng, side, (120, 180, 226), (236, 236, 226)), (24, 92, 140), (70, 150, 188), 0.6
    )


def desert(rng: np.random.Generator, side: int) -> Picture:
    return ground(
        rng, side, sky(rng, side, (240, 186, 120), (250, 226, 178)), (196, 132, 76), (226, 172, 112), 0.6
    )


def snow(rng: np.random.Generator, side: int) -> Picture:
    image = ground(
        rng, side, sky(rng, side, (140, 168, 196), (206, 218, 230)), (226, 234, 242), (246, 249, 252), 0.6
    )
    for _ in range(60):
        x0, y0 = rng.random(2)
        image = mix(image, (255, 255, 255), 0.85 * spot(side, x0, y0, rng.uniform(0.003, 0.009), 0.008))
    return image


def night(rng: np.random.Generator, side: int) -> Picture:
    image = gradient(rng, side, (14, 20, 52), (58, 56, 110))
    for _ in range(70):
        x0, y0 = rng.random(2)
        image = mix(image, (255, 250, 226), rng.uniform(0.4, 1) * spot(side, x0, y0, 0.004, 0.007))
    return image


def camp(rng: np.random.Generator, side: int) -> Picture:
    return ground(rng, side, night(rng, side), (24, 34, 30), (40, 56, 52), 0.68)


def water(rng: np.random.Generator, side: int) -> Picture:
    _, y = grid(side)
    rays = noise(rng, side, 10, 2)
    return mix(mix((70, 178, 206), (10, 74, 124), y), (214, 246, 250), 0.3 * step(rays, 0.6, 0.5) * (1 - y))


def rain(rng: np.random.Generator, side: int) -> Picture:
    x, y = grid(side)
    image = mix((96, 110, 126), (158, 170, 182), noise(rng, side, 4, 3))
    streaks = noise(rng, side, 70, 8)[
        np.arange(side)[:, None], (np.arange(side) + np.arange(side)[:, None] // 5) % side
    ]
    wet = mix(image, (216, 226, 234), 0.4 * step(streaks, 0.82, 0.2))
    return mix(wet, (84, 94, 106), 0.7 * step(y, 0.82 + 0 * x, 0.06))


def room(rng: np.random.Generator, side: int, wall: Colour, floor: Colour) -> Picture:
    x, y = grid(side)
    lamp = np.exp(-((x - rng.uniform(0.1, 0.4)) ** 2 + (y - 0.1) ** 2) / 0.18)
    pale = (min(255, wall[0] + 40), min(255, wall[1] + 36), min(255, wall[2] + 24))
    boards = mix(
        floor, (int(0.8 * floor[0]), int(0.8 * floor[1]), int(0.8 * floor[2])), noise(rng, side, 3, 24)
    )
    return mix(mix(wall, pale, lamp), boards, step(y, 0.72 + 0 * x, 0.012))


def table(rng: np.random.Generator, side: int, wood: Colour = (176, 124, 80)) -> Picture:
    x, _ = grid(side)
    fibre = 0.6 * noise(rng, side, 60, 3) + 0.4 * noise(rng, side, 140, 8)
    image = mix((int(0.74 * wood[0]), int(0.72 * wood[1]), int(0.7 * wood[2])), wood, fibre)
    gaps = np.abs((x * 4 + 0.13) % 1 - 0.5)
    return mix(image, (70, 46, 30), 0.8 * (1 - step(gaps, 0.012, 0.012)))


def street(rng: np.random.Generator, side: int) -> Picture:
    x, y = grid(side)
    image = sky(rng, side)
    left = -0.05
    while left < 1:
        width, top = rng.uniform(0.14, 0.26), rng.uniform(0.12, 0.42)
        facade = tuple(int(v) for v in rng.uniform(130, 215, 3))
        house = (x > left) & (x < left + width) & (y > top)
        windows = (((x - left) * 18) % 1 > 0.45) & (((y - top) * 14) % 1 > 0.5) & house
        image = mix(image, (facade[0], facade[1], facade[2]), 0.8 * house)
        image = mix(image, (92, 112, 134), 0.45 * windows)
        left += width
    image = mix(image, (206, 202, 196), 1.0 * (y > 0.66))
    return mix(image, (104, 106, 112), 1.0 * (y > 0.72))


PLACES: dict[str, Callable[[np.random.Generator, int], Picture]] = {
    "meadow": meadow, "beach": beach, "sea": sea, "desert": desert, "snow": snow, "night": night, "camp": camp,
    "water": water, "rain": rain, "sky": sky, "street": street, "table": table,
    "white table": lambda rng, side: table(rng, side, (226, 218, 206)),
    "blue room": lambda rng, side: room(rng, side, (132, 166, 190), (150, 108, 74)),
    "warm room": lambda rng, side: room(rng, side, (214, 170, 126), (126, 82, 56)),
    "grey room": lambda rng, side: room(rng, side, (168, 170, 172), (92, 90, 92)),
    "party": lambda rng, side: bokeh(rng, side, (96, 40, 92), (255, 206, 150)),
    "garden": lambda rng, side: bokeh(rng, side, (38, 84, 46), (190, 220, 130)),
    "lake": lambda rng, side: bokeh(rng, side, (24, 74, 96), (176, 226, 226)),
    "stage": lambda rng, side: bokeh(rng, side, (28, 22, 52), (150, 110, 230)),
    "dawn": lambda rng, side: gradient(rng, side, (96, 110, 180), (250, 176, 130)),
    "sand": lambda rng, side: gradient(rng, side, (250, 226, 178), (228, 178, 116)),
    "mint": lambda rng, side: tint(rng, side, (192, 230, 210)),
    "peach": lambda rng, side: tint(rng, side, (252, 214, 190)),
    "lilac": lambda rng, side: tint(rng, side, (214, 204, 238)),
    "lemon": lambda rng, side: tint(rng, side, (250, 238, 172)),
    "slate": lambda rng, side: tint(rng, side, (84, 98, 116)),
}  # fmt: skip
SHARP = {"mint", "peach", "lilac", "lemon", "slate"}  # tints: no grain, nothing to be out of focus
