"""The heatmap as a PNG, drawn with Pillow alone, which is always there."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from multimodal.core.modality import Modality

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from multimodal.views.heatmap import Axis, Heatmap

    Font = FreeTypeFont | ImageFont

CELL = 76  # pixels of a cell's side; thumbnails are SIDE
GAP, EDGE = 4, 18
FONT_PIXELS = 15
PAPER, INK = (255, 255, 255), (29, 32, 37)


def draw(heatmap: Heatmap) -> bytes:
    """A PNG with labels or thumbnails on both axes and the cosine in every cell."""
    font = _font()
    left, top = _room(heatmap.rows, font), _room(heatmap.columns, font)
    step = CELL + GAP
    width = left + step * len(heatmap.columns) + 2 * EDGE
    height = top + step * len(heatmap.rows) + 2 * EDGE
    canvas = PIL.Image.new("RGB", (width, height), PAPER)
    pen = PIL.ImageDraw.Draw(canvas)
    for row, axis in enumerate(heatmap.rows):
        part = _labelled(axis, font)
        canvas.paste(
            part, (EDGE + left - GAP - part.width, EDGE + top + row * step + (CELL - part.height) // 2)
        )
    for column, axis in enumerate(heatmap.columns):
        part = _labelled(axis, font)
        if axis.thumbnail is None:
            part = part.transpose(PIL.Image.Transpose.ROTATE_90)
        canvas.paste(
            part, (EDGE + left + column * step + (CELL - part.width) // 2, EDGE + top - GAP - part.height)
        )
    for row, line in enumerate(heatmap.cosines.tolist()):
        for column, cosine in enumerate(line):
            _cell(pen, heatmap, cosine, EDGE + left + column * step, EDGE + top + row * step, font)
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return file.getvalue()


def _cell(pen: PIL.ImageDraw.ImageDraw, heatmap: Heatmap, cosine: float, x: int, y: int, font: Font) -> None:
    from multimodal.views.heatmap import DARK, luminance, number

    colour = heatmap.shade(cosine)
    pen.rounded_rectangle((x, y, x + CELL - 1, y + CELL - 1), radius=6, fill=colour)
    ink = PAPER if luminance(*colour) < DARK else INK
    pen.text((x + CELL / 2, y + CELL / 2), number(cosine), fill=ink, font=font, anchor="mm")


def _room(axes: tuple[Axis, ...], font: Font) -> int:
    """How far the widest thing on an axis reaches."""
    return max(_labelled(axis, font).width for axis in axes) + 2 * GAP


def _labelled(axis: Axis, font: Font) -> PIL.Image.Image:
    if axis.thumbnail is not None:
        return PIL.Image.open(io.BytesIO(axis.thumbnail)).convert("RGB")
    text = f"{'sound: ' * (axis.modality == Modality.AUDIO)}{axis.label}"
    box = font.getbbox(text)
    part = PIL.Image.new("RGB", (int(box[2]) + 4, FONT_PIXELS + 8), PAPER)
    PIL.ImageDraw.Draw(part).text((0, part.height / 2), text, fill=INK, font=font, anchor="lm")
    return part


def _font() -> Font:
    """DejaVu, which knows most alphabets, where matplotlib brings it; else Pillow's own."""
    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin is not None:
        file = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return PIL.ImageFont.truetype(file, FONT_PIXELS)
    return PIL.ImageFont.load_default(FONT_PIXELS)
