"""ItemTable: rows and vectors on disk, in LanceDB. This module and snapshot.py are the only ones that use LanceDB.

An index is one table, `items`. The index metadata (its space, the format) is part of the table's schema, so it exists
exactly if the table exists.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.errors import IndexStateError
from multimodal.index.config import DEFAULT
from multimodal.index.results import Metadata
from multimodal.index.storage import schema
from multimodal.index.storage.filters import begins_with, is_in
from multimodal.index.storage.schema import PROVENANCE_COLUMNS, ROW_COLUMNS, IndexMetadata, Provenance, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TABLE_NAME = "items"
IDS_PER_STATEMENT = 1000
METADATA_CACHE_BYTES = 8 << 20
KEEP_OLD_VERSIONS = timedelta(hours=1)  # replaced files stay this long for searches that began before


class IndexedDocument(NamedTuple):
    """What the index holds of a document: its first row, its provenance, and its number of rows."""

    row: Row
    provenance: Provenance
    n_rows: int


class ItemTable:
    """An open table. Each call sees what other processes have written before it."""

    def __init__(
        self,
        path: Path,
        table: Any,
        index_metadata: IndexMetadata,
        max_small_fragments: int = DEFAULT.max_small_fragments,
    ) -> None:
        self.path = path
        self.index_metadata = index_metadata
        self._table = table
        self._max_small_fragments = max_small_fragments
        self._read_columns()

    def _read_columns(self) -> None:
        names = set(self._table.schema.names)
        self._row_columns = [name for name in ROW_COLUMNS if name in names]
        self._is_upgraded = names.issuperset(PROVENANCE_COLUMNS)

    @classmethod
    def create(
        cls,
        path: Path,
        index_metadata: IndexMetadata,
        max_small_fragments: int = DEFAULT.max_small_fragments,
    ) -> ItemTable:
        """A new, empty table, created atomically. Raises IndexStateError if the path is in use."""
        _refuse_existing(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Beside the target, so that the final rename stays on one file system and is atomic.
            with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
                new = Path(scratch) / "new"
                connect(new).create_table(TABLE_NAME, schema=schema.table_schema(index_metadata))
                new.replace(path)
        except OSError as error:
            _refuse_existing(path)  # another process was quicker
            raise IndexStateError(f"cannot create an index at {str(path)!r}: {error.strerror or error}; "
                                  "choose a writable folder")  from error  # fmt: skip
        return cls.open(path, max_small_fragments)

    @classmethod
    def open(cls, path: Path, max_small_fragments: int = DEFAULT.max_small_fragments) -> ItemTable:
        """Raises IndexStateError if there is no index at the path, or it cannot be read."""
        if not is_index(path):
            reason = "the folder does not exist" if not path.exists() else "the path holds no index"
            raise IndexStateError(
                f"no index at {str(path)!r}: {reason}; create one with Index.create({str(path)!r}, space)"
            )
        try:
            table = connect(path).open_table(TABLE_NAME)
            metadata = table.schema.metadata or {}
        except (OSError, ValueError, RuntimeError) as error:
            raise IndexStateError(f"the index at {str(path)!r} is damaged or incomplete ({error}); restore it from a "
                                  "copy, or delete it and create it anew with Index.create")  from error  # fmt: skip
        return cls(path, table, schema.read_index_metadata(path, metadata), max_small_fragments)

    def upgrade(self) -> None:
        """Adds the columns that an index of an earlier version lacks. Must be called before any write."""
        if self._is_upgraded:
            return
        names = set(self._table.schema.names)  # another process may have added them since
        if "source" not in names:
            self._table.add_columns({"source": "id"})
        missing = [column for column in schema.later_columns() if column.name not in names]
        if missing:
            self._table.add_columns(missing)
        self._read_columns()

    def upsert(
        self,
        rows: Sequence[Row],
        provenances: Sequence[Provenance],
        vectors: NDArray[np.float32],
        *,
        replacing: Sequence[str] = (),
    ) -> None:
        """Writes rows and their vectors (n, dim) in one transaction; existing rows with the same ids are replaced.

        Ids must be unique. replacing: documents whose rows that are not among the new ones are deleted in the same
        transaction.
        """
        operation = self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
        if replacing:
            operation = operation.when_not_matched_by_source_delete(is_in("source", replacing, "replacing"))
        operation.execute(schema.to_arrow(rows, provenances, vectors, self.index_metadata))

    def compact(self) -> None:
        """Merges the small files of many small writes, once there are enough of them to slow searches down."""
        if self._table.stats()["fragment_stats"]["num_small_fragments"] <= self._max_small_fragments:
            return
        try:
            self._table.optimize(cleanup_older_than=KEEP_OLD_VERSIONS)
        except RuntimeError as error:
            # Another process wrote meanwhile: nothing is lost, and the next write compacts.
            if "conflict" not in str(error):
                raise

    def optimize(self, *, approximate: bool) -> None:
        """Merges small files. With `approximate`, builds or updates LanceDB's vector index; otherwise drops it.

        Raises IndexStateError if the vector index cannot be built.
        """
        from lancedb.index import IvfRq

        self._table.optimize(cleanup_older_than=KEEP_OLD_VERSIONS)
        built = [index.name for index in self._table.list_indices() if index.columns == ["vector"]]
        if not approximate:
            for name in built:
                self._table.drop_index(name)
        elif not built:
            try:
                self._table.create_index("vector", config=IvfRq(distance_type="cosine"))
            except (ValueError, RuntimeError) as error:
                raise IndexStateError(
                    f"LanceDB cannot index the vectors at {str(self.path)!r} ({error}); leave out approximate=True"
                ) from error

    def delete(self, ids: Sequence[str]) -> int:
        """Deletes rows by their id or by that of their document; returns the number of deleted rows."""
        return self.delete_matching(self.id_conditions(ids))

    def delete_matching(self, conditions: Sequence[str]) -> int:
        """Deletes the rows that meet any of the conditions; returns the number of deleted rows."""
        return sum(int(self._table.delete(condition).num_deleted_rows) for condition in conditions)

    def id_conditions(self, ids: Sequence[str]) -> list[str]:
        """Conditions, each for a part of the ids, that match rows by their id or by that of their document."""
        names = (
            ("id", "source") if self._is_upgraded else ("id",)
        )  # an index of an earlier version has one row each
        return [
            " OR ".join(f"({is_in(name, some_ids, 'ids')})" for name in names)
            for some_ids in _batched_ids(ids)
        ]

    def update_metadata(self, conditions: Sequence[str], change: Callable[[Metadata], Metadata]) -> int:
        """Changes the metadata of the rows that meet any of the conditions; returns the number of changed rows.

        Rows are written in batches, each in one transaction, with all other columns as they are.
        """
        matching: dict[str, None] = {}
        for condition in conditions:  # all ids first: rows may no longer match once they are changed
            ids = self._table.search().select(["id"]).where(condition).to_arrow()["id"].to_pylist()
            matching |= dict.fromkeys(ids)
        changed = 0
        for some_ids in _batched_ids(list(matching)):
            rows, provenances, vectors = self.fetch_rows(is_in("id", some_ids, "ids"))
            new = [row._replace(metadata=change(row.metadata)) for row in rows]
            positions = [place for place, row in enumerate(rows) if new[place] != row]
            if positions:
                self.upsert(
                    [new[place] for place in positions],
                    [provenances[place] for place in positions],
                    vectors[positions],
                )
            changed += len(positions)
        return changed

    def documents(self, sources: Sequence[str]) -> dict[str, IndexedDocument]:
        """What the index holds of these documents, by id; unknown ones are left out."""
        documents: dict[str, IndexedDocument] = {}
        if not self._is_upgraded:  # an index of an earlier version has no provenance
            return documents
        for some_ids in _batched_ids(sources):
            for row, provenance in self.provenances(is_in("source", some_ids, "sources")):
                document = documents.get(provenance.source, IndexedDocument(row, provenance, 0))
                documents[provenance.source] = document._replace(n_rows=document.n_rows + 1)
        return documents

    def provenances(self, condition: str | None = None) -> Iterator[tuple[Row, Provenance]]:
        """Rows that meet a condition, with their provenance; without their text, which may be long."""
        names = [name for name in ROW_COLUMNS if name != "text"]
        query = self._table.search().select([*names, *PROVENANCE_COLUMNS])
        for batch in (query if condition is None else query.where(condition)).to_batches():
            yield from zip(schema.read_rows(batch), schema.read_provenances(batch), strict=True)

    def files_below(self, folder: str) -> Iterator[tuple[Row, Provenance]]:
        """Rows of files below a folder (given with its trailing separator), by the path they had."""
        return self.provenances(
            f"container IS NULL AND (mtime_ns IS NOT NULL OR content IS NULL) AND {begins_with('source', folder)}"
        )

    def fetch_rows(self, condition: str) -> tuple[list[Row], list[Provenance], NDArray[np.float32]]:
        """Rows that meet a condition, complete and at once: (rows, provenances, vectors (n, dim))."""
        table = self._table.search().select([*ROW_COLUMNS, *PROVENANCE_COLUMNS, "vector"]).where(condition)
        table = table.to_arrow().combine_chunks()
        vectors = schema.read_vectors(table, self.index_metadata.dim)
        return schema.read_rows(table), schema.read_provenances(table), vectors

    def count(self, condition: str | None = None) -> int:
        """The number of rows, or of those that meet a condition."""
        return int(self._table.count_rows(condition))

    def rows(
        self, condition: str | None = None, *, vectors: bool = False
    ) -> Iterator[tuple[Row, NDArray[np.float32] | None]]:
        """Rows that meet a condition, read batch by batch, with their vectors (dim,) if requested."""
        query = self._table.search().select(self._row_columns + ["vector"] * vectors)
        if condition is not None:
            query = query.where(condition)
        for batch in query.to_batches():
            matrix = schema.read_vectors(batch, self.index_metadata.dim) if vectors else None
            for position, row in enumerate(schema.read_rows(batch)):
                yield row, None if matrix is None else matrix[position]


def is_index(path: Path) -> bool:
    """Whether there is an index at a path."""
    return (path / f"{TABLE_NAME}.lance").is_dir()


def _refuse_existing(path: Path) -> None:
    ancestor = next(parent for parent in path.parents if parent.exists())
    if not ancestor.is_dir():
        raise IndexStateError(f"cannot create an index at {str(path)!r}: {str(ancestor)!r} is a file, not a folder; "
                              "choose another path")  # fmt: skip
    if is_index(path):
        raise IndexStateError(f"there is an index at {str(path)!r} already: open it with Index.open({str(path)!r}), "
                              "or create it with exist_ok=True")  # fmt: skip
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        what = "a folder that is not empty" if path.is_dir() else "a file"
        raise IndexStateError(
            f"cannot create an index at {str(path)!r}: the path is {what}; choose a new or empty folder"
        )


def connect(path: Path) -> Any:
    """A LanceDB connection that sees the writes of other processes."""
    import lancedb

    # The cache keeps the file list of every version, and a long job makes thousands of versions.
    session = lancedb.Session(metadata_cache_size_bytes=METADATA_CACHE_BYTES)
    # 0: check for writes by other processes at every read, instead of never.
    return lancedb.connect(path, read_consistency_interval=timedelta(0), session=session)


def _batched_ids(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + IDS_PER_STATEMENT] for start in range(0, len(ids), IDS_PER_STATEMENT))
