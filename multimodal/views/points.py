"""The points of a map: vectors and rows of an index, read without loading a model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.core.remote.path import AnyPath, GivenPath
from multimodal.index import Index
from multimodal.index.opening import index_folder
from multimodal.index.storage.schema import Row
from multimodal.index.storage.table import ItemTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_ITEMS = 2
LABEL_CHARS, TEXT_CHARS = 80, 400


@dataclass(frozen=True)
class Points:
    """Items of an index: rows (n), unit vectors (n, dim), and the total number of items in the index."""

    index: AnyPath
    space: str
    rows: tuple[Row, ...]
    vectors: NDArray[np.float32]
    total: int

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that occur, in the order of their first item."""
        return tuple(dict.fromkeys(row.modality for row in self.rows))


def read_points(index: Index | GivenPath, limit: int) -> Points:
    """At most `limit` items, evenly spread over the index.

    Raises IndexStateError if there is no index, InvalidInput if it has fewer than two items.
    """
    import numpy as np

    path = index.path if isinstance(index, Index) else index_folder(index)
    table = ItemTable.open(path)
    total = table.count()
    if total < MIN_ITEMS:
        holds = "is empty" if total == 0 else "holds one item"
        raise InvalidInput(
            f"the index at {str(path)!r} {holds}, and a map needs at least {MIN_ITEMS} items; add some with: "
            f"multimodal index FOLDER --index {path}"
        )
    wanted = set(np.linspace(0, total - 1, limit).round().astype(int).tolist()) if total > limit else None
    pairs = [
        pair for position, pair in enumerate(table.rows(vectors=True)) if wanted is None or position in wanted
    ]
    vectors = np.stack([np.asarray(vector, np.float32) for _, vector in pairs])
    return Points(path, table.index_metadata.space, tuple(row for row, _ in pairs), vectors, total)


def label(row: Row) -> str:
    """A short name: the start of a text; otherwise the file name, with the time range of a chunk."""
    if row.text is not None:
        return _cut(" ".join(row.text[: 2 * LABEL_CHARS].split()), LABEL_CHARS)
    name = (row.uri or row.id).rstrip("/").rpartition("/")[2] or row.id
    time_range = "" if row.start_s is None or row.end_s is None else f" {row.start_s:.0f}–{row.end_s:.0f} s"
    return _cut(name, LABEL_CHARS) + time_range


def common_folder(rows: Iterable[Row]) -> Path | None:
    """The folder that contains all files; maps show paths relative to it, and do not reveal it."""
    paths = [row.uri for row in rows if row.uri is not None and Path(row.uri).is_absolute()]
    return Path(os.path.commonpath([str(Path(path).parent) for path in paths])) if paths else None


def describe(row: Row, folder: Path | None) -> dict[str, Any]:
    """What the map shows of an item: short plain values, with paths relative to `folder`."""
    text = None if row.text is None else _cut(row.text.strip(), TEXT_CHARS)
    about = ", ".join(f"{key}: {value}" for key, value in row.metadata.items())
    uri = row.uri
    if uri is not None and folder is not None and Path(uri).is_relative_to(folder):
        uri = str(Path(uri).relative_to(folder))
    return {"label": label(row), "text": text, "uri": uri, "about": _cut(about, TEXT_CHARS) or None}


def _cut(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else text[: max_chars - 1] + "…"
