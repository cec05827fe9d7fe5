"""Snapshot: one committed version of the table, unaffected by later writes. Every search reads a snapshot.

This module and table.py are the only ones that use LanceDB. LanceDB numbers rows: an added or replaced row gets a new
row id, and compaction renumbers the rows of the merged files. A row id is never reused.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.index.storage.columns import COLUMN_NAMES, select_columns
from multimodal.index.storage.connection import connect, store_errors
from multimodal.index.storage.creation import TABLE_NAME, VERSIONS
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.forks import check_process
from multimodal.index.storage.schema import IndexMetadata
from multimodal.index.storage.segment import RowBatch
from multimodal.index.storage.table import IDS_PER_STATEMENT
from multimodal.index.storage.vector_columns import VectorColumns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROW_ID = "_rowid"
BATCH_ROWS = 2048  # several batches are read ahead
KEY_ROWS = 50_000  # read to list metadata keys
UNIT_LENGTH_TOLERANCE = 1e-6  # float32 precision of a unit vector's length
# Among half a million clustered vectors (256 dimensions), LanceDB's index found 99.3 % of what binary codes find with
# 20 probes, 99.7 % with 40, and all with 60 or more, in 18 to 21 ms of CPU time. 20 suffice for 59,900 texts in the
# starter. Candidates are compared in the search folder. LanceDB would read their vectors from the table, in 26 ms.
PROBES, REFINE_FACTOR = 60, 50


class LatestVersion:
    """Where an index is, and which version of it is the latest."""

    def __init__(self, path: AnyPath, index_metadata: IndexMetadata) -> None:
        self.path, self.index_metadata = path, index_metadata
        self._table = connect(path).open_table(TABLE_NAME)
        self.vectors = VectorColumns(index_metadata.vectors, index_metadata.dim, lambda: connect(path))
        self._cached: tuple[object, int] = (
            None,
            0,
        )  # state of the versions folder, and the latest version then

    @property
    def version(self) -> int:
        """The number of the latest version, including writes by other processes.

        Each version is a file. LanceDB is queried only if the folder of versions changed, because the query takes
        longer than searching a few thousand rows. On an object store it is queried each time.
        """
        check_process(self.path)
        state = self._folder_state()
        cached_state, version = self._cached
        if state is None or state != cached_state:
            with store_errors(self.path):
                version = int(self._table.version)
            # The folder was listed before the version was read, so a write in between is seen next time.
            self._cached = state, version
        return version

    def count(self) -> int:
        """The number of rows of the latest version. Opens no snapshot, which takes ten times as long."""
        check_process(self.path)
        with store_errors(self.path):
            return int(self._table.count_rows())

    def _folder_state(self) -> object:
        """The state of the folder of versions; None if it cannot be read, or is on an object store."""
        if isinstance(self.path, RemotePath):
            return None
        folder = self.path / VERSIONS
        try:
            stat = folder.stat()
            return stat.st_ino, stat.st_mtime_ns, sorted(entry.name for entry in os.scandir(folder))
        except OSError:
            return None

    def snapshot(self) -> Snapshot:
        """A snapshot of the latest version."""
        with store_errors(self.path):
            table = connect(self.path).open_table(TABLE_NAME)
            version = int(table.version)
            table.checkout(version)
        return Snapshot(version, table, self.index_metadata, self.vectors)


class Snapshot:
    """One version of the table, read-only. See the module."""

    def __init__(
        self, version: int, table: Any, index_metadata: IndexMetadata, vectors: VectorColumns
    ) -> None:
        self.version, self.index_metadata = version, index_metadata
        self._table = table
        self._names = set(table.schema.names)
        self._vectors = vectors

    def count(self) -> int:
        return int(self._table.count_rows())

    def row_ids(self, condition: str | None = None, *, after: int = -1) -> NDArray[np.uint64]:
        """Ids (n,) of the rows that meet a condition, or were written after row `after`; unordered."""
        query = self._query(["modality"], condition, after)  # without any column, LanceDB reads all of them
        return _row_ids(query.to_arrow())

    def metadata_keys(self) -> set[str]:
        """The keys of the metadata of up to KEY_ROWS rows."""
        keys: set[str] = set()
        contents: set[str] = set()
        for batch in self._query(["metadata"]).limit(KEY_ROWS).to_batches(batch_size=BATCH_ROWS):
            contents.update(value for value in batch["metadata"].to_pylist() if value)
        for content in contents:
            keys.update(json.loads(content))
        return keys

    def batches(self, *, after: int = -1) -> Iterator[RowBatch]:
        """All rows, or those written after another one, with normalised vectors."""
        import numpy as np

        modality_ids = {name: number for number, name in enumerate(self.index_metadata.modalities)}
        names = [name for name in (*COLUMN_NAMES, "modality", *self._vectors.names) if name in self._names]
        for batch in self._query(names, None, after).to_batches(batch_size=BATCH_ROWS):
            modalities = [modality_ids[name] for name in batch["modality"].to_pylist()]
            vectors = _normalised(self._vectors.read(batch))
            yield RowBatch(_row_ids(batch), np.array(modalities, np.uint8), vectors, select_columns(batch))

    def vectors(self, row_ids: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Unit vectors (dim,) by row id; rows that this version lacks are left out."""
        table = self._table.take_row_ids(list(row_ids)).select(self._vectors.names).with_row_id().to_arrow()
        vectors = _normalised(self._vectors.read(table))
        return dict(zip(_row_ids(table).tolist(), vectors, strict=True))

    def mean_vector(self, n_rows: int) -> NDArray[np.float32]:
        """The mean (dim,) of about n_rows vectors from the whole table."""
        import numpy as np

        row_ids = self.row_ids()
        chosen = row_ids[:: max(1, len(row_ids) // n_rows)].tolist()
        table = self._table.take_row_ids(chosen).select(self._vectors.names).to_arrow()
        vectors = self._vectors.read(table)
        return np.asarray(vectors.mean(axis=0, dtype=np.float64), np.float32)

    @functools.cached_property
    def has_vector_index(self) -> bool:
        """Whether LanceDB has an approximate index over the vectors."""
        return any(index.columns == ["vector"] for index in self._table.list_indices())

    def approximate_nearest(
        self, vector: NDArray[np.float32], n: int
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """Row ids (c,) and estimated cosines (c,) of the rows that LanceDB's index ranks nearest to a vector (dim,).

        There are more than n, as the estimates are rough: their vectors are to be compared.
        """
        import numpy as np

        query = self._table.search(vector, vector_column_name="vector").distance_type("cosine")
        query = query.limit(n * REFINE_FACTOR).nprobes(PROBES).select(["_distance"]).with_row_id(True)
        table = query.to_arrow()
        return _row_ids(table), 1 - table["_distance"].to_numpy().astype(np.float32)

    def row_ids_of(self, ids: Sequence[str]) -> dict[str, list[int]]:
        """Row ids of the row, or of the chunks of the document, with each id; unknown ids are left out."""
        by_id: dict[str, list[int]] = {}
        for start in range(0, len(ids), IDS_PER_STATEMENT):
            some_ids = ids[start : start + IDS_PER_STATEMENT]
            for name in ("source", "id") if "source" in self._names else ("id",):
                table = self._query([name], is_in(name, some_ids, "ids")).to_arrow()
                matches: dict[str, list[int]] = {}
                for id_, row_id in zip(table[name].to_pylist(), _row_ids(table).tolist(), strict=True):
                    matches.setdefault(id_, []).append(row_id)
                by_id |= matches  # a row's own id takes precedence over the id of its document
        return by_id

    def _query(self, columns: list[str], condition: str | None = None, after: int = -1) -> Any:
        conditions = ([] if condition is None else [f"({condition})"]) + (
            [] if after < 0 else [f"{ROW_ID} > {after}"]
        )
        query = self._table.search().select(columns).with_row_id(True)
        return query.where(" AND ".join(conditions)) if conditions else query


def _row_ids(table: Any) -> NDArray[np.uint64]:
    import numpy as np

    return np.asarray(table[ROW_ID].to_numpy(), np.uint64)


def _normalised(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Unit vectors (n, dim). Vectors of unit length stay bit for bit; all-zero rows stay zero."""
    import numpy as np

    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unchanged = (np.abs(lengths - 1) < UNIT_LENGTH_TOLERANCE) | (lengths == 0)
    return np.asarray(vectors / np.where(unchanged, 1, lengths), np.float32)
