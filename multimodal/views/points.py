"""What a map shows: the vectors of an index and what is known of each, read without loading any model."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.index import Index
from multimodal.index.storage.schema import Row
from multimodal.index.storage.table import ItemTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEWEST = 2
LABEL_CHARS, TEXT_CHARS = 80, 400


@dataclass(frozen=True)
class Points:
    """rows[k] belongs to vectors[k] (n, dim), unit rows. total: how many the index holds."""

    index: Path
    space: str
    rows: tuple[Row, ...]
    vectors: NDArray[np.float32]
    total: int

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that occur, in the order of the first of each."""
        return tuple(dict.fromkeys(row.modality for row in self.rows))


def read_points(index: Index | str | os.PathLike[str], limit: int) -> Points:
    """At most `limit` items, evenly spread over the index. Raises IndexStateError if there is none, InvalidInput if it
    holds too little to draw."""
    import numpy as np

    path = index.path if isinstance(index, Index) else Path(index).expanduser().absolute()
    store = ItemTable.open(path)
    total = store.count()
    if total < FEWEST:
        holds = "is empty" if total == 0 else "holds one item"
        raise InvalidInput(
            f"the index at {str(path)!r} {holds}, and a map needs at least {FEWEST} items; add some with: multimodal "
            f"index FOLDER --index {path}"
        )
    wanted = set(np.linspace(0, total - 1, limit).round().astype(int).tolist()) if total > limit else None
    found = [pair for place, pair in enumerate(store.rows(vectors=True)) if wanted is None or place in wanted]
    vectors = np.stack([np.asarray(vector, np.float32) for _, vector in found])
    return Points(path, store.index_metadata.space, tuple(row for row, _ in found), vectors, total)


def label(row: Row) -> str:
    """A short name: the words of a text, the file name of anything else, and which part of it."""
    if row.text is not None:
        return _cut(" ".join(row.text[: 2 * LABEL_CHARS].split()), LABEL_CHARS)
    name = (row.uri or row.id).rstrip("/").rpartition("/")[2] or row.id
    part = "" if row.start_s is None or row.end_s is None else f" {row.start_s:.0f}–{row.end_s:.0f} s"
    return _cut(name, LABEL_CHARS) + part


def home(rows: Iterable[Row]) -> Path | None:
    """The folder that all files lie in, so that a map need not tell where on this machine that is."""
    paths = [row.uri for row in rows if row.uri is not None and Path(row.uri).is_absolute()]
    return Path(os.path.commonpath([str(Path(one).parent) for one in paths])) if paths else None


def told(row: Row, below: Path | None) -> dict[str, Any]:
    """What the map says of an item besides where it is: plain values, short. Paths are told from `below` on."""
    text = None if row.text is None else _cut(row.text.strip(), TEXT_CHARS)
    about = ", ".join(f"{key}: {value}" for key, value in row.metadata.items())
    uri = row.uri
    if uri is not None and below is not None and Path(uri).is_relative_to(below):
        uri = str(Path(uri).relative_to(below))
    return {"label": label(row), "text": text, "uri": uri, "about": _cut(about, TEXT_CHARS) or None}


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
