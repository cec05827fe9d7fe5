"""Heatmaps and maps as PNG images: heatmaps by Pillow, which is always installed, maps by matplotlib."""

from __future__ import annotations

import importlib.util
import io
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from multimodal.core.errors import MissingExtra, MultimodalError
from multimodal.core.modality import Modality
from multimodal.views.map_page import PLURALS
from multimodal.views.points import Points
from multimodal.views.projection import PlaneProjection

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.ImageFont import FreeTypeFont, ImageFont

    from multimodal.index.storage.schema import Row
    from multimodal.views.heatmap import Axis, Heatmap

    Font = FreeTypeFont | ImageFont

# Heatmap
CELL = 76  # side of a cell, in pixels
GAP, EDGE = 4, 18
FONT_PIXELS = 15
WHITE, INK = (255, 255, 255), (29, 32, 37)
# Map
FIGURE_INCHES, DOTS_PER_INCH = (10.0, 7.5), 160
COLOURS = {"text": "#b25f06", "image": "#2a66c8", "audio": "#7c3fc0", "video": "#0f8a7d"}
MARKERS = {"text": "o", "image": "s", "audio": "^", "video": "D"}
MAX_THUMBNAILS, THUMBNAIL_SIDE = 120, 64  # with more images, markers are clearer
IMAGE_LAYER, OTHER_LAYER = 2, 4  # thumbnails are behind the markers of other modalities
BACKGROUND, CAPTION_COLOUR = "#f7f6f3", "#5c636e"


def draw_heatmap(heatmap: Heatmap) -> bytes:
    """A PNG with labels or thumbnails on both axes and the cosine in every cell."""
    font = _heatmap_font()
    left, top = _max_width(heatmap.rows, font), _max_width(heatmap.columns, font)
    step = CELL + GAP
    width = left + step * len(heatmap.columns) + 2 * EDGE
    height = top + step * len(heatmap.rows) + 2 * EDGE
    canvas = PIL.Image.new("RGB", (width, height), WHITE)
    pen = PIL.ImageDraw.Draw(canvas)
    for row, axis in enumerate(heatmap.rows):
        label = _label_image(axis, font)
        canvas.paste(
            label, (EDGE + left - GAP - label.width, EDGE + top + row * step + (CELL - label.height) // 2)
        )
    for column, axis in enumerate(heatmap.columns):
        label = _label_image(axis, font)
        if axis.thumbnail is None:
            label = label.transpose(PIL.Image.Transpose.ROTATE_90)
        canvas.paste(
            label, (EDGE + left + column * step + (CELL - label.width) // 2, EDGE + top - GAP - label.height)
        )
    for row, line in enumerate(heatmap.cosines.tolist()):
        for column, cosine in enumerate(line):
            _draw_cell(pen, heatmap, cosine, EDGE + left + column * step, EDGE + top + row * step, font)
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return file.getvalue()


def _draw_cell(
    pen: PIL.ImageDraw.ImageDraw, heatmap: Heatmap, cosine: float, x: int, y: int, font: Font
) -> None:
    from multimodal.views.heatmap import DARK, luminance, number

    colour = heatmap.shade(cosine)
    pen.rounded_rectangle((x, y, x + CELL - 1, y + CELL - 1), radius=6, fill=colour)
    ink = WHITE if luminance(*colour) < DARK else INK
    pen.text((x + CELL / 2, y + CELL / 2), number(cosine), fill=ink, font=font, anchor="mm")


def _max_width(axes: tuple[Axis, ...], font: Font) -> int:
    """Width of the widest label of an axis, in pixels."""
    return max(_label_image(axis, font).width for axis in axes) + 2 * GAP


def _label_image(axis: Axis, font: Font) -> PIL.Image.Image:
    if axis.thumbnail is not None:
        return PIL.Image.open(io.BytesIO(axis.thumbnail)).convert("RGB")
    text = f"{'audio: ' * (axis.modality == Modality.AUDIO)}{axis.label}"
    box = font.getbbox(text)
    label = PIL.Image.new("RGB", (int(box[2]) + 4, FONT_PIXELS + 8), WHITE)
    PIL.ImageDraw.Draw(label).text((0, label.height / 2), text, fill=INK, font=font, anchor="lm")
    return label


def _heatmap_font() -> Font:
    """DejaVu, which covers most alphabets, if matplotlib is installed; otherwise Pillow's default font."""
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return PIL.ImageFont.truetype(file, FONT_PIXELS)
    return PIL.ImageFont.load_default(FONT_PIXELS)


def save_map(target: Path, points: Points, plane: PlaneProjection, centred: bool) -> None:
    """Writes a PNG. Raises MissingExtra without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("a map as .png", package="matplotlib", extra="map") from error
    figure = Figure(figsize=FIGURE_INCHES, dpi=DOTS_PER_INCH, facecolor=BACKGROUND, layout="constrained")
    axes = figure.add_subplot()
    _scatter(axes, points, plane)
    axes.set_title(f"{points.index.name}", loc="left", fontsize=13, fontweight="bold")
    method = (
        "UMAP"
        if plane.method == "umap"
        else "PCA"
        if plane.explained_variance is None
        else f"PCA, {plane.explained_variance:.0%} of the variance"
    )
    caption = f"{len(points.rows):,} items in the space {points.space}; {method}" + (
        "; mean of each modality subtracted" if centred and len(points.modalities) > 1 else ""
    )
    axes.set_xlabel(caption, fontsize=9, color=CAPTION_COLOUR, loc="left")
    figure.savefig(target, format="png")


def _scatter(axes: Axes, points: Points, plane: PlaneProjection) -> None:
    counts = Counter(row.modality for row in points.rows)
    size = 34.0 if len(points.rows) <= 800 else 12.0 if len(points.rows) <= 4000 else 5.0
    for modality in points.modalities:
        own = [number for number, row in enumerate(points.rows) if row.modality == modality]
        axes.scatter(
            plane.positions[own, 0], plane.positions[own, 1], s=size, c=COLOURS.get(modality, CAPTION_COLOUR),
            marker=MARKERS.get(modality, "o"), alpha=0.8, linewidths=0.3, edgecolors=BACKGROUND,
            label=f"{PLURALS.get(modality, modality)} ({counts[modality]:,})",
            zorder=OTHER_LAYER if modality != Modality.IMAGE else IMAGE_LAYER,
        )  # fmt: skip
    images = [number for number, row in enumerate(points.rows) if row.modality == Modality.IMAGE]
    for number in images if len(images) <= MAX_THUMBNAILS else ():
        _thumbnail(axes, points.rows[number], (plane.positions[number, 0], plane.positions[number, 1]))
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_facecolor("white")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("#e0ddd5")
    axes.legend(loc="best", frameon=True, fontsize=10, markerscale=1.6 if size < 20 else 1.0)


def _thumbnail(axes: Axes, row: Row, position: tuple[float, float]) -> None:
    """Draws the image itself over its marker, if its file exists."""
    import numpy as np
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    from multimodal.core.media.registry import open_as, thumbnail

    path = Path(row.uri) if row.uri and "\0" not in row.uri else None
    if path is None or not path.is_file():
        return
    try:
        pixels = thumbnail(open_as(path, Modality.IMAGE), THUMBNAIL_SIDE)
    except MultimodalError:  # the file has changed since it was indexed: its marker stays
        return
    frame = {"edgecolor": COLOURS["image"], "linewidth": 1.2, "facecolor": BACKGROUND}
    # half a dot per pixel, because a figure is denser than a screen
    axes.add_artist(
        AnnotationBbox(
            OffsetImage(np.asarray(pixels), zoom=0.5), position, frameon=True, pad=0.08, bboxprops=frame
        )
    )
