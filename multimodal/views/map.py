"""draw_map(index, output): an index as a picture to walk about in, or to print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.index import Index
from multimodal.views import embedded_media, map_page, projection
from multimodal.views.points import Points, read_points

SUFFIXES = (".html", ".png")
LIMIT, MAX_BYTES = 20_000, 24_000_000


@dataclass(frozen=True)
class MapReport:
    """What was drawn. n_items: points on the map; n_total: items in the index. method: "umap" or "pca". centred:
    whether each modality's mean was taken away first. n_inlined: pictures and sounds within the page; n_left_out:
    those beyond its limit; n_missing: those whose files are not there any more. notes: what else should be known."""

    output: str
    n_items: int
    n_total: int
    method: str
    centred: bool
    n_inlined: int
    n_left_out: int
    n_missing: int
    n_bytes: int
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self) | {"notes": list(self.notes)}


def draw_map(
    index: Index | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    method: str = "auto",
    centre: bool = True,
    seed: int = 0,
    limit: int = LIMIT,
    max_bytes: int = MAX_BYTES,
) -> MapReport:
    """Draws every item of an index where its vector lies among the others, coloured by modality.

    output: "map.html", one self-contained page to zoom into and search, or "map.png" (needs matplotlib, the extra
    `map`). method: "umap", "pca", or "auto" (UMAP where installed). centre: take each modality's mean away first;
    without it the map of most spaces is one island for each modality. limit: of items, evenly chosen where the index
    holds more. max_bytes: of the pictures and sounds within the page. No model is loaded.
    Raises InvalidInput for another suffix, an index of no or one item or an output without a folder, IndexStateError,
    MissingExtra.
    """
    target = _checked(output, limit, max_bytes)
    points = read_points(index, limit)
    kinds = [row.modality for row in points.rows]
    vectors = projection.centred(points.vectors, kinds) if centre else points.vectors
    drawn = projection.flatten(vectors, method, seed)
    notes = _notes(points, drawn)
    media = embedded_media.Inlined()
    if target.suffix.lower() == ".png":
        from multimodal.views import map_png

        map_png.save(target, points, drawn, centre)
    else:
        media = embedded_media.inline(points.rows, max_bytes)
        notes += _media_notes(media, max_bytes)
        how = [*_how(points, drawn, centre), *notes]
        target.write_text(map_page.page(points, drawn, media.uris, how), encoding="utf-8")
    return MapReport(
        str(target), len(points.rows), points.total, drawn.method, centre, len(media.uris), media.left_out,
        media.unreadable, target.stat().st_size, tuple(notes),
    )  # fmt: skip


def _checked(output: str | os.PathLike[str], limit: int, max_bytes: int) -> Path:
    target = Path(output).expanduser().absolute()
    if target.suffix.lower() not in SUFFIXES:
        raise InvalidInput(f"a map is written as .html or .png, got {os.fspath(output)!r}")
    if target.is_dir() or not target.parent.is_dir():
        what = f"{target} is a folder" if target.is_dir() else f"the folder {target.parent} does not exist"
        raise InvalidInput(f"cannot write the map: {what}")
    for name, value in (("limit", limit), ("max_bytes", max_bytes)):
        if value < (2 if name == "limit" else 0):
            raise InvalidInput(
                f"{name} must be a whole number of at least {2 if name == 'limit' else 0}, got {value!r}"
            )
    return target


def _how(points: Points, drawn: projection.Flat, centre: bool) -> list[str]:
    """What was done, for the reader of the page."""
    several = len(points.modalities) > 1
    said = [
        "Each point is one item; what lies close together was found alike by the model. Its name was not seen."
    ]
    if centre and several:
        said.append(
            "Before flattening, each kind's mean was taken away: texts, pictures and sounds lie apart in the space "
            "whatever they mean, and that gap would hide everything else."
        )
    elif several:
        said.append(
            "The vectors are as the model made them; that each kind has its own island is the modality gap."
        )
    if drawn.method == "umap":
        said.append(
            "UMAP keeps neighbours together; distances between far groups, and how dense a group is, mean little."
        )
    else:
        kept = "" if drawn.kept is None else f", which keep {drawn.kept:.0%} of the variance"
        said.append(
            f"The axes are the two principal components{kept}: what is close here may lie apart in the others."
        )
    return said


def _notes(points: Points, drawn: projection.Flat) -> list[str]:
    notes = [] if drawn.why is None else [f"drawn by PCA: {drawn.why}"]
    if points.total > len(points.rows):
        notes.append(f"{len(points.rows):,} of {points.total:,} items are shown, evenly chosen")
    return notes


def _media_notes(media: embedded_media.Inlined, max_bytes: int) -> Sequence[str]:
    notes = []
    if media.left_out:
        notes.append(
            f"{media.left_out:,} pictures and sounds are named only: the page holds {max_bytes / 1e6:,.0f} MB of them"
        )
    if media.unreadable:
        notes.append(
            f"{media.unreadable:,} pictures and sounds are named only: their files are not there or not readable"
        )
    return notes
