"""Jobs on an index by many machines: the same arguments and report as on one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from multimodal.core.cluster.connection import WorkerSize, connected
from multimodal.core.cluster.options import ClusterOptions, require_extra
from multimodal.core.cluster.pool import WorkerPool
from multimodal.core.limits import get_limits
from multimodal.core.remote.access import StoreAccess
from multimodal.core.remote.path import GivenPath
from multimodal.core.space import Space
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.engines.contents import Contents
from multimodal.index.ingest.engines.driver import COMMIT_S, Driver
from multimodal.index.ingest.engines.worker import IndexWorker, WorkerSettings
from multimodal.index.ingest.jobs import checked_metadata, failed_records, job_context
from multimodal.index.ingest.progress import JobProgress
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import SourceOptions, SourceOutput
from multimodal.index.ingest.sync import Seen, synchronise
from multimodal.index.results import IngestReport
from multimodal.index.storage.failures import FailureLog
from multimodal.index.storage.table import IndexedDocument, ItemTable


class ClusterJob:
    """Jobs on one index.

    Args:
        table: Of the index.
        options: Of the job.
        cluster: Where the workers run.
        space: That of the index, to be sent to the workers; None to have them load the one that the index names, with
            the `runtime` options of `load`. This process loads no model then.
        runtime: See there.

    Raises:
        MissingExtra: Ray or pylance is not installed.
        InvalidInput: The space cannot be sent.
    """

    def __init__(
        self,
        table: ItemTable,
        options: JobOptions,
        cluster: ClusterOptions,
        *,
        space: Space | None = None,
        runtime: Mapping[str, Any] | None = None,
    ) -> None:
        require_extra("lance")
        if space is not None:
            space.__reduce__()  # raises for a space that cannot be sent
        self._table, self._options, self._cluster = table, options, cluster
        self._space, self._runtime = space, dict(runtime or {})

    def add(
        self,
        source: object,
        *,
        ids: Sequence[str] | str | None = None,
        metadata: Mapping[str, Any] | None = None,
        columns: Mapping[str, str] | None = None,
        delimiter: str | None = None,
        encoding: str | None = None,
    ) -> IngestReport:
        """See Index.add."""
        options = SourceOptions(
            checked_metadata(metadata),
            columns,
            self._table.folder,
            delimiter,
            encoding,
            self._options.selection,
            # The driver has to see the members of tables and archives if their contents are compared.
            as_shards=not self._options.dedupe,
        )
        records = resolve.records(source, ids, options)
        with job_context(self._table, self._options, lambda: resolve.length(source, options)) as progress:
            self._run(records, progress, {})
        return progress.report()

    def sync(self, source: GivenPath | Sequence[GivenPath], **given: Any) -> IngestReport:
        """See Index.sync."""
        return synchronise(self._table, partial(self._run, sees_members=True), source, self._options, **given)

    def retry_failed(self) -> IngestReport:
        """See Index.retry_failed."""
        table = self._table
        with job_context(table, self._options, lambda: len(FailureLog(table.path))) as progress:
            self._run(failed_records(list(progress.failure_log), table.folder), progress, {})
        return progress.report()

    def _run(
        self,
        records: Iterator[SourceOutput],
        progress: JobProgress,
        vanished: Mapping[str, list[IndexedDocument]],
        *,
        sees_members: bool = False,
    ) -> Seen:
        options = self._options
        device = self._runtime.get("device", "auto" if self._space is None else _device(self._space))
        contents = Contents(self._table, vanished, dedupe=options.dedupe)
        with connected(self._cluster, wants_gpus=device != "cpu") as size:
            settings = _settings(self._table, options, self._space, self._runtime, size)
            with WorkerPool(partial(IndexWorker, settings), size) as pool:
                driver = Driver(records, self._table, progress, options.config, pool, contents)
                driver.seen_ids = set() if sees_members else None
                driver.run()
        return Seen(driver.seen_ids or set(), contents.moved, driver.incomplete)


def _device(space: Space) -> str:
    return next(iter(space.encoders.values())).runtime.device


def _settings(
    table: ItemTable,
    options: JobOptions,
    space: Space | None,
    runtime: Mapping[str, Any] | None,
    size: WorkerSize,
) -> WorkerSettings:
    config = replace(options.config, commit_interval_s=min(COMMIT_S, options.config.commit_interval_s))
    of_worker = replace(
        options,
        dedupe=False,
        progress=None,
        wait=None,
        config=config,
        threads=options.threads or size.n_threads,
    )
    return WorkerSettings(
        table.path,
        space,
        dict(runtime or {}),
        size,
        of_worker,
        get_limits(),
        StoreAccess.of(table.path),
    )
