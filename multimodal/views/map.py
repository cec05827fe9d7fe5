"""plot_map(index, output): a two-dimensional map of an index, as an interactive page or as an image."""

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
    """What a map shows.

    Attributes:
        output: The written file.
        n_items: Points on the map.
        n_total: Items in the index.
        method: "umap" or "pca".
        centred: Whether the mean of each modality was subtracted.
        n_inlined: Images, videos and audio files embedded in the page.
        n_left_out: Files that were not embedded because the page reached `max_bytes`.
        n_missing: Files that do not exist any more, or cannot be read.
        n_bytes: Size of the written file, in bytes.
        notes: Remarks, such as why PCA was used.
    """

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
        """Converts the report to plain values.

        Returns:
            JSON values.
        """
        return asdict(self) | {"notes": list(self.notes)}


def plot_map(
    index: Index | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    method: str = "auto",
    centre: bool = True,
    seed: int = 0,
    limit: int = LIMIT,
    max_bytes: int = MAX_BYTES,
) -> MapReport:
    """Plots the items of an index on a plane: similar items are close, colours show modalities. Loads no model.

    Args:
        index: An Index, or its folder.
        output: "map.html", one self-contained page with zoom and filter, or "map.png" (needs matplotlib, extra `map`).
        method: "umap", "pca", or "auto": UMAP if it is installed.
        centre: Subtract the mean of each modality first. Without it, most spaces show one island per modality.
        seed: Seed of UMAP; the same seed gives the same map.
        limit: Maximum number of points; a larger index is sampled evenly.
        max_bytes: Maximum size of the media embedded in the page, in bytes.

    Returns:
        What the map shows.

    Raises:
        InvalidInput: The suffix is not .html or .png, the output's folder does not exist, or the index has fewer than
            two items.
        IndexStateError: There is no index.
        MissingExtra: UMAP or matplotlib is needed and not installed.
    """
    target = _checked(output, limit, max_bytes)
    points = read_points(index, limit)
    modalities = [row.modality for row in points.rows]
    vectors = projection.centred(points.vectors, modalities) if centre else points.vectors
    plane = projection.project(vectors, method, seed)
    notes = _notes(points, plane)
    media = embedded_media.EmbeddedMedia()
    if target.suffix.lower() == ".png":
        from multimodal.views import png

        png.save_map(target, points, plane, centre)
    else:
        media = embedded_media.embed(points.rows, max_bytes)
        notes += _media_notes(media, max_bytes)
        explanation = [*_explanation(points, plane, centre), *notes]
        target.write_text(map_page.page(points, plane, media.uris, explanation), encoding="utf-8")
    return MapReport(
        str(target), len(points.rows), points.total, plane.method, centre, len(media.uris), media.omitted,
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


def _explanation(points: Points, plane: projection.PlaneProjection, centre: bool) -> list[str]:
    """Sentences on how the map was made, for its readers."""
    several = len(points.modalities) > 1
    sentences = [
        "Each point is one item. Items that the model finds similar are close together; their names play no role."
    ]
    if centre and several:
        sentences.append(
            "The mean of each modality was subtracted first. Texts, images and audio occupy separate regions of the "
            "space whatever their meaning, and that gap would hide everything else."
        )
    elif several:
        sentences.append(
            "The vectors are unchanged. That each modality forms its own island is the modality gap of the space."
        )
    if plane.method == "umap":
        sentences.append(
            "UMAP keeps neighbours together. Distances between remote groups, and the density of a group, carry little "
            "information."
        )
    else:
        share = plane.explained_variance
        explained = "" if share is None else f", which explain {share:.0%} of the variance"
        sentences.append(
            f"The axes are the first two principal components{explained}. Neighbouring points may be apart in "
            "the other components."
        )
    return sentences


def _notes(points: Points, plane: projection.PlaneProjection) -> list[str]:
    notes = [] if plane.fallback_reason is None else [f"PCA is used: {plane.fallback_reason}"]
    if points.total > len(points.rows):
        notes.append(f"{len(points.rows):,} of {points.total:,} items are shown, sampled evenly")
    return notes


def _media_notes(media: embedded_media.EmbeddedMedia, max_bytes: int) -> Sequence[str]:
    notes = []
    if media.omitted:
        notes.append(
            f"{media.omitted:,} files are not embedded: the page holds {max_bytes / 1e6:,.0f} MB of media at most"
        )
    if media.unreadable:
        notes.append(
            f"{media.unreadable:,} files are not embedded: they do not exist any more, or cannot be read"
        )
    return notes
