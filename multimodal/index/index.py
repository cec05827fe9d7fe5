"""Index: items of any modality on disk, searchable by anything that its space encodes."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack, overload

from multimodal.core.catalog import load
from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.core.items import Item
from multimodal.core.pipeline import as_space
from multimodal.core.remote.path import AnyPath, GivenPath
from multimodal.core.space import Space
from multimodal.index.administration import IndexAdministration
from multimodal.index.config import DEFAULT, SearchConfig
from multimodal.index.ingest.config import DEFAULT_CONFIG, IngestConfig, JobOptions
from multimodal.index.ingest.sources.names import check_ids
from multimodal.index.ingestion import IndexIngestion
from multimodal.index.opening import (
    check_vectors,
    index_folder,
    load_space,
    matching_space,
    metadata_of,
    same_place,
)
from multimodal.index.results import Hits, IngestReport, Progress
from multimodal.index.search.calibration_fit import CalibrationReport
from multimodal.index.search.query import Query
from multimodal.index.search.request import SearchOptions, check_options, run_calibration, run_search
from multimodal.index.storage.creation import is_index
from multimodal.index.storage.filters import condition
from multimodal.index.storage.lock import reading
from multimodal.index.storage.table import ItemTable

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

    SingleQuery = str | Path | Item | PIL.Image.Image | Mapping[str, Any]


class Index(IndexIngestion):
    """Items of any modality on disk, and search over them. Use Index.create or Index.open to get one.

    An index belongs to one space, identified by its fingerprint: vectors of different spaces cannot be compared, and
    are refused. Several processes may read and write one index; each call sees everything written before it.

    An index is pickled as its path and the address of its space, and opened again when it is unpickled. Credentials in
    `storage_options` are not pickled: those of the environment apply then.
    """

    def __init__(self, table: ItemTable, space: Space, search_config: SearchConfig = DEFAULT) -> None:
        super().__init__(table, space, search_config)
        self._space = space
        self._own = matching_space(table, space)  # encodes what is added
        self._search_config = search_config

    @classmethod
    def create(
        cls,
        path: GivenPath,
        space: Space | str | os.PathLike[str],
        *,
        exist_ok: bool = False,
        vectors: str | None = None,
        search_config: SearchConfig = DEFAULT,
        storage_options: Mapping[str, str] | None = None,
    ) -> Self:
        """Creates an empty index.

        The folder appears with its content in one step: of several processes that create the same index at once, one
        succeeds, and with exist_ok=True the others open what it created.

        Args:
            path: A new or empty folder, or one on an object store: "s3://bucket/name" ("gs://", "az://").
            space: A Space, or an argument of `load`. Its address is stored, so that Index.open(path) can load it again.
            exist_ok: Open the index that is already at the path, if it was created with the same space.
            vectors: How vectors are stored: "float32" (the default); "int8" (a quarter of the bytes); "pca128-int8"
                (128 bytes each, or another number of principal components, which are computed from the first 4,096
                items); or "bits" (float32 on disk, but only 64 bytes of each are scanned, and the vectors of the
                nearest are read). `stats` measures what a format loses.
            search_config: Tuning constants of search.
            storage_options: Of an object store: credentials and settings, by LanceDB's names, such as
                {"aws_region": "eu-west-1"}. Default: those of the environment. They are never stored.

        Returns:
            The index.

        Raises:
            IndexStateError: The path is in use, or cannot be written.
            InvalidInput: There is no such format of vectors, or the space has too few dimensions for it.
            StorageError: The object store cannot be reached, or refuses.
        """
        loaded = as_space(space)
        index_metadata = metadata_of(loaded, vectors)
        folder = index_folder(path, storage_options)
        try:
            table = ItemTable.create(folder, index_metadata, search_config.max_small_fragments)
        except IndexStateError:
            if not exist_ok or not is_index(folder):
                raise
            table = ItemTable.open(folder, search_config.max_small_fragments)
            check_vectors(table, vectors)
        return cls(table, loaded, search_config)

    @classmethod
    def open(
        cls,
        path: GivenPath,
        space: Space | str | os.PathLike[str] | None = None,
        *,
        search_config: SearchConfig = DEFAULT,
        storage_options: Mapping[str, str] | None = None,
    ) -> Self:
        """Opens an existing index.

        Args:
            path: The folder of the index, or its address on an object store.
            space: The space that created the index, or one that contains it and has more modalities, all of which can
                then be searched with. Default: the space is loaded from the address and options stored in the index.
            search_config: Tuning constants of search.
            storage_options: As in `create`.

        Returns:
            The index.

        Raises:
            IndexStateError: There is no index, its space cannot be loaded, or `space` is a different one.
            StorageError: The object store cannot be reached, or refuses.
        """
        table = ItemTable.open(index_folder(path, storage_options), search_config.max_small_fragments)
        loaded = load_space(table) if space is None else as_space(space)
        return cls(table, loaded, search_config)

    @staticmethod
    def exists(path: GivenPath, *, storage_options: Mapping[str, str] | None = None) -> bool:
        """Checks whether a folder holds an index.

        Args:
            path: The folder, or an address on an object store.
            storage_options: As in `create`.

        Returns:
            True if it holds an index.

        Raises:
            StorageError: The object store cannot be reached, or refuses.
        """
        return is_index(index_folder(path, storage_options))

    @property
    def space(self) -> Space:
        """The space that encodes queries and items."""
        return self._space

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the space whose vectors the index holds."""
        return self._table.index_metadata.fingerprint

    @overload
    def search(
        self, query: SingleQuery | Query | None = None, k: int = 10, **options: Unpack[SearchOptions]
    ) -> Hits: ...

    @overload
    def search(
        self,
        query: list[Any] | tuple[Any, ...] | NDArray[Any],
        k: int = 10,
        **options: Unpack[SearchOptions],
    ) -> Any: ...

    def search(self, query: object = None, k: int = 10, **options: Any) -> Hits | list[Hits]:
        """Finds the k items that match a query best.

        Over several modalities hits are ordered by `hit.probability`, since cosines of different modalities are not
        comparable; within one modality that is the order by cosine. With fewer than 10 rows of a modality, hits are
        ordered by cosine, and `hits.note` states it. multimodal/index/search/score_calibration.py explains how far to
        trust probabilities; for the starter, min_probability=0.87 rejects most queries without a match.

        Up to about 20,000 items every vector is compared. Above, binary codes of the vectors select candidates, and at
        most half a percent of the nearest items is expected to be missing; exact=True compares all of them, which takes
        up to twenty times as long. `hits.method` states which it was.

        Args:
            query: Anything the space encodes (a str is text), a float vector (dim,), a list of these, or a float array
                (n, dim). A list of (part, weight) pairs, or a Query, is one weighted query:
                [("beach", 1.0), (photo, 0.5), ("people", -0.7)].
            k: Number of hits.
            **options: See SearchOptions.

        Returns:
            Hits, best first, equal ones by id; for a list of queries, a list of Hits.

        Raises:
            InvalidInput: An argument is invalid, or arguments do not go together.
            UnsupportedModality: The space does not encode the query's modality.
            MediaError: The query's file cannot be read.
            TypeError: An option is unknown.
        """
        checked = check_options(options, "search")
        if (similar_to := checked.get("similar_to")) is not None:
            checked["similar_to"] = check_ids(similar_to)
        if (ids := checked.get("ids")) is not None:
            checked["ids"] = check_ids(ids)
        with reading(self.path):
            return run_search(self._searcher, self._space, query, k, checked)

    def add_index(
        self,
        source: IndexAdministration | GivenPath,
        *,
        batch_size: int = 32,
        threads: int | None = None,
        wait: float | None = None,
        progress: Callable[[Progress], None] | None = None,
        config: IngestConfig = DEFAULT_CONFIG,
    ) -> IngestReport:
        """Adds the documents of another index, encoded with the space of this one.

        Vectors of different spaces cannot be converted, so the sources are read again: files, and the tables and
        archives that documents came from. Texts are taken from the other index. Ids and metadata stay the same.

        Args:
            source: An index, or its folder; its space is not loaded.
            batch_size: As in `add`.
            threads: As in `add`.
            wait: As in `add`.
            progress: As in `add`.
            config: As in `add`.

        Returns:
            The counts of documents by outcome. Documents whose source is gone, and images, audio and video that were
            given in memory, are failures.

        Raises:
            InvalidInput: `source` is this index.
            IndexBusy: Another writer was active for longer than `wait`.
            IndexStateError: There is no index at `source`, or this one cannot be written.
        """
        from multimodal.index.ingest import reindex as reindexing

        old = source if isinstance(source, IndexAdministration) else IndexAdministration.without_space(source)
        if same_place(old.path, self.path):
            raise InvalidInput(
                f"an index cannot be added to itself, got {str(old.path)!r}; choose another folder"
            )
        options = JobOptions(False, batch_size, threads, wait, progress, config)
        report = reindexing.reindex(old._table, self._table, self._own, options)
        self._searcher.prepare()
        return report

    def reindex(
        self,
        path: GivenPath,
        space: Space | str | os.PathLike[str],
        *,
        storage_options: Mapping[str, str] | None = None,
        **options: Any,
    ) -> IngestReport:
        """Encodes the same documents with another space into a new index, and leaves this one as it is.

        An interrupted call resumes when it is repeated.

        Args:
            path: The folder of the new index: new, empty, or an index of `space`, which is continued.
            space: A Space, or an argument of `load`.
            storage_options: Of the new index; as in `create`.
            **options: See `add_index`.

        Returns:
            As `add_index`.

        Raises:
            InvalidInput: `path` is this index.
            IndexStateError: The path is in use, or cannot be written.
            IndexBusy: Another writer of the new index was active for longer than `wait`.
        """
        folder = index_folder(path, storage_options)
        if same_place(folder, self.path):
            raise InvalidInput(
                f"an index cannot be added to itself, got {str(path)!r}; choose another folder"
            )
        return type(self).create(folder, space, exist_ok=True).add_index(self, **options)

    def calibrate(self, pairs: Iterable[tuple[Any, ...]]) -> CalibrationReport:
        """Fits `hit.probability` of this index to labelled pairs, and stores the fit with the index.

        The order within a modality stays that of cosine. Probabilities change, and with them the order of several
        modalities. A later call replaces the fit; `reset_calibration` removes it. Few labels change little; some 50
        queries with all of their relevant items are a good start.

        Args:
            pairs: (query, id) of relevant items, or (query, id, relevant). A query is anything that `search` accepts as
                one. An id is that of an item or a document, or the Path of a file. If all pairs of a query are
                relevant, other items count as irrelevant to it; otherwise only labelled items count.

        Returns:
            The expected calibration error and a suggested min_probability, before and after.

        Raises:
            InvalidInput: A pair is malformed, an id is unknown, or a modality has fewer than 10 rows.
            UnsupportedModality: The space does not encode a query's modality.
            IndexStateError: The index cannot be written.
        """
        return run_calibration(self._searcher, self._space, pairs)

    def __bool__(self) -> bool:
        """True even if the index is empty."""
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        # The address may load a larger space than the index's own, such as the one it was opened with.
        loaded = self._space.address
        space = None if loaded is None else (loaded, self._space.options)
        return _reopen, (self.path, space, self._search_config)

    def __repr__(self) -> str:
        return f"Index({str(self.path)!r}, {len(self):,} items, space={self._table.index_metadata.space!r})"

    def _repr_html_(self) -> str:
        index_metadata = self._table.index_metadata
        counts = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{self._table.count(condition(self._space, name)):,}</td></tr>"
            for name in index_metadata.modalities
        )
        title = f"<b>Index {html.escape(str(self.path))}</b><p>space {html.escape(index_metadata.space)}</p>"
        return f"{title}<table>{counts}</table>"


def _reopen(path: AnyPath, space: tuple[str, dict[str, Any]] | None, search_config: SearchConfig) -> Index:
    """Opens an unpickled index. space: the address and options of its space; None for those stored in the index."""
    loaded = None if space is None else load(space[0], **space[1])
    return Index.open(path, loaded, search_config=search_config)
