"""ClusterIndex: an index as the driver of a job on a cluster opens it, without a model in this process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.core.catalog import load
from multimodal.core.cluster.connection import connected, remote_call
from multimodal.core.cluster.options import ClusterOptions, require_extra
from multimodal.core.errors import IndexStateError
from multimodal.core.remote.path import AnyPath, GivenPath
from multimodal.index.administration import IndexAdministration, StoredModalities
from multimodal.index.config import DEFAULT
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.engines.job import ClusterJob
from multimodal.index.ingest.sources.selection import Patterns, selection
from multimodal.index.opening import accepted_fingerprints, check_vectors, index_folder, metadata_of, mismatch
from multimodal.index.results import IngestReport
from multimodal.index.storage.creation import is_index
from multimodal.index.storage.schema import IndexMetadata
from multimodal.index.storage.table import ItemTable

DEFAULT_SPACE = "starter"


class SpaceName(NamedTuple):
    """In the place of a space that is not loaded."""

    name: str


class ClusterIndex(IndexAdministration):
    """An index to which workers on a cluster add. Use opened_on_cluster to get one."""

    def __init__(self, table: ItemTable, cluster: ClusterOptions, runtime: Mapping[str, Any]) -> None:
        super().__init__(table, StoredModalities(table.index_metadata))
        self._cluster, self._runtime = cluster, runtime

    @property
    def space(self) -> SpaceName:
        """The name of the space."""
        return SpaceName(self._table.index_metadata.space)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the space."""
        return self._table.index_metadata.fingerprint

    def add(
        self,
        source: object,
        *,
        include: Patterns | None = None,
        exclude: Patterns | None = None,
        ids: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        **options: Any,
    ) -> IngestReport:
        """See Index.add."""
        report = self._job(include, exclude, options).add(
            source, ids=ids, metadata=metadata, columns=columns, delimiter=delimiter, encoding=encoding
        )
        self._searcher.prepare()
        return report

    def sync(
        self,
        source: GivenPath | Sequence[GivenPath],
        *,
        include: Patterns | None = None,
        exclude: Patterns | None = None,
        metadata: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
        **options: Any,
    ) -> IngestReport:
        """See Index.sync."""
        report = self._job(include, exclude, options).sync(
            source, metadata=metadata, columns=columns, delimiter=delimiter, encoding=encoding
        )
        self._searcher.prepare()
        return report

    def retry_failed(self, **options: Any) -> IngestReport:
        """See Index.retry_failed."""
        report = self._job(None, None, options).retry_failed()
        self._searcher.prepare()
        return report

    def _job(
        self, include: Patterns | None, exclude: Patterns | None, options: Mapping[str, Any]
    ) -> ClusterJob:
        job_options = JobOptions(selection=selection(include, exclude), **options)
        return ClusterJob(self._table, job_options, self._cluster, runtime=self._runtime)


@contextlib.contextmanager
def opened_on_cluster(
    path: GivenPath,
    space: str | None,
    cluster: ClusterOptions,
    runtime: Mapping[str, Any],
    vectors: str | None = None,
) -> Iterator[ClusterIndex]:
    """Connects to the cluster, and opens an index; creates it if it does not exist.

    Args:
        path: Of the index.
        space: The name of the space. Default: that of the index, or `starter` for a new one. A worker loads the space
            of a new index, to learn its fingerprint.
        cluster: Where the job will run.
        runtime: Options of `load` for the workers.
        vectors: As in Index.create and Index.open.

    Yields:
        The index.

    Raises:
        MissingExtra: Ray or pylance is not installed.
        ClusterError: The cluster cannot be reached.
        IndexStateError: The index cannot be opened or created, or belongs to another space.
    """
    require_extra("lance")
    folder = index_folder(path)
    with connected(cluster):  # before LanceDB starts threads
        yield ClusterIndex(_open_or_create(folder, space, runtime, vectors), cluster, runtime)


def _open_or_create(
    folder: AnyPath, space: str | None, runtime: Mapping[str, Any], vectors: str | None
) -> ItemTable:
    described: IndexMetadata | None = None
    accepted: set[str] = set()
    if not is_index(folder):
        described, accepted = remote_call(
            _describe, _anywhere(space or DEFAULT_SPACE), dict(runtime), vectors
        )
        try:
            return ItemTable.create(folder, described, DEFAULT.max_small_fragments)
        except IndexStateError:
            if not is_index(folder):
                raise
    table = ItemTable.open(folder)  # another process may have created it just now
    check_vectors(table, vectors)
    stored = table.index_metadata
    if space is not None and _anywhere(space) not in (stored.space, stored.address):
        described, accepted = remote_call(_describe, _anywhere(space), dict(runtime), vectors)
    if described is not None and stored.fingerprint not in accepted:
        raise mismatch(table, described)
    return table


def _describe(space: str, runtime: dict[str, Any], vectors: str | None) -> tuple[IndexMetadata, set[str]]:
    """What an index of a space stores of it, and the fingerprints that the space accepts. Called on the cluster."""
    loaded = load(space, **runtime)
    return metadata_of(loaded, vectors), accepted_fingerprints(loaded)


def _anywhere(space: str) -> str:
    """The name of a space in a form that means the same in any working directory."""
    return str(Path(space).absolute()) if Path(space).is_dir() else space
