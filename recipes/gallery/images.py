"""Renders the gallery's images: one or two Noto Color Emoji glyphs, some recoloured, on a background."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, features

from recipes.gallery import backgrounds
from recipes.gallery.items import Scene
from recipes.starter.captioner import captions
from recipes.starter.data import glyphs

SIDE = 288
GLYPH_CANVAS = (420, 200)
QUALITY = {".jpg": {"quality": 84}, ".webp": {"quality": 80, "method": 6}, ".png": {"optimize": True}}
# where each thing's middle is, and how large it is, as shares of the side
ALONE = ((0.5, 0.53, 0.72),)
TWO = ((0.29, 0.54, 0.5), (0.73, 0.58, 0.46))


def glyph(emoji: str, side: int) -> Image.Image:
    """One emoji, cropped and centred, RGBA (side, side)."""
    if not features.check("raqm"):
        raise RuntimeError(
            "Pillow has no raqm: joined emoji would be split without an error; install libraqm0"
        )
    canvas = Image.new("RGBA", GLYPH_CANVAS, (0, 0, 0, 0))
    font = ImageFont.truetype(str(glyphs.NOTO), glyphs.NOTO_SIZE)
    ImageDraw.Draw(canvas).text((20, 20), emoji, font=font, embedded_color=True)
    return Image.fromarray(glyphs.square(canvas, side))


def recolour(image: Image.Image, colour: str) -> Image.Image:
    """The same drawing in shades of one named colour."""
    pixels = np.asarray(image).astype(np.float64)
    light = pixels[..., :3] @ (0.299, 0.587, 0.114) / 255
    paint = np.array(captions.COLOURS[colour]) / 255
    middle = np.average(light, weights=pixels[..., 3] + 1e-9)
    # the drawing's middle brightness becomes the colour itself; darker goes to black, lighter to white
    dark = (light / middle).clip(0, 1)[..., None] * paint
    white = ((light - middle) / (1 - middle)).clip(0, 1)[..., None]
    pixels[..., :3] = 255 * (dark + (1 - dark) * white * 0.8)
    return Image.fromarray(pixels.round().astype(np.uint8))


def draw(scene: Scene) -> Image.Image:
    """The picture of a scene, RGB (SIDE, SIDE); the same on every run."""
    rng = np.random.default_rng(zlib.crc32(scene.name.encode()))
    behind = backgrounds.PLACES[scene.place](rng, SIDE)
    behind = backgrounds.grain(rng, behind) if scene.place not in backgrounds.SHARP else behind
    canvas = Image.fromarray((behind.clip(0, 1) * 255).round().astype(np.uint8))
    if scene.place not in backgrounds.SHARP:
        canvas = canvas.filter(ImageFilter.GaussianBlur(1.6))
    for subject, (x, y, size) in zip(scene.subjects, TWO if len(scene.subjects) == 2 else ALONE, strict=True):
        side = round(SIDE * size * rng.uniform(0.92, 1.06))
        drawn = glyph(subject, side)
        drawn = recolour(drawn, scene.colour) if scene.colour else drawn
        left, top = (
            round(SIDE * x - side / 2 + rng.uniform(-8, 8)),
            round(SIDE * y - side / 2 + rng.uniform(-6, 6)),
        )
        shade = Image.new("RGBA", canvas.size, (0, 0, 0, 0))
        shade.paste((10, 14, 24, 80), (left, top + round(0.03 * side)), drawn.getchannel("A"))
        canvas.paste(
            Image.new("RGB", canvas.size, (10, 14, 24)),
            mask=shade.filter(ImageFilter.GaussianBlur(6)).getchannel("A"),
        )
        canvas.paste(drawn, (left, top), drawn)
    return canvas


def write(scene: Scene, folder: Path) -> Path:
    """Draws a scene into `folder`."""
    path = folder / scene.name
    image = draw(scene)
    if path.suffix == ".png":  # tints only: 128 colours hold them, at a third of the size
        image = image.quantize(128, dither=Image.Dither.NONE)
    image.save(path, **QUALITY[path.suffix])
    return path
