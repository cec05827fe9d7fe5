"""The map as a picture, by matplotlib."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.core.errors import MissingExtra, MultimodalError
from multimodal.core.modality import Modality
from multimodal.views.map_page import PLURALS
from multimodal.views.points import Points
from multimodal.views.projection import Flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from multimodal.index.storage.schema import Row

INCHES, DOTS_AN_INCH = (10.0, 7.5), 160
COLOURS = {"text": "#b25f06", "image": "#2a66c8", "audio": "#7c3fc0", "video": "#0f8a7d"}
MARKS = {"text": "o", "image": "s", "audio": "^", "video": "D"}
MOST_PICTURES, PICTURE_SIDE = 120, 64  # thumbnails, and their pixels; of more, dots alone are clearer
BELOW, ABOVE = 2, 4  # thumbnails lie below the marks of texts and sounds
PAPER, SOFT = "#f7f6f3", "#5c636e"


def save(target: Path, points: Points, flat: Flat, centred: bool) -> None:
    """Writes a PNG. Raises MissingExtra without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("a map as .png", package="matplotlib", extra="map") from error
    figure = Figure(figsize=INCHES, dpi=DOTS_AN_INCH, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot()
    _scatter(axes, points, flat)
    axes.set_title(f"{points.index.name}", loc="left", fontsize=13, fontweight="bold")
    how = (
        "UMAP"
        if flat.method == "umap"
        else "PCA"
        if flat.kept is None
        else f"PCA, {flat.kept:.0%} of the variance"
    )
    about = f"{len(points.rows):,} items in the space {points.space}; {how}" + (
        "; each kind's mean taken away" if centred and len(points.modalities) > 1 else ""
    )
    axes.set_xlabel(about, fontsize=9, color=SOFT, loc="left")
    figure.savefig(target, format="png")


def _scatter(axes: Axes, points: Points, flat: Flat) -> None:
    counts = Counter(row.modality for row in points.rows)
    size = 34.0 if len(points.rows) <= 800 else 12.0 if len(points.rows) <= 4000 else 5.0
    for kind in points.modalities:
        own = [number for number, row in enumerate(points.rows) if row.modality == kind]
        axes.scatter(
            flat.places[own, 0], flat.places[own, 1], s=size, c=COLOURS.get(kind, SOFT), marker=MARKS.get(kind, "o"),
            alpha=0.8, linewidths=0.3, edgecolors=PAPER, label=f"{PLURALS.get(kind, kind)} ({counts[kind]:,})",
            zorder=ABOVE if kind != Modality.IMAGE else BELOW,
        )  # fmt: skip
    pictures = [number for number, row in enumerate(points.rows) if row.modality == Modality.IMAGE]
    for number in pictures if len(pictures) <= MOST_PICTURES else ():
        _thumbnail(axes, points.rows[number], (flat.places[number, 0], flat.places[number, 1]))
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_facecolor("white")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_color("#e0ddd5")
    axes.legend(loc="best", frameon=True, fontsize=10, markerscale=1.6 if size < 20 else 1.0)


def _thumbnail(axes: Axes, row: Row, place: tuple[float, float]) -> None:
    """The picture itself in place of its mark, if its file is there."""
    import numpy as np
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    from multimodal.core.media.registry import open_as, thumbnail

    path = Path(row.uri) if row.uri and "\0" not in row.uri else None
    if path is None or not path.is_file():
        return
    try:
        pixels = thumbnail(open_as(path, Modality.IMAGE), PICTURE_SIDE)
    except MultimodalError:  # it has changed since it was indexed: its mark stays
        return
    frame = {"edgecolor": COLOURS["image"], "linewidth": 1.2, "facecolor": PAPER}
    # drawn at half a dot a pixel, since a figure is denser than a screen
    axes.add_artist(
        AnnotationBbox(
            OffsetImage(np.asarray(pixels), zoom=0.5), place, frameon=True, pad=0.08, bboxprops=frame
        )
    )
