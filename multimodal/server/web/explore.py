"""What the web page asks of an index beside searches: pages of items, counts for filters, neighbours, waveforms, a map.

None of these needs a model. All block: call them in a thread.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.index import Index
from multimodal.index.results import VIDEO_PART, Scalar
from multimodal.index.storage import filters
from multimodal.index.storage.schema import ROW_COLUMNS, Row, read_rows
from multimodal.index.storage.table import ItemTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_VALUES = 40  # of a metadata key, the most frequent first
MAX_KEYS = 20
NEIGHBOURS = 8  # on each side
MAP_POINTS = 3000
WAVE_BARS, WAVE_SECONDS = 48, 120.0
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


def facets(
    index: Index, modality: Sequence[str] | str | None = None, where: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The number of items by modality and by value of each metadata key, for the filters of the page.

    The counts of a key are those of the items that meet all other filters, so that they say what choosing another value
    would find.

    Args:
        index: The index.
        modality: As in `Index.search`.
        where: As in `Index.search`.

    Returns:
        "total", "matching", "modalities": {name: count}, and "keys": [{"key", "distinct", "values": [{"value",
        "count"}]}].

    Raises:
        InvalidInput: A filter is invalid.
    """
    table = ItemTable.open(index.path)
    others = dict(where or {})
    condition = filters.condition(index.space, modality, others)
    groups = _groups(table, condition)
    keys = _count_values(groups)
    for key in others:
        rest = {other: value for other, value in others.items() if other != key}
        counts = _count_values(_groups(table, filters.condition(index.space, modality, rest))).get(
            key, Counter()
        )
        keys[key] = counts
    by_modality = groups if modality is None else _groups(table, filters.condition(index.space, None, others))
    names = Counter[str]()
    for name, is_video_part, _, count in by_modality:
        names[name] += count
        names["video"] += count if is_video_part else 0
    order = [*table.index_metadata.modalities, "video"]
    return {
        "total": table.count(),
        "matching": sum(count for *_, count in groups),
        "modalities": {name: names[name] for name in dict.fromkeys(order) if names[name]},
        "keys": [_key_content(key, keys[key]) for key in sorted(keys, key=lambda key: _rank(key, keys[key]))][
            :MAX_KEYS
        ],
    }


def _groups(table: ItemTable, condition: str | None) -> list[tuple[str, bool, str, int]]:
    """(modality, whether it is part of a video, metadata as JSON, count) of each combination."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = table.columns(["id", "modality", "metadata", "start_s"], condition)
    metadata = columns["metadata"]
    if isinstance(metadata.type, pa.BaseExtensionType):
        metadata = metadata.cast(pa.string())
    is_part = pc.match_substring_regex(columns["id"], VIDEO_PART.pattern.replace(r"\Z", "$"))
    if "start_s" in columns.column_names:
        is_part = pc.and_(is_part, pc.is_valid(columns["start_s"]))
    small = pa.table({"modality": columns["modality"], "part": is_part, "metadata": metadata})
    grouped = small.group_by(["modality", "part", "metadata"]).aggregate([([], "count_all")])
    return list(
        zip(
            *(grouped[name].to_pylist() for name in ("modality", "part", "metadata", "count_all")),
            strict=True,
        )
    )


def _count_values(groups: Sequence[tuple[str, bool, str, int]]) -> dict[str, Counter[tuple[type, Scalar]]]:
    """The number of items for each key and value. A value is counted with its type, since 1 == True in Python."""
    counts: dict[str, Counter[tuple[type, Scalar]]] = {}
    for _, _, metadata, count in groups:
        for key, value in json.loads(metadata or "{}").items():
            if value is not None:
                counts.setdefault(key, Counter())[type(value), value] += count
    return counts


def _rank(key: str, counts: Counter[tuple[type, Scalar]]) -> tuple[bool, str]:
    """Keys with few values first: one that differs for every item is no filter."""
    return len(counts) > MAX_VALUES, key


def _key_content(key: str, counts: Counter[tuple[type, Scalar]]) -> dict[str, Any]:
    first = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0][1])))[:MAX_VALUES]
    return {
        "key": key,
        "distinct": len(counts),
        "values": [{"value": value, "count": count} for (_, value), count in first],
    }


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
    import numpy as np

    from multimodal.core.items import Audio
    from multimodal.core.media.audio import read_seconds

    start = start_s or 0.0
    seconds = WAVE_SECONDS if end_s is None else min(WAVE_SECONDS, end_s - start)
    samples = read_seconds(Audio(path).stream(), start, seconds).samples
    peaks = [float(np.abs(part).max(initial=0)) for part in np.array_split(samples, WAVE_BARS)]
    loudest = max(peaks) or 1.0
    heights = [max(LEAST_HEIGHT, FULL_HEIGHT * peak / loudest) for peak in peaks]
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
