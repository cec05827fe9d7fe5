"""similarity_heatmap(items, items): a matrix of cosine similarities, as in CLIP's notebooks."""

from __future__ import annotations

import base64
import html
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item, Text, as_items
from multimodal.core.media.registry import has_thumbnail
from multimodal.core.modality import Modality
from multimodal.core.pipeline import as_space, one_or_many
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_CELLS = 10_000
LABEL_CHARS = 48
SIDE = 72  # pixels of a thumbnail
LOW, HIGH = (247, 246, 243), (42, 102, 200)  # colours of the lowest and the highest cosine
DARK = 0.56  # luminance below which white text is more legible
SUFFIXES = (".html", ".png")


@dataclass(frozen=True)
class Axis:
    """The label of a row or column. thumbnail: a small JPEG of an image or a video, otherwise None."""

    modality: Modality
    label: str
    thumbnail: bytes | None = None


@dataclass(frozen=True, eq=False)
class Heatmap:
    """A matrix of cosine similarities that is shown as a table in a notebook.

    Attributes:
        cosines: (n, m) float32.
        rows: Labels of the n rows.
        columns: Labels of the m columns.
        space: Name of the space.
    """

    cosines: NDArray[np.float32]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    space: str

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the heatmap to a file.

        Args:
            path: A path that ends in .html (self-contained) or .png.

        Returns:
            The absolute path.

        Raises:
            InvalidInput: The suffix is another one, or the folder does not exist.
        """
        target = Path(path).expanduser().absolute()
        suffix = target.suffix.lower()
        if suffix not in SUFFIXES:
            raise InvalidInput(f"a heatmap is written as .html or .png, got {os.fspath(path)!r}")
        if not target.parent.is_dir():
            raise InvalidInput(f"cannot write the heatmap: the folder {target.parent} does not exist")
        if suffix == ".html":
            target.write_text(_page(self), encoding="utf-8")
        else:
            target.write_bytes(self._repr_png_())
        return target

    def shade(self, cosine: float) -> tuple[int, int, int]:
        """Computes the colour of a cell, from LOW to HIGH over the range of this matrix.

        Args:
            cosine: The value of the cell.

        Returns:
            Red, green and blue, 0 to 255.
        """
        low, high = float(self.cosines.min()), float(self.cosines.max())
        share = (cosine - low) / (high - low) if high > low else 0.5
        red, green, blue = (round(a + (b - a) * share) for a, b in zip(LOW, HIGH, strict=True))
        return red, green, blue

    def to_dict(self) -> dict[str, Any]:
        """Converts the heatmap to plain values.

        Returns:
            JSON values.
        """
        names = {
            side: [axis.label for axis in axes]
            for side, axes in (("rows", self.rows), ("columns", self.columns))
        }
        return {"space": self.space, **names, "cosines": self.cosines.tolist()}

    def __repr__(self) -> str:
        return f"Heatmap({len(self.rows)} x {len(self.columns)}, space={self.space!r})"

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col" style="vertical-align:bottom;text-align:center">{_label_html(axis, upright=True)}</th>'
            for axis in self.columns
        )
        sideways = '<th scope="row" style="text-align:right;padding-right:8px">'
        body = "".join(
            f"<tr>{sideways}{_label_html(axis)}</th>{''.join(map(self._cell, line))}</tr>"
            for axis, line in zip(self.rows, self.cosines.tolist(), strict=True)
        )
        about = f"Cosine similarities in the space {html.escape(self.space)}; the colours span the range of this table."
        below = "caption-side:bottom;text-align:left;font-size:12px;opacity:.75;padding-top:6px"
        return (
            '<div style="overflow-x:auto">'
            '<table style="border-collapse:separate;border-spacing:2px;text-align:center">'
            f'<caption style="{below}">{about}</caption>'
            f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def _repr_png_(self) -> bytes:
        from multimodal.views import png

        return png.draw_heatmap(self)

    def _cell(self, cosine: float) -> str:
        red, green, blue = self.shade(cosine)
        ink = "#fff" if luminance(red, green, blue) < DARK else "#1d2025"
        style = (
            f"background:rgb({red},{green},{blue});color:{ink};padding:8px;border-radius:5px;min-width:52px"
        )
        return (
            f'<td style="{style};font-variant-numeric:tabular-nums;text-align:center">{number(cosine)}</td>'
        )


def similarity_heatmap(
    items_a: object, items_b: object = None, *, space: Space | str | os.PathLike[str] = "starter"
) -> Heatmap:
    """Cosine similarity matrix of two lists of items.

    Args:
        items_a: Items of the rows, of any modalities that the space encodes: a str is text, a Path is media.
        items_b: Items of the columns. Default: `items_a`.
        space: A Space, or an argument of `load`.

    Returns:
        A Heatmap, which is shown as a table in a notebook.

    Raises:
        InvalidInput: A list is empty, or the matrix has more than 10,000 cells.
        UnsupportedModality: The space does not encode an item's modality.
        MediaError: A file cannot be read.
    """
    rows = as_items(one_or_many(items_a)[0])
    columns = rows if items_b is None else as_items(one_or_many(items_b)[0])
    if len(rows) * len(columns) > MAX_CELLS:
        raise InvalidInput(
            f"{len(rows):,} x {len(columns):,} cells are more than a heatmap shows ({MAX_CELLS:,} at most); give fewer "
            "items, or use space.similarity(a, b) for the numbers alone"
        )
    loaded = as_space(space)
    cosines = loaded.similarity(list(rows), list(columns))
    labels = tuple(map(_axis, rows))
    return Heatmap(cosines, labels, labels if items_b is None else tuple(map(_axis, columns)), loaded.name)


def number(cosine: float) -> str:
    """Two decimals, without a negative zero."""
    return f"{round(cosine, 2) + 0.0:.2f}"


def luminance(red: int, green: int, blue: int) -> float:
    """Approximate perceived lightness of a colour, 0 to 1."""
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


def _axis(item: Item) -> Axis:
    if isinstance(item, Text):
        return Axis(item.modality, _cut(" ".join(item.load().split())))
    name = Path(item.uri).name if item.uri else str(item.modality)
    return Axis(item.modality, _cut(name), _thumbnail(item) if has_thumbnail(item) else None)


def _thumbnail(item: Item) -> bytes:
    from multimodal.views.embedded_media import small_jpeg

    return small_jpeg(item, SIDE)


def _cut(text: str) -> str:
    return text if len(text) <= LABEL_CHARS else text[: LABEL_CHARS - 1] + "…"


def _label_html(axis: Axis, *, upright: bool = False) -> str:
    label = html.escape(axis.label)
    if axis.thumbnail is not None:
        data = base64.b64encode(axis.thumbnail).decode()
        style = f"max-width:{SIDE}px;display:inline-block;border-radius:5px"
        return f'<img alt="{label}" title="{label}" style="{style}" src="data:image/jpeg;base64,{data}">'
    icon = "♪ " if axis.modality == Modality.AUDIO else ""
    rotation = (
        "writing-mode:vertical-rl;transform:rotate(180deg);max-height:190px;margin:0 auto;" if upright else ""
    )
    return (
        f'<span style="{rotation}font-weight:500;display:inline-block;text-align:left">{icon}{label}</span>'
    )


def _page(heatmap: Heatmap) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    style = (
        "body{font:14px/1.4 system-ui,sans-serif;margin:24px}"
        "@media(prefers-color-scheme:dark){body{background:#14161a;color:#eceef1}}"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Similarities in {html.escape(heatmap.space)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
{heatmap._repr_html_()}
</body>
</html>
"""
