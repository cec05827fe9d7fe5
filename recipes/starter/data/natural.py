"""Procedural backgrounds with the statistics of photographs: 1/f spectra, occlusion, texture, shading, blur.

Natural images have amplitude spectra that fall as about 1/f (Field 1987), colours that vary mostly in lightness
(Ruderman et al. 1998), and edges where nearer things hide farther ones, of all sizes (the dead leaves of Lee et al.
2001). No photograph is used. Makers are like those of `backgrounds`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from recipes.starter.data.backgrounds import Maker, grid, linear, mix

# Directions of natural colour variation: lightness, blue to yellow, green to red.
COLOUR_AXES = np.array([[0.58, 0.58, 0.58], [0.41, 0.41, -0.82], [0.71, -0.71, 0.0]], np.float32)
FINE = 2  # shapes are drawn this many times as large, and averaged


@lru_cache(maxsize=4)
def frequencies(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (side, side // 2 + 1) of a real transform: down and across, in cycles per picture."""
    return np.fft.fftfreq(side, 1 / side)[:, None], np.fft.rfftfreq(side, 1 / side)[None, :]


def spectral(rng: np.random.Generator, side: int, count: int = 1, slope: float | None = None) -> np.ndarray:
    """Noise whose amplitude falls as 1/f**slope, stretched along a random direction: (count, side, side), unit
    variance."""
    slope = rng.uniform(0.8, 1.8) if slope is None else slope
    down, across = frequencies(side)
    angle, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 1.2) * (rng.random() < 0.5))
    along = (np.cos(angle) * across + np.sin(angle) * down) * stretch
    aside = (np.cos(angle) * down - np.sin(angle) * across) / stretch
    far = np.maximum(np.hypot(along, aside), 0.7)
    shape = (count, side, side // 2 + 1)
    noise = rng.standard_normal((2, *shape), np.float32)
    field = np.fft.irfft2((noise[0] + 1j * noise[1]) * far**-slope, (side, side))
    field -= field.mean((1, 2), keepdims=True)
    return np.asarray(field / (field.std((1, 2), keepdims=True) + 1e-6), np.float32)


def tones(rng: np.random.Generator, fields: np.ndarray) -> np.ndarray:
    """Three fields of unit variance (3, h, w) -> (h, w, 3), by the axes of natural colour variation."""
    spread = np.array([rng.uniform(0.1, 0.42), rng.uniform(0.0, 0.16), rng.uniform(0.0, 0.1)], np.float32)
    mean = rng.uniform(0.2, 0.75) + 0.18 * rng.standard_normal(3, np.float32) * rng.random()
    return np.asarray(
        mean + np.einsum("khw,kc->hwc", fields * spread[:, None, None], COLOUR_AXES), np.float32
    )


def coloured_noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """1/f noise in colour; the channels share some of their structure."""
    fields = spectral(rng, side, 3)
    fields[1:] += rng.uniform(-1, 1) * fields[:1]
    if rng.random() < 0.4:  # uneven light and shade, as skies and shadows are
        fields[0] = np.sign(fields[0]) * np.abs(fields[0]) ** rng.uniform(0.5, 1.8)
    return tones(rng, fields)


def fractal(rng: np.random.Generator, side: int) -> np.ndarray:
    """Ridges and folds: the absolute value of 1/f noise, read where other noise bends it (rock, bark, clouds)."""
    fields = spectral(rng, side, 3, rng.uniform(1.0, 1.9))
    ridge = np.abs(fields[0]) ** rng.uniform(0.4, 1.2)
    bend = (spectral(rng, side, 2, 1.8) * rng.uniform(0, side / 8)).round().astype(int)
    rows, columns = np.indices((side, side))
    fields[0] = 1.5 * (ridge - ridge.mean())
    return tones(rng, fields[:, (rows + bend[0]) % side, (columns + bend[1]) % side])


def palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 3) colours of one scene: a few related tones and a rare bright one."""
    base = rng.random((int(rng.integers(1, 4)), 3), np.float32)
    grey = base.mean(1, keepdims=True)
    base = grey + (base - grey) * rng.uniform(0.1, 1.0)
    colours = base[rng.integers(len(base), size=count)] * rng.uniform(0.35, 1.3, (count, 1))
    bright = rng.random(count) < 0.06
    colours[bright] = rng.random((int(bright.sum()), 3))
    return np.clip(colours + 0.05 * rng.standard_normal((count, 3)), 0, 1)


def as_colour(colour: np.ndarray) -> tuple[int, ...]:
    """A colour in [0, 1] as Pillow takes it."""
    return tuple((255 * np.clip(colour, 0, 1)).round().astype(int).tolist())


def reduced(image: Image.Image, side: int) -> np.ndarray:
    """A large drawing, averaged to (side, side, 3) in [0, 1]."""
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32) / 255


def textured(rng: np.random.Generator, image: np.ndarray, most: float = 0.25) -> np.ndarray:
    """Shading and texture over a drawing: 1/f noise and a slope of light."""
    light = 1 + rng.uniform(0, most) * spectral(rng, len(image), 1, rng.uniform(0.3, 1.5))[0]
    slope = linear(rng, len(image)).mean(-1)
    return np.asarray(
        image * (light * (1 + rng.uniform(0, 0.8) * (slope - slope.mean())))[..., None], np.float32
    )


def dead_leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """Discs, ellipses and polygons that hide each other, of all sizes: density 1/radius³."""
    large, count = side * FINE, int(rng.integers(60, 260))
    least = rng.uniform(0.012, 0.06)
    radii = large * np.minimum(least / np.sqrt(1 - rng.random(count)), 0.6)
    colours, turns = palette(rng, count), rng.uniform(0, 2 * np.pi, count)
    flat, corners = rng.uniform(0.35, 1.0, count), int(rng.choice([0, 3, 4, 5, 16]))
    image = Image.new("RGB", (large, large), as_colour(colours[0]))
    pen = ImageDraw.Draw(image)
    for row, (x, y) in enumerate(rng.uniform(0, large, (count, 2))):
        steps = np.linspace(0, 2 * np.pi, corners or int(rng.integers(3, 9)), endpoint=False) + turns[row]
        across, down = np.cos(steps) * radii[row], np.sin(steps) * radii[row] * flat[row]
        cos, sin = np.cos(turns[row]), np.sin(turns[row])
        outline = np.stack([x + across * cos - down * sin, y + across * sin + down * cos], 1)
        pen.polygon(outline.ravel().tolist(), fill=as_colour(colours[row]))
    return textured(rng, reduced(image, side))


def foliage(rng: np.random.Generator, side: int) -> np.ndarray:
    """Many thin strokes or leaves of similar colour and direction: grass, hair, needles, twigs."""
    large, count = side * FINE, int(rng.integers(80, 320))
    direction, spread = rng.uniform(0, np.pi), rng.uniform(0.1, 1.6)
    colours, length = palette(rng, count), large * rng.uniform(0.08, 0.5)
    image = Image.fromarray((255 * np.clip(coloured_noise(rng, side), 0, 1)).astype(np.uint8)).resize(
        (large, large)
    )
    pen, width = ImageDraw.Draw(image), int(rng.integers(1, 7))
    for row, (x, y) in enumerate(rng.uniform(0, large, (count, 2))):
        turn = direction + spread * rng.standard_normal()
        reach = length * rng.uniform(0.4, 1.2)
        bend = turn + rng.uniform(-0.5, 0.5)
        middle = (x + reach * np.cos(turn) / 2, y + reach * np.sin(turn) / 2)
        tip = (middle[0] + reach * np.cos(bend) / 2, middle[1] + reach * np.sin(bend) / 2)
        pen.line([(x, y), middle, tip], fill=as_colour(colours[row]), width=width)
    return textured(rng, reduced(image, side))


def landscape(rng: np.random.Generator, side: int) -> np.ndarray:
    """A sky and ranges of hills below each other, each with its own texture, paler with distance."""
    down, across = grid(side)
    image = linear(rng, side) * 0.5 + rng.uniform(0.2, 0.5)
    image = image + rng.uniform(0, 0.25) * spectral(rng, side, 1, 1.6)[0][..., None]
    levels = np.sort(rng.uniform(0.15, 1.0, int(rng.integers(1, 5))))
    colours = palette(rng, len(levels))
    for level, colour in zip(levels, colours, strict=True):
        ridge = level + rng.uniform(0.01, 0.12) * spectral(rng, side, 1, 1.5)[0][:1]
        tone = colour + 0.2 * coloured_noise(rng, side) - 0.1
        image = mix((down > ridge).astype(np.float32), image, tone.astype(np.float32))
    return image


def facade(rng: np.random.Generator, side: int) -> np.ndarray:
    """Walls of blocks with rows of windows, beams and edges, in one light: buildings, shelves, fences."""
    large = side * FINE
    image = Image.fromarray((255 * np.clip(coloured_noise(rng, side), 0, 1)).astype(np.uint8)).resize(
        (large, large)
    )
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 7))):
        left, top = rng.uniform(-0.3, 0.9, 2) * large
        width, height = rng.uniform(0.15, 0.9, 2) * large
        wall, window, frame = palette(rng, 3)
        pen.rectangle([left, top, left + width, top + height], fill=as_colour(wall))
        columns, rows = rng.integers(1, 9, 2)
        gap, inset = rng.uniform(0.1, 0.8), rng.random() < 0.5
        for column in range(columns):
            for row in range(rows):
                x, y = left + width * column / columns, top + height * row / rows
                box = [x, y, x + max(1, width / columns * (1 - gap)), y + max(1, height / rows * (1 - gap))]
                pen.rectangle(box, fill=as_colour(window), outline=as_colour(frame) if inset else None)
    if rng.random() < 0.6:
        image = image.rotate(
            rng.uniform(-25, 25), Image.Resampling.BILINEAR, fillcolor=as_colour(palette(rng, 1)[0])
        )
    return textured(rng, reduced(image, side))


def figure(rng: np.random.Generator, side: int) -> np.ndarray:
    """One to four large shaded bodies before a blurred ground: people, fruit, petals, cloth."""
    ground = coloured_noise(rng, side)
    down, across = grid(side)
    image = blurred(ground, rng.uniform(0, side / 12))
    for colour in palette(rng, int(rng.integers(1, 5))):
        x, y, turn = rng.random(), rng.random(), rng.uniform(0, np.pi)
        wide, tall = rng.uniform(0.08, 0.6, 2)
        along = ((across - x) * np.cos(turn) + (down - y) * np.sin(turn)) / wide
        aside = ((down - y) * np.cos(turn) - (across - x) * np.sin(turn)) / tall
        edge = 1 + rng.uniform(0, 0.25) * spectral(rng, side, 1, 1.6)[0]
        petals = 1 + rng.choice([0.0, rng.uniform(0.1, 0.5)]) * np.cos(
            rng.integers(3, 12) * np.arctan2(aside, along)
        )
        inside = np.clip((edge * petals - np.hypot(along, aside)) * rng.uniform(3, 20), 0, 1)
        angle = rng.uniform(0, 2 * np.pi)
        light = 1 + rng.uniform(0, 0.7) * (along * np.cos(angle) + aside * np.sin(angle))
        light = light + rng.uniform(0, 0.2) * spectral(rng, side, 1)[0]
        image = mix(inside.astype(np.float32), image, (colour * light[..., None]).astype(np.float32))
    return image


def bokeh(rng: np.random.Generator, side: int) -> np.ndarray:
    """Lights and things out of focus."""
    image = coloured_noise(rng, side) * rng.uniform(0.3, 1)
    down, across = grid(side)
    for colour in palette(rng, int(rng.integers(4, 24))):
        far = np.hypot(down - rng.random(), across - rng.random())
        disc = np.clip((rng.uniform(0.02, 0.18) - far) * side / 2, 0, 1) * rng.uniform(0.2, 0.9)
        image = mix(disc.astype(np.float32), image, np.clip(colour * 1.4, 0, 1.2).astype(np.float32))
    return image


def blurred(image: np.ndarray, radius: float) -> np.ndarray:
    """Gaussian blur of (side, side, 3) in [0, 1]."""
    pixels = Image.fromarray((255 * np.clip(image, 0, 1)).astype(np.uint8))
    return np.asarray(pixels.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def collage(drawings: np.ndarray) -> Maker:
    """Large pieces of drawings (n, h, w, 4) uint8, recoloured, layered and out of focus: the clutter of a scene, of
    which no part can be named."""

    def maker(rng: np.random.Generator, side: int) -> np.ndarray:
        canvas = Image.fromarray((255 * np.clip(coloured_noise(rng, side), 0, 1)).astype(np.uint8)).convert(
            "RGBA"
        )
        for row in rng.integers(len(drawings), size=int(rng.integers(2, 9))):
            piece = Image.fromarray(drawings[row])
            edge = int(piece.width * rng.uniform(0.2, 0.5))
            left, top = rng.integers(0, piece.width - edge, 2)
            piece = piece.crop((left, top, left + edge, top + edge))
            size = int(side * rng.uniform(0.4, 1.4))
            piece = piece.resize((size, size), Image.Resampling.BICUBIC).rotate(
                rng.uniform(0, 360), expand=True
            )
            pixels = np.asarray(piece, np.float32)
            pixels[..., :3] *= rng.uniform(0.5, 1.3, 3)
            if rng.random() < 0.5:
                pixels[..., :3] = pixels[..., rng.permutation(3)]
            piece = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            x, y = rng.integers(-size // 2, side - size // 3, 2).tolist()
            canvas.paste(piece, (x, y), piece)
        image = np.asarray(canvas.convert("RGB"), np.float32) / 255
        return blurred(image, rng.uniform(0.6, 2.5))

    return maker


def developed(maker: Maker) -> Maker:
    """A maker's pictures as a camera shows them: exposure, gamma, vignetting, focus, sensor noise."""

    def camera(rng: np.random.Generator, side: int) -> np.ndarray:
        image = np.clip(maker(rng, side), 0, 1)
        if rng.random() < 0.3:
            image = blurred(image, rng.uniform(0.4, 2.5))
        image = image ** rng.uniform(0.6, 1.6) * rng.uniform(0.7, 1.25)
        image = image * (1 + 0.08 * rng.standard_normal(3, np.float32))
        if rng.random() < 0.3:
            down, across = grid(side)
            image = image * (1 - rng.uniform(0, 0.9) * ((down - 0.5) ** 2 + (across - 0.5) ** 2))[..., None]
        if rng.random() < 0.3:
            image = image + rng.uniform(0, 0.06) * rng.standard_normal(image.shape, np.float32)
        return np.asarray(np.clip(image, 0, 1), np.float32)

    return camera


NATURAL: dict[str, Maker] = {
    maker.__name__: developed(maker)
    for maker in (coloured_noise, fractal, dead_leaves, foliage, landscape, facade, figure, bokeh)
}


def makers(drawings: np.ndarray) -> dict[str, Maker]:
    """All families; `drawings` (n, h, w, 4) uint8 are what collages are cut from."""
    return NATURAL | {"collage": developed(collage(drawings))}
