"""The jobs that change an index: add, and retry what failed. See sync.py for the third.

Each job holds the lock of the index and stores its failures. It can be stopped at any moment: what is committed stays,
and is not encoded again by the next call.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from multimodal.core.media.registry import is_item
from multimodal.core.remote.files import RemoteFile
from multimodal.core.remote.path import RemotePath, any_source
from multimodal.core.space import Space
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.progress import JobProgress
from multimodal.index.ingest.scheduler import Job
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.folders import absolute
from multimodal.index.ingest.sources.record import (
    ROW,
    ROW_RANGE,
    Blob,
    ContainerRead,
    SourceOptions,
    SourceOutput,
    SourceRecord,
)
from multimodal.index.results import IngestReport, Metadata
from multimodal.index.storage.failures import FailureLog, FailureRecord
from multimodal.index.storage.filters import check_metadata
from multimodal.index.storage.lock import writing
from multimodal.index.storage.table import ItemTable


def add(
    table: ItemTable,
    space: Space,
    source: object,
    options: JobOptions,
    *,
    ids: Sequence[str] | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
) -> IngestReport:
    """See Index.add."""
    source_options = SourceOptions(
        checked_metadata(metadata), columns, table.folder, delimiter, encoding, options.selection
    )
    records = resolve.records(source, ids, source_options)
    with job_context(table, options, lambda: resolve.length(source, source_options)) as progress:
        Job(records, table, space, progress, options).run()
    return progress.report()


def retry_failed(table: ItemTable, space: Space, options: JobOptions) -> IngestReport:
    """See Index.retry_failed."""
    with job_context(table, options, lambda: len(FailureLog(table.path))) as progress:
        records = failed_records(list(progress.failure_log), table.folder)
        Job(records, table, space, progress, options).run()
    return progress.report()


def checked_metadata(metadata: Mapping[str, Any] | None) -> Metadata | None:
    """Metadata for all documents; None leaves stored metadata as it is. Raises InvalidInput."""
    return None if metadata is None else check_metadata(metadata)


@contextlib.contextmanager
def job_context(
    table: ItemTable, options: JobOptions, length: Callable[[], int | None]
) -> Iterator[JobProgress]:
    """Holds the lock during a job, and afterwards compacts the table and stores the failures.

    length: counts the documents to come; called in a thread, if progress is reported.
    """
    with writing(table.path, options.wait):
        table.upgrade()
        progress = JobProgress(FailureLog(table.path), options.progress, options.config.progress_interval_s)
        if options.progress is not None:
            _count_in_thread(progress, length)
        yield progress
        _resolve_folder_failures(progress.failure_log)
        table.maintain()
        progress.failure_log.write()


def _count_in_thread(progress: JobProgress, length: Callable[[], int | None]) -> None:
    def count() -> None:
        with contextlib.suppress(OSError, ValueError):  # the job itself reports what is wrong
            progress.total = length()

    threading.Thread(target=count, name="multimodal-count", daemon=True).start()


def _resolve_folder_failures(failure_log: FailureLog) -> None:
    """Resolves the failures of folders that can be listed again."""
    for failure in failure_log:
        if failure.stage == "walk" and failure.path is not None:
            with contextlib.suppress(OSError), os.scandir(failure.path):
                failure_log.resolve(failure.key)


def failed_records(failures: Sequence[FailureRecord], skip: Path | None) -> Iterator[SourceOutput]:
    """The records of failures as they were given: files by their path, the rest from its table or archive."""
    files = (
        SourceRecord(any_source(failure.path), failure.uri, failure.id, failure.metadata)
        for failure in failures
        if failure.path and not failure.container
    )
    yield from resolve.expand(files, SourceOptions(skip=skip))
    containers: dict[tuple[Any, ...], dict[str, FailureRecord]] = {}
    for failure in failures:
        if failure.container is not None:
            columns = tuple((failure.columns or {}).items())
            reading = (failure.container, columns, failure.delimiter, failure.encoding)
            containers.setdefault(reading, {})[failure.key] = failure
    for (container, columns, delimiter, encoding), wanted in containers.items():
        options = SourceOptions(None, dict(columns) or None, skip, delimiter, encoding)
        yield from _failed_members(container, wanted, options)


def _failed_members(
    container: str, wanted: Mapping[str, FailureRecord], options: SourceOptions
) -> Iterator[SourceOutput]:
    """The members of a table or archive that failed; all of them if it could not be read to its end."""
    whole = wanted.get(container)
    ranges = list(_row_ranges(container, wanted))
    for record in resolve.members(any_source(container), None if whole is None else whole.metadata, options):
        if isinstance(record, ContainerRead):
            yield record
        elif isinstance(record, FailureRecord):
            if whole or record.key in wanted or record.key == container:
                yield record
        elif (failure := _failure_of(record, wanted, ranges)) is not None:
            yield record._replace(metadata=(failure.metadata or {}) | (record.metadata or {}))
        elif whole is not None:
            yield record


def _failure_of(
    record: SourceRecord, wanted: Mapping[str, FailureRecord], ranges: Sequence[tuple[range, FailureRecord]]
) -> FailureRecord | None:
    """The failure of a record: of the document, of its row or sample, or of the rows among which its row is."""
    if (failure := wanted.get(record_id(record)) or wanted.get(record.place or "")) is not None:
        return failure
    row = (record.place or "").rpartition(ROW)[2]
    return next((failure for rows, failure in ranges if row.isdecimal() and int(row) in rows), None)


def _row_ranges(container: str, wanted: Mapping[str, FailureRecord]) -> Iterator[tuple[range, FailureRecord]]:
    """The failures of several rows of a table, with the numbers of these rows."""
    for key, failure in wanted.items():
        first, _, last = key.removeprefix(f"{container}{ROW_RANGE}").partition("-")
        if first.isdecimal() and last.isdecimal():
            yield range(int(first), int(last) + 1), failure


def record_id(record: SourceRecord) -> str:
    """The id that a member of a container has in the index."""
    value = record.value
    if record.id:
        return record.id
    if isinstance(value, Path):
        return str(absolute(value))
    if isinstance(value, RemotePath | RemoteFile):
        return value.url if isinstance(value, RemotePath) else value.path.url
    return (value.uri if is_item(value) or isinstance(value, Blob) else None) or record.name
