"""Adds to an index from many machines: the same job, arguments and report as on one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from multimodal.core.cluster.connection import WorkerSize, connected
from multimodal.core.cluster.options import ClusterOptions, require_extra
from multimodal.core.cluster.pool import WorkerPool
from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.core.limits import get_limits
from multimodal.core.space import Space
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.engines.driver import COMMIT_S, Driver
from multimodal.index.ingest.engines.worker import IndexWorker, WorkerSettings
from multimodal.index.ingest.jobs import checked_metadata, job_context
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import SourceOptions
from multimodal.index.results import IngestReport
from multimodal.index.storage.table import ItemTable


def add(
    table: ItemTable,
    source: object,
    options: JobOptions,
    cluster: ClusterOptions,
    *,
    space: Space | None = None,
    runtime: Mapping[str, Any] | None = None,
    ids: Sequence[str] | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> IngestReport:
    """See Index.add.

    space: that of the index, to be sent to the workers; None to have them load the one that the index names, with the
    `runtime` options of `load`. This process loads no model then.
    """
    require_extra("lance")
    if options.dedupe:
        raise InvalidInput(
            "dedupe=True compares the content of each document with that of all others, which workers on several "
            "machines cannot; leave out dedupe or engine='ray'"
        )
    if table.vectors.has_codes:
        raise IndexStateError(
            f"the index at {str(table.path)!r} stores vectors as {table.index_metadata.vectors}, which only one "
            "machine can write; create it with vectors='float32' or 'bits', or leave out engine='ray'"
        )
    if space is not None:
        space.__reduce__()  # raises for a space that cannot be sent
    source_options = SourceOptions(
        checked_metadata(metadata),
        columns,
        table.folder,
        delimiter,
        encoding,
        options.selection,
        as_shards=True,
    )
    records = resolve.records(source, ids, source_options)
    with job_context(table, options, lambda: resolve.length(source, source_options)) as progress:
        device = dict(runtime or {}).get("device", "auto" if space is None else _device(space))
        with connected(cluster, wants_gpus=device != "cpu") as size:
            settings = _settings(table, options, space, runtime, size)
            with WorkerPool(partial(IndexWorker, settings), size) as pool:
                Driver(records, table, progress, options.config, pool).run()
    return progress.report()


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
        options, progress=None, wait=None, config=config, threads=options.threads or size.n_threads
    )
    return WorkerSettings(table.path, space, dict(runtime or {}), size.n_gpus > 0, of_worker, get_limits())
