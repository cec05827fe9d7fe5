"""IndexAdministration: the part of an Index that lists, exports, updates and deletes what is stored."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.modality import Modality
from multimodal.core.remote.path import AnyPath, GivenPath
from multimodal.index import row_files
from multimodal.index.config import DEFAULT, SearchConfig
from multimodal.index.ingest.sources.names import check_ids
from multimodal.index.opening import index_folder
from multimodal.index.results import Failures, Metadata, Rows
from multimodal.index.search.searcher import Searcher
from multimodal.index.statistics import IndexStats, statistics
from multimodal.index.storage.failures import FailureLog
from multimodal.index.storage.filters import HasModalities, check_metadata, condition
from multimodal.index.storage.lock import reading, writing
from multimodal.index.storage.schema import IndexMetadata
from multimodal.index.storage.table import ItemTable

if TYPE_CHECKING:
    import pandas
    import pyarrow

APPROXIMATE_ITEMS = (
    10_000_000  # above it, LanceDB's index is faster than binary codes: 640 MB, about 30 ms per core
)


class IndexAdministration:
    """Methods of `Index` on stored items, none of which needs a model; see there."""

    def __init__(
        self, table: ItemTable, modalities: HasModalities, search_config: SearchConfig = DEFAULT
    ) -> None:
        self._table = table
        self._modalities = modalities
        self._searcher = Searcher(table, search_config)

    @classmethod
    def without_space(
        cls, path: GivenPath, *, storage_options: Mapping[str, str] | None = None
    ) -> IndexAdministration:
        """Opens an index without loading its space.

        Raises:
            IndexStateError: There is no index.
            StorageError: The object store cannot be reached, or refuses.
        """
        table = ItemTable.open(index_folder(path, storage_options))
        return IndexAdministration(table, StoredModalities(table.index_metadata))

    @property
    def path(self) -> AnyPath:
        """The folder of the index: an absolute Path, or a RemotePath on an object store."""
        return self._table.path

    def __len__(self) -> int:
        return self._table.count()

    def stats(self) -> IndexStats:
        """Counts the items, and measures what the stored form of the vectors loses.

        Returns:
            Counts, bytes of each vector, and the recall of the ten nearest against float32 on a sample.
        """
        with reading(self.path):
            return statistics(self._table)

    def reset_calibration(self) -> bool:
        """Removes the fit that `calibrate` stored, so that the built-in calibration applies again.

        Returns:
            Whether there was one.

        Raises:
            IndexStateError: The index cannot be written.
        """
        return self._searcher.calibration.clear()

    def failures(self) -> Failures:
        """Documents that could not be added, with stage and reason, in the order of their names.

        Failures persist between runs. A document leaves the list when it is added after all, or when `sync` finds that
        it no longer exists. Items given in memory are only listed in the report of their `add`, since they cannot be
        read again.
        """
        return Failures(FailureLog(self.path).failures())

    def rows(
        self,
        *,
        ids: Sequence[str] | str | None = None,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        vectors: bool = False,
    ) -> Rows:
        """Stored items, in the order of the files on disk.

        Args:
            ids: Only these: ids of items, or of documents, which stand for all their chunks.
            modality: As in `search`.
            where: As in `search`.
            vectors: Include the vectors.

        Returns:
            An iterable of dicts with id, uri, modality, text, metadata, start_s, end_s, start_char, end_char and, if
            requested, vector (dim,) float32. Each iteration reads the table again.

        Raises:
            InvalidInput: `ids`, `modality` or `where` is invalid.
        """
        conditions = self._conditions(ids, modality, where)
        table = self._table

        def read() -> Iterator[dict[str, Any]]:
            seen: set[str] = set()
            for sql in conditions:
                for row, vector in table.rows(sql, vectors=vectors):
                    if len(conditions) > 1:  # a row may meet one by its id, another by that of its document
                        if row.id in seen:
                            continue
                        seen.add(row.id)
                    yield row._asdict() if vector is None else row._asdict() | {"vector": vector}

        def count() -> int:
            return table.count(conditions[0]) if len(conditions) == 1 else sum(1 for _ in read())

        return Rows(read, count, table.index_metadata.dim if vectors else None)

    def to_arrow(
        self,
        *,
        vectors: bool = False,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> pyarrow.Table:
        """The stored items as an Arrow table.

        Args:
            vectors: Include the vectors, as fixed-size lists of float32.
            modality: As in `search`.
            where: As in `search`.

        Returns:
            A table with one row per item and the keys of `rows` as columns; metadata is a JSON string.
        """
        return self.rows(modality=modality, where=where, vectors=vectors).to_arrow()

    def to_pandas(
        self,
        *,
        vectors: bool = False,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> pandas.DataFrame:
        """The stored items as a data frame.

        Args:
            vectors: Include the vectors, as arrays (dim,) float32.
            modality: As in `search`.
            where: As in `search`.

        Returns:
            A data frame with one row per item and the keys of `rows` as columns; metadata is a dict.

        Raises:
            MissingExtra: pandas is not installed.
        """
        return self.rows(modality=modality, where=where, vectors=vectors).to_pandas()

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        vectors: bool = True,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> int:
        """Writes the stored items to a file, batch by batch.

        Args:
            path: "out.parquet": the columns of `to_arrow`. "out.jsonl": one object per line, with the keys of `rows`.
                "out.npy": the vectors (n, dim) float32, and beside it "out.jsonl" with their rows in the same order.
            vectors: Include the vectors; a .npy file always has them.
            modality: As in `search`.
            where: As in `search`.
            overwrite: Replace existing files.

        Returns:
            The number of exported items.

        Raises:
            InvalidInput: The suffix is another one, the folder does not exist, or a file exists.
        """
        target = row_files.check(path, overwrite=overwrite)
        needs_vectors = vectors or target.suffix.lower() == ".npy"
        return row_files.write(target, self.rows(modality=modality, where=where, vectors=needs_vectors))

    def update(
        self,
        ids: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        *,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        replace: bool = False,
        wait: float | None = None,
    ) -> int:
        """Changes the metadata of stored items, without encoding anything. What is selected must meet all of `ids`,
        `modality` and `where`.

        Large updates are written in several transactions; an interrupted call is completed by repeating it.

        Args:
            ids: As in `delete`.
            metadata: Keys to set, as in `add`; None as a value is stored as None.
            modality: As in `search`.
            where: As in `search`, such as update(where={"album": "x"}, metadata={"album": "y"}).
            replace: Remove all other keys. Default: they are kept.
            wait: As in `add`.

        Returns:
            The number of rows whose metadata changed.

        Raises:
            InvalidInput: Nothing is selected, or an argument is invalid.
            IndexBusy: Another writer was active for longer than `wait`.
        """
        if metadata is None:
            raise InvalidInput("update needs the metadata to set, such as metadata={'album': 'x'}, got None")
        new = check_metadata(metadata)

        def change(old: Metadata) -> Metadata:
            return new if replace else old | new

        with self._selected("update", ids, modality, where, wait) as conditions:
            changed = self._table.update_metadata(conditions, change)
            self._table.compact()
        self._searcher.prepare()
        return changed

    def delete(
        self,
        ids: Sequence[str] | str | None = None,
        *,
        modality: str | Iterable[str] | None = None,
        where: Mapping[str, Any] | None = None,
        wait: float | None = None,
    ) -> int:
        """Deletes items. What is deleted must meet all of `ids`, `modality` and `where`.

        Files on disk are not touched, so that adding or synchronising their folder again brings them back.

        Args:
            ids: Ids of items, or of documents, which deletes all their chunks. Unknown ids are ignored.
            modality: As in `search`.
            where: As in `search`, such as delete(where={"album": "x"}).
            wait: As in `add`.

        Returns:
            The number of deleted rows.

        Raises:
            InvalidInput: Nothing is selected, or an argument is invalid.
            IndexBusy: Another writer was active for longer than `wait`.
        """
        with self._selected("delete", ids, modality, where, wait) as conditions:
            return self._table.delete_matching(conditions)

    def optimize(self, *, approximate: bool | None = None, wait: float | None = None) -> None:
        """Merges small files, and builds everything that searches would otherwise build on first need.

        Args:
            approximate: True builds or updates LanceDB's vector index, which then answers searches without a filter
                (exact=True bypasses it); False drops it. Default: build it for more than ten million items, where it is
                faster.
            wait: As in `add`.

        Raises:
            IndexBusy: Another writer was active for longer than `wait`.
            IndexStateError: The vector index cannot be built.
        """
        with writing(self.path, wait):
            self._table.optimize(
                approximate=len(self) > APPROXIMATE_ITEMS if approximate is None else approximate
            )
        self._searcher.prepare()
        with reading(self.path):
            self._searcher.view().prepare_text_search()

    @contextlib.contextmanager
    def _selected(
        self,
        what: str,
        ids: Sequence[str] | str | None,
        modality: str | Iterable[str] | None,
        where: Mapping[str, Any] | None,
        wait: float | None,
    ) -> Iterator[list[str]]:
        """Holds the lock of the index; gives conditions for the rows. Raises InvalidInput if they match every row."""
        if ids is None and modality is None and not where:
            raise InvalidInput(
                f"{what} needs a selection: ids, modality or where, such as where={{'album': 'x'}}; without one it "
                "would change every item"
            )
        checked = None if ids is None else check_ids(ids)
        condition(self._modalities, modality, where)  # raises before the lock is waited for
        with writing(self.path, wait):
            self._table.upgrade()
            conditions = self._conditions(checked, modality, where)
            yield [sql for sql in conditions if sql is not None]

    def _conditions(
        self,
        ids: Sequence[str] | str | None,
        modality: str | Iterable[str] | None,
        where: Mapping[str, Any] | None,
    ) -> list[str | None]:
        """Conditions; a row is selected if it meets any. [None] for all rows."""
        filtered = condition(self._modalities, modality, where)
        if ids is None:
            return [filtered]
        by_id = self._table.id_conditions(list(dict.fromkeys(check_ids(ids))))
        return [sql if filtered is None else f"({sql}) AND ({filtered})" for sql in by_id]


class StoredModalities:
    """The modalities of an index, in the place of its space."""

    def __init__(self, index_metadata: IndexMetadata) -> None:
        self.modalities = tuple(map(Modality, index_metadata.modalities))

    def encoder_for(self, modality: Modality | str) -> None:
        if modality not in self.modalities:
            raise UnsupportedModality(f"the index holds {', '.join(self.modalities)}, got {str(modality)!r}")
