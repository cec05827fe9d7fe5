"""What the web page asks of an index beside searches and counts: pages of items, neighbours, waveforms, a map.

None of these needs a model. All block: call them in a thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.index import Index
from multimodal.index.storage import filters
from multimodal.index.storage.schema import ROW_COLUMNS, Row, read_rows
from multimodal.index.storage.table import ItemTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS = 8  # on each side
MAP_POINTS = 3000
WAVE_BARS = 48
LEAST_HEIGHT, FULL_HEIGHT = 3.0, 60.0


def page_of_items(
    index: Index,
    offset: int,
    limit: int,
    modality: Sequence[str] | str | None = None,
    where: Mapping[str, Any] | None = None,
) -> tuple[list[Row], int]:
    """Items in the order of the files on disk, and the number of all that match. Raises InvalidInput."""
    table = ItemTable.open(index.path)
    condition = filters.condition(index.space, modality, where)
    rows = read_rows(table.columns(ROW_COLUMNS, condition, offset=offset, limit=limit))
    return rows, table.count(condition)


def neighbours(index: Index, id_: str) -> tuple[str, list[Row]]:
    """The items before and after one, and that item between them.

    Returns:
        "document" and chunks of the same recording or document in their order; else "time" and items by the time of
        their files, or "folder" if these times are all the same. No rows if there is no such item.
    """
    table = ItemTable.open(index.path)
    own = table.columns(["id", "source", "mtime_ns"], filters.is_in("id", [id_], "id")).to_pylist()
    if not own:
        return "document", []
    source = own[0].get("source", id_)
    if source != id_:
        chunks = read_rows(table.columns(ROW_COLUMNS, filters.is_in("source", [source], "source")))
        chunks.sort(key=lambda row: (row.start_s or 0.0, row.start_char or 0, row.id))
        ids = [row.id for row in chunks]
        return "document", chunks[_around(ids.index(id_))]
    files = table.columns(["id", "mtime_ns"], "mtime_ns IS NOT NULL AND id = source")
    if id_ not in (ordered := _by_time(files)):
        return "time", []
    near = list(ordered)[_around(list(ordered).index(id_))]
    rows = {row.id: row for row in read_rows(table.columns(ROW_COLUMNS, filters.is_in("id", near, "id")))}
    kind = "time" if len({ordered[other] for other in near}) > 1 else "folder"
    return kind, [rows[other] for other in near if other in rows]


def _by_time(files: Any) -> dict[str, int]:
    """Ids and times of files, in the order of time, then of id."""
    import pyarrow.compute as pc

    order = pc.sort_indices(files, sort_keys=[("mtime_ns", "ascending"), ("id", "ascending")])
    ordered = files.take(order)
    return dict(zip(ordered["id"].to_pylist(), ordered["mtime_ns"].to_pylist(), strict=True))


def _around(position: int) -> slice:
    return slice(max(0, position - NEIGHBOURS), position + NEIGHBOURS + 1)


def waveform_svg(path: Path, start_s: float | None, end_s: float | None) -> str:
    """A drawing of the peaks of a recording, or of a part of it, in black on nothing.

    Raises:
        MediaError: The file cannot be decoded.
    """
    from multimodal.core.items import Audio
    from multimodal.core.media.audio import peaks

    heights = [
        max(LEAST_HEIGHT, FULL_HEIGHT * peak)
        for peak in peaks(Audio(path).stream(), start_s, end_s, WAVE_BARS)
    ]
    bars = "".join(
        f'<rect x="{4 * k}" y="{32 - height / 2:.1f}" width="2.4" height="{height:.1f}" rx="1.2"/>'
        for k, height in enumerate(heights)
    )
    size = f'viewBox="0 0 {4 * WAVE_BARS - 1.6} 64" preserveAspectRatio="none" width="192" height="64"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{bars}</svg>'


def point_map(index: Index) -> dict[str, Any]:
    """A map of an index: positions of at most MAP_POINTS items, sampled evenly, from 0 to 1.

    Raises:
        InvalidInput: There are fewer than two items.
    """
    from multimodal.views.points import label, read_points
    from multimodal.views.projection import centred, project

    points = read_points(index, MAP_POINTS)
    vectors: NDArray[Any] = centred(points.vectors, [row.modality for row in points.rows])
    plane = project(vectors, "auto", 0)
    notes = []
    if points.total > len(points.rows):
        notes.append(f"{len(points.rows):,} of {points.total:,} items are shown, sampled evenly")
    placed = zip(points.rows, plane.positions.round(5).tolist(), strict=True)
    return {
        "method": "UMAP" if plane.method == "umap" else "the two principal components",
        "total": points.total,
        "notes": notes,
        "points": [
            {"id": row.id, "modality": row.modality, "label": label(row), "x": x, "y": 1 - y}
            for row, (x, y) in placed
        ],
    }


def row_contents(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Items as JSON, with the keys of `Index.rows`."""
    for row in rows:
        yield row._asdict()
