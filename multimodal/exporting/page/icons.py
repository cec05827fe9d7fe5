"""The icon of the page as PNG, for home screens, which take no SVG."""

from __future__ import annotations

import PIL.Image
import PIL.ImageDraw

from multimodal.core.media.thumbnail import encode_image

SIZES = (192, 512)
PAPER = (247, 246, 243)
# Centre, in 24ths of the side, and colour of each disc, as in icon.svg.
DISCS = (((9, 9), (194, 112, 12)), ((16, 10), (47, 111, 214)), ((12, 16), (132, 70, 200)))
RADIUS, MARGIN = 6, 4  # in 24ths; the margin lets a system cut the icon to any shape
OVERSAMPLING = 4
OPACITY = 230


def icon(side: int) -> bytes:
    """The icon with sides of so many pixels, as a PNG file."""
    canvas = PIL.Image.new("RGBA", (side * OVERSAMPLING,) * 2, (*PAPER, 255))
    unit = side * OVERSAMPLING / (24 + 2 * MARGIN)
    for (x, y), colour in DISCS:
        layer = PIL.Image.new("RGBA", canvas.size)
        box = [(value + MARGIN + sign * RADIUS) * unit for sign in (-1, 1) for value in (x, y)]
        PIL.ImageDraw.Draw(layer).ellipse(box, (*colour, OPACITY))
        canvas = PIL.Image.alpha_composite(canvas, layer)
    return encode_image(
        canvas.convert("RGB").resize((side, side), PIL.Image.Resampling.BOX), "PNG", optimize=True
    )
