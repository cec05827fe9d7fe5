"""One version of an index, which stays as it is while others write: what a search reads. Beside store.py the only
module that knows LanceDB.

A version knows its rows by numbers that LanceDB gives: a row that is added or replaced gets a new one, and merging
files gives new ones to all rows in them. A number is never given twice.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.index.storage import columns as records
from multimodal.index.storage import schema as layout
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.schema import About
from multimodal.index.storage.segment import Batch
from multimodal.index.storage.table import IDS_A_STATEMENT, TABLE, connect

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROW = "_rowid"
BATCH_ROWS = 8192
OF_LENGTH_ONE = 1e-6  # as near as float32 comes to it
PROBES, REFINED = (
    200,
    50,
)  # with these it found all ten nearest of a million vectors in clusters; with 100 and 20, 96 %


class Newest:
    """Where an index lies, and which version of it is the newest one."""

    def __init__(self, path: Path, about: About) -> None:
        self.path, self.about = path, about
        self._table = connect(path).open_table(TABLE)
        self._known: tuple[object, int] = (
            None,
            0,
        )  # what the folder of versions held, and the newest one then

    @property
    def number(self) -> int:
        """Of the newest version; what others have written since is seen.

        Each version is a file. LanceDB is asked only if others are there than last time, since to ask it takes longer
        than to search a few thousand rows.
        """
        held = self._held()
        before, number = self._known
        if held is None or held != before:
            number = int(self._table.version)
            self._known = held, number  # listed first: what is written meanwhile is seen next time
        return number

    def _held(self) -> object:
        """What lies in the folder of versions; None if it cannot be read."""
        folder = self.path / f"{TABLE}.lance" / "_versions"
        try:
            state = folder.stat()
            return state.st_ino, state.st_mtime_ns, sorted(one.name for one in os.scandir(folder))
        except OSError:
            return None

    def version(self) -> Version:
        """The newest version, held fast."""
        table = connect(self.path).open_table(TABLE)
        number = int(table.version)
        table.checkout(number)
        return Version(number, table, self.about)


class Version:
    """See the module."""

    def __init__(self, number: int, table: Any, about: About) -> None:
        self.number, self.about = number, about
        self._table = table
        self._names = set(table.schema.names)

    def count(self) -> int:
        return int(self._table.count_rows())

    def numbers(self, condition: str | None = None, *, after: int = -1) -> NDArray[np.uint64]:
        """Of the rows that meet a condition, or that were written after the row `after`; in no order."""
        query = self._query(["modality"], condition, after)  # with no column at all, LanceDB reads every one
        return _numbers(query.to_arrow())

    def batches(self, *, after: int = -1) -> Iterator[Batch]:
        """Every row, or those written after another; vectors are made of length one."""
        import numpy as np

        kinds = {name: place for place, name in enumerate(self.about.modalities)}
        names = [name for name in (*records.COLUMNS, "modality", "vector") if name in self._names]
        for batch in self._query(names, None, after).to_batches(batch_size=BATCH_ROWS):
            modalities = [kinds[name] for name in batch["modality"].to_pylist()]
            vectors = _of_length_one(layout.read_vectors(batch, self.about.dim))
            yield Batch(_numbers(batch), np.array(modalities, np.uint8), vectors, records.columns(batch))

    def vectors(self, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Of rows by number, of length one; those that this version does not have are left out."""
        found = self._table.take_row_ids(list(numbers)).select(["vector"]).with_row_id().to_arrow()
        vectors = _of_length_one(layout.read_vectors(found, self.about.dim))
        return dict(zip(_numbers(found).tolist(), vectors, strict=True))

    def mean(self, n: int) -> NDArray[np.float32]:
        """Of about n vectors from all over, (dim,)."""
        import numpy as np

        numbers = self.numbers()
        chosen = numbers[:: max(1, len(numbers) // n)].tolist()
        found = self._table.take_row_ids(chosen).select(["vector"]).to_arrow()
        return np.asarray(
            layout.read_vectors(found, self.about.dim).mean(axis=0, dtype=np.float64), np.float32
        )

    @functools.cached_property
    def is_approximate(self) -> bool:
        """Whether LanceDB has an index of its own over the vectors."""
        return any(one.columns == ["vector"] for one in self._table.list_indices())

    def approximately(
        self, vector: NDArray[np.float32], n: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """The n rows that LanceDB's index finds nearest to a unit vector (dim,) -> (numbers, cosines)."""
        import numpy as np

        query = self._table.search(vector, vector_column_name="vector").distance_type("cosine").limit(n)
        query = query.nprobes(PROBES).refine_factor(REFINED).select(["_distance"]).with_row_id(True)
        found = query.to_arrow()
        return _numbers(found), 1 - found["_distance"].to_numpy().astype(np.float32)

    def known(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """The numbers of the row with each id, or of the parts of the thing with that id; the others are left out."""
        found: dict[str, list[int]] = {}
        for start in range(0, len(ids), IDS_A_STATEMENT):
            part = ids[start : start + IDS_A_STATEMENT]
            for name in ("source", "id") if "source" in self._names else ("id",):
                table = self._query([name], is_in(name, part, "ids")).to_arrow()
                here: dict[str, list[int]] = {}
                for id_, number in zip(table[name].to_pylist(), _numbers(table).tolist(), strict=True):
                    here.setdefault(id_, []).append(number)
                found |= here  # a row's own id goes before that of a thing it is a part of
        return found

    def _query(self, columns: list[str], condition: str | None = None, after: int = -1) -> Any:
        parts = ([] if condition is None else [f"({condition})"]) + (
            [] if after < 0 else [f"{ROW} > {after}"]
        )
        query = self._table.search().select(columns).with_row_id(True)
        return query.where(" AND ".join(parts)) if parts else query


def _numbers(found: Any) -> NDArray[np.uint64]:
    import numpy as np

    return np.asarray(found[ROW].to_numpy(), np.uint64)


def _of_length_one(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """All are, if this package wrote them, and stay as they are stored; and a row that is all zero cannot be."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    as_they_are = (np.abs(lengths - 1) < OF_LENGTH_ONE) | (lengths == 0)
    return np.asarray(vectors / np.where(as_they_are, 1, lengths), np.float32)
