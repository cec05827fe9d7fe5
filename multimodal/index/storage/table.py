"""ItemTable: rows and vectors on disk, in LanceDB. This module and snapshot.py are the only ones that use LanceDB.

An index is one table, `items`. The index metadata (its space, the format) is part of the table's schema, so it exists
exactly if the table exists.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.errors import IndexStateError, StorageError
from multimodal.core.remote import files
from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.index import fragments
from multimodal.index.config import DEFAULT
from multimodal.index.results import Metadata
from multimodal.index.storage import schema, vector_columns
from multimodal.index.storage.connection import connect, reason_of, store_errors
from multimodal.index.storage.creation import TABLE_NAME, VERSIONS, create_table, is_index
from multimodal.index.storage.filters import begins_with, is_in
from multimodal.index.storage.id_ranges import IdRanges
from multimodal.index.storage.lock import await_readers, check_lock, reading
from multimodal.index.storage.schema import PROVENANCE_COLUMNS, ROW_COLUMNS, IndexMetadata, Provenance, Row
from multimodal.index.storage.vector_columns import VectorColumns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS_PER_STATEMENT = 1024
SCATTERED_IDS_PER_STATEMENT = 16384  # to look up, where neighbours are far apart in the index: see id_ranges
KEEP_OLD_VERSIONS = timedelta(hours=1)  # while readers are active, replaced files stay this long
LATEST_ONLY = timedelta(milliseconds=1)
MAX_OLD_VERSIONS = 64  # that a write leaves although they could be removed
WAIT_FOR_READERS_S = 2.0
# To look up 1,000 ids in a list, the table is scanned at 0.12 ms per thousand rows. A B-tree makes that 9 ms. The
# rows written since it was built lie in small files, and add 0.2 ms per thousand as a range, or 0.7 ms as a list.
# Building it takes 0.46 s per million rows. The sum is least if it is rebuilt when unindexed ** 2 = 1,300 * rows.
BTREE_ROWS = 50_000
BTREE_REFRESH = 1300
CHUNK_MARK = "#"  # in the row id of each chunk, after the id of its document


class IndexedDocument(NamedTuple):
    """What the index holds of a document: the metadata that its rows share, its provenance, its number of rows, and the
    id of one of them."""

    metadata: Metadata
    provenance: Provenance
    n_rows: int
    row_id: str

    def is_replaced_by(self, ids: Sequence[str]) -> bool:
        """Whether rows with these ids are one row instead of one, with an id that no other document can have."""
        return self.n_rows == len(ids) == 1 and (ids[0] == self.row_id or CHUNK_MARK not in ids[0])


class ItemTable:
    """An open table. Each call sees what other processes have written before it."""

    def __init__(
        self,
        path: AnyPath,
        table: Any,
        index_metadata: IndexMetadata,
        max_small_fragments: int = DEFAULT.max_small_fragments,
    ) -> None:
        self.path = path
        self.index_metadata = index_metadata
        self._table = table
        self._max_small_fragments = max_small_fragments
        self.vectors = VectorColumns(index_metadata.vectors, index_metadata.dim, lambda: connect(path))
        self._id_ranges = IdRanges(self.count)
        self._read_columns()

    def _read_columns(self) -> None:
        names = set(self._table.schema.names)
        self._row_columns = [name for name in ROW_COLUMNS if name in names]
        self._is_upgraded = names.issuperset(PROVENANCE_COLUMNS)

    @classmethod
    def create(
        cls,
        path: AnyPath,
        index_metadata: IndexMetadata,
        max_small_fragments: int = DEFAULT.max_small_fragments,
    ) -> ItemTable:
        """A new, empty table, created atomically. Raises IndexStateError if the path is in use, StorageError."""
        create_table(path, index_metadata)
        return cls.open(path, max_small_fragments)

    @classmethod
    def open(cls, path: AnyPath, max_small_fragments: int = DEFAULT.max_small_fragments) -> ItemTable:
        """Raises IndexStateError if there is no index at the path, or it cannot be read, StorageError."""
        if not is_index(path):
            is_missing = isinstance(path, Path) and not path.exists()
            reason = "the folder does not exist" if is_missing else "the path holds no index"
            raise IndexStateError(
                f"no index at {str(path)!r}: {reason}; create one with Index.create({str(path)!r}, space)"
            )
        try:
            with store_errors(path):
                table = connect(path).open_table(TABLE_NAME)
                metadata = table.schema.metadata or {}
        except StorageError:
            raise
        except (OSError, ValueError, RuntimeError) as error:
            raise IndexStateError(f"the index at {str(path)!r} is damaged or incomplete ({reason_of(path, error)}); "
                                  "restore it from a copy, or delete it and create a new one with Index.create"
                                  )  from error  # fmt: skip
        return cls(path, table, schema.read_index_metadata(path, metadata), max_small_fragments)

    @property
    def folder(self) -> Path | None:
        """The folder of a local index, which is left out where it lies in a folder that is indexed."""
        return self.path if isinstance(self.path, Path) else None

    @property
    def identity(self) -> str:
        """Tells an index on an object store from an earlier one at the same address; "" for a local one."""
        return schema.read_identity(self._table.schema.metadata or {})

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
        are_new: bool = False,
        one_row_each: bool = False,
    ) -> None:
        """Writes rows and their vectors (n, dim) in one transaction; existing rows with the same ids are replaced.

        Args:
            rows: The rows, each with an id of its own.
            provenances: Of the rows.
            vectors: Of the rows.
            replacing: Documents whose rows that are not among the new ones are deleted in the same transaction. If
                there are such rows, the whole table is read: 1.1 s of CPU time per million rows.
            are_new: The caller holds the writer lock, and the table has no row of these documents. Such rows are
                appended, which costs the same however large the table is.
            one_row_each: The caller holds the writer lock, and each document has one row in the table, and one here
                that takes its place (`IndexedDocument.is_replaced_by`). It is found by the B-tree of documents.

        Raises:
            ValueError: An id occurs twice among the rows.
        """
        check_lock(self.path)
        ids = [row.id for row in rows]
        schema.check_distinct(ids)
        data = schema.to_arrow(rows, provenances, vectors, self.index_metadata, self.vectors)
        # LanceDB takes vectors that are null, because a row has codes instead, for damaged ones
        on_bad_vectors = "null" if self.vectors.has_codes else "error"
        if are_new and not replacing and not self.has_other_rows(ids, provenances):
            self._table.add(data, on_bad_vectors=on_bad_vectors)
        else:
            self._merge(ids, replacing, one_row_each).execute(data, on_bad_vectors=on_bad_vectors)
        self.vectors.keep_sample(vectors)
        if self.vectors.is_unfitted and self.count() >= vector_columns.FIT_ROWS:
            self.fit_components()

    def fit_components(self) -> None:
        """Computes the principal components of the rows so far, and rewrites these as codes."""
        query = self._table.search().select(self.vectors.names).limit(vector_columns.FIT_ROWS)
        table = query.to_arrow()
        self.vectors.fit(self.vectors.read(table))
        self.encode_rows()

    def encode_rows(self) -> None:
        """Rewrites as codes what was written before the principal components were known, once there are enough rows
        to compute them."""
        if len(self.vectors.names) < 2:
            return
        if self.vectors.is_unfitted:  # rows that a cluster added have not been counted
            if self.count() >= vector_columns.FIT_ROWS:
                self.fit_components()
            return
        query = self._table.search().select(["id"]).where(f"{vector_columns.CODE} IS NULL")
        for some_ids in _batched_ids(query.to_arrow()["id"].to_pylist()):
            self.upsert(*self.fetch_rows(is_in("id", some_ids, "ids")))

    def _merge(self, ids: Sequence[str], replacing: Sequence[str], one_row_each: bool) -> Any:
        """A merge that replaces rows and adds new ones."""
        operation = self._table.merge_insert("source" if one_row_each else "id")
        operation = operation.when_matched_update_all().when_not_matched_insert_all()
        if replacing and self._has_stale_rows(ids, replacing):
            operation = operation.when_not_matched_by_source_delete(is_in("source", replacing, "replacing"))
        return operation

    def _has_stale_rows(self, ids: Sequence[str], sources: Sequence[str]) -> bool:
        """Whether the table has rows of these documents other than those with these ids."""
        new = set(ids)
        return any(
            id_ not in new
            for some_ids in _batched_ids(sources)
            for id_ in self._table.search().select(["id"]).where(is_in("source", some_ids, "sources"))
            .to_arrow()["id"].to_pylist()
        )  # fmt: skip

    def has_other_rows(self, ids: Sequence[str], provenances: Sequence[Provenance]) -> bool:
        """Whether rows of other documents have one of these ids, those of new documents.

        A row id is the id of its document, or begins with it and a mark. So only ids with a mark can coincide: a
        document may be named like the chunk of another one. What is looked up is `source`, which has the B-tree.
        """
        new = {provenance.source for provenance in provenances}
        candidates = {start for id_ in ids for start in _possible_sources(id_)} - new
        return any(
            self.count(f"({is_in('source', some, 'sources')}) AND ({is_in('id', ids, 'ids')})")
            for some in _batched_ids(sorted(candidates))
            if self.count(is_in("source", some, "sources"))
        )

    def maintain(self) -> None:
        """Compacts the table and renews its B-tree, if either is due."""
        n_rows = self.compact()
        if n_rows >= BTREE_ROWS:
            self.index_ids()

    def compact(self) -> int:
        """Merges the small files of many small writes, once there are enough of them to slow searches down, and removes
        old versions, once there are many. Returns the number of rows."""
        stats = self._table.stats()
        n_small = stats["fragment_stats"]["num_small_fragments"]
        if n_small > self._max_small_fragments or self._n_removable_versions() > MAX_OLD_VERSIONS:
            self._compact(wait_s=0.0)
        return int(stats["num_rows"])

    def _n_removable_versions(self) -> int:
        keep = LATEST_ONLY if await_readers(self.path, 0.0) else KEEP_OLD_VERSIONS
        end = time.time() - keep.total_seconds()
        folder = self.path / VERSIONS
        if isinstance(folder, RemotePath):
            written = [file.mtime_ns / 1e9 for file in files.list_files(folder)]
        else:
            written = [manifest.stat().st_mtime for manifest in folder.glob("*.manifest")]
        return sum(time_s <= end for time_s in written) - 1

    def _compact(self, wait_s: float) -> None:
        """Merges small files, and removes all versions but the latest, or those of the last hour too if the readers do
        not end within wait_s seconds."""
        check_lock(self.path)
        with _giving_way():
            self._table.optimize(cleanup_older_than=KEEP_OLD_VERSIONS)
            if await_readers(self.path, wait_s):
                # The files are merged already, so this makes no new version: no reader is on any but the latest.
                self._table.optimize(cleanup_older_than=LATEST_ONLY)

    def index_ids(self) -> None:
        """Builds the B-tree by which documents are looked up, once the table is large enough, and keeps it current."""
        n_rows = self.count()
        if n_rows < BTREE_ROWS:
            return
        from lancedb.index import BTree

        names = [index.name for index in self._table.list_indices() if index.columns == ["source"]]
        n_unindexed = self._table.index_stats(names[0]).num_unindexed_rows if names else n_rows
        if n_unindexed**2 >= BTREE_REFRESH * n_rows:
            with _giving_way():
                self._table.create_index("source", config=BTree(), replace=True)

    def optimize(self, *, approximate: bool) -> None:
        """Merges small files, and removes old versions. With `approximate`, builds or updates LanceDB's vector index;
        otherwise drops it.

        Raises IndexStateError if the vector index cannot be built.
        """
        from lancedb.index import IvfRq

        if approximate and self.vectors.has_codes:
            raise IndexStateError(
                f"LanceDB cannot index the vectors at {str(self.path)!r}, which are stored as "
                f"{self.index_metadata.vectors}; leave out approximate=True"
            )
        self.encode_rows()
        self.index_ids()
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
        self._compact(WAIT_FOR_READERS_S)

    def delete(self, ids: Sequence[str]) -> int:
        """Deletes rows by their id or by that of their document; returns the number of deleted rows."""
        return self.delete_matching(self.id_conditions(ids))

    def delete_matching(self, conditions: Sequence[str]) -> int:
        """Deletes the rows that meet any of the conditions; returns the number of deleted rows."""
        check_lock(self.path)
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

    @property
    def has_scattered_ids(self) -> bool:
        """Whether the documents that were looked up last are far apart in the index: then more at a time are faster."""
        return self._id_ranges.are_scattered

    def documents(self, sources: Sequence[str]) -> dict[str, IndexedDocument]:
        """What the index holds of these documents, by id; unknown ones are left out."""
        documents: dict[str, IndexedDocument] = {}
        if not self._is_upgraded:  # an index of an earlier version has no provenance
            return documents
        columns, wanted = ["id", "uri", "metadata", *PROVENANCE_COLUMNS], set(sources)
        size = SCATTERED_IDS_PER_STATEMENT if self.has_scattered_ids else IDS_PER_STATEMENT
        for some_ids in _batched_ids(sorted(wanted), size):
            condition = self._id_ranges.condition("source", some_ids)
            if condition is None:
                continue
            with reading(self.path):
                table = self._table.search().select(columns).where(condition).to_arrow()
            names = (table[name].to_pylist() for name in ("id", "uri", "metadata"))
            for id_, uri, metadata, provenance in zip(*names, schema.read_provenances(table), strict=True):
                if provenance.source not in wanted:
                    continue
                known = documents.get(provenance.source)
                documents[provenance.source] = (
                    IndexedDocument(
                        _shared_metadata(metadata, id_, provenance.source, uri),
                        provenance,
                        1,
                        id_,
                    )
                    if known is None
                    else known._replace(n_rows=known.n_rows + 1)
                )
        return documents

    def provenances(self, condition: str | None = None) -> Iterator[tuple[Row, Provenance]]:
        """Rows that meet a condition, with their provenance; without their text, which may be long."""
        names = [name for name in ROW_COLUMNS if name != "text"]
        with reading(self.path):
            query = self._table.search().select([*names, *PROVENANCE_COLUMNS])
            for batch in (query if condition is None else query.where(condition)).to_batches():
                yield from zip(schema.read_rows(batch), schema.read_provenances(batch), strict=True)

    def files_below(self, folder: str) -> Iterator[tuple[Row, Provenance]]:
        """Rows of files below a folder (given with its trailing separator), by the path they had."""
        return self.provenances(
            f"container IS NULL AND (mtime_ns IS NOT NULL OR content IS NULL) AND {begins_with('source', folder)}"
        )

    def containers_below(self, folder: str) -> dict[str, set[str]]:
        """The ids of the documents in each table or archive below a folder (given with its trailing separator)."""
        containers: dict[str, set[str]] = {}
        for _, provenance in self.provenances(begins_with("container", folder)):
            containers.setdefault(provenance.container or "", set()).add(provenance.source)
        return containers

    def fetch_rows(self, condition: str) -> tuple[list[Row], list[Provenance], NDArray[np.float32]]:
        """Rows that meet a condition, complete and at once: (rows, provenances, vectors (n, dim))."""
        names = [*ROW_COLUMNS, *PROVENANCE_COLUMNS, *self.vectors.names]
        query = self._table.search().select(names).where(condition)
        with reading(self.path):
            table = query.to_arrow().combine_chunks()
        vectors = self.vectors.read(table)
        return schema.read_rows(table), schema.read_provenances(table), vectors

    def columns(
        self, names: Sequence[str], condition: str | None = None, *, offset: int = 0, limit: int | None = None
    ) -> Any:
        """Some columns of the rows that meet a condition, in the order of the files on disk, as an Arrow table.

        A column that an old index lacks is left out.
        """
        known = set(self._table.schema.names)
        query = self._table.search().select([name for name in names if name in known])
        if condition is not None:
            query = query.where(condition)
        if offset:
            query = query.offset(offset)
        with reading(self.path):
            return (query if limit is None else query.limit(limit)).to_arrow()

    @property
    def version(self) -> int:
        """The number of the version that is read; each change of the index makes another."""
        return int(self._table.version)

    def count(self, condition: str | None = None) -> int:
        """The number of rows, or of those that meet a condition."""
        with reading(self.path):
            return int(self._table.count_rows(condition))

    def rows(
        self, condition: str | None = None, *, vectors: bool = False
    ) -> Iterator[tuple[Row, NDArray[np.float32] | None]]:
        """Rows that meet a condition, read batch by batch, with their vectors (dim,) if requested."""
        query = self._table.search().select(self._row_columns + self.vectors.names * vectors)
        if condition is not None:
            query = query.where(condition)
        with reading(self.path):
            for batch in query.to_batches():
                matrix = self.vectors.read(batch) if vectors else None
                for position, row in enumerate(schema.read_rows(batch)):
                    yield row, None if matrix is None else matrix[position]


def _shared_metadata(text: str, id_: str, source: str, uri: str | None) -> Metadata:
    """The metadata of a document, from that of one of its rows as JSON."""
    if text == "{}":
        return {}
    metadata = json.loads(text)
    return metadata if id_ == source else fragments.shared_metadata(metadata, id_, source, uri)


def _batched_ids(ids: Sequence[str], size: int = IDS_PER_STATEMENT) -> Iterator[Sequence[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


@contextlib.contextmanager
def _giving_way() -> Iterator[None]:
    """Lets maintenance end without effect if another process writes meanwhile: the next write repeats it."""
    try:
        yield
    except RuntimeError as error:
        if "conflict" not in str(error):
            raise


def _possible_sources(id_: str) -> Iterator[str]:
    """The ids of the documents that may have a row with this id and a mark in it."""
    if CHUNK_MARK in id_:
        yield id_
        yield from (id_[:place] for place, char in enumerate(id_) if char == CHUNK_MARK and place)
