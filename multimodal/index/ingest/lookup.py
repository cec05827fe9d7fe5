"""Looks source records up in the index, many at a time. Runs in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from multimodal.core.media.inputs import source_nbytes
from multimodal.core.media.registry import is_item
from multimodal.core.remote.files import RemoteFile
from multimodal.core.remote.path import RemotePath
from multimodal.index.ingest.config import IngestConfig
from multimodal.index.ingest.document import Document, stat_document
from multimodal.index.ingest.sources.record import Blob, ContainerRead, SourceOutput, SourceRecord
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.table import ItemTable

LookupResult = Document | FailureRecord | ContainerRead

REMOTE_REQUESTS = 16  # at a time


class LookupBatch(NamedTuple):
    """Results in the order of the source; whether the source has ended; what it raised, if it did."""

    results: list[LookupResult]
    is_last: bool
    error: BaseException | None = None


class Lookup:
    """Reads records from a source, as many at a time as are worth one query of the index."""

    def __init__(
        self,
        records: Iterator[SourceOutput],
        table: ItemTable,
        config: IngestConfig,
        n_writes: Callable[[], int] = lambda: 0,
    ) -> None:
        self._records, self._table, self._config = records, table, config
        self._n_writes = n_writes  # of the job to the table so far
        self._size = config.lookup_first

    def next(self) -> LookupBatch:
        """The next batch. An error of the source ends it; the records before the error are in it."""
        config = self._config
        records: list[SourceOutput] = []
        n_bytes, start = 0, time.monotonic()
        try:
            for record in self._records:
                records.append(record)
                n_bytes += memory_size(record.value) if isinstance(record, SourceRecord) else 0
                is_late = time.monotonic() - start >= config.lookup_wait_s
                if len(records) >= self._size or n_bytes >= config.lookup_bytes or is_late:
                    self._size = min(2 * self._size, self._max_size())
                    return LookupBatch(self.stat(records), is_last=False)
        except Exception as error:
            return LookupBatch(self.stat(records), is_last=True, error=error)
        except BaseException as error:
            return LookupBatch([], is_last=True, error=error)
        return LookupBatch(self.stat(records), is_last=True)

    def _max_size(self) -> int:
        config = self._config
        return (
            max(config.lookup_max, config.lookup_scattered)
            if self._table.has_scattered_ids
            else config.lookup_max
        )

    def stat(self, records: list[SourceOutput]) -> list[LookupResult]:
        """Each record as a document, with what the index holds of it."""
        if any(
            isinstance(record, SourceRecord) and isinstance(record.value, RemotePath) for record in records
        ):
            with ThreadPoolExecutor(REMOTE_REQUESTS, "multimodal-stat") as pool:  # a request for each
                results = list(pool.map(_stat, records))
        else:
            results = list(map(_stat, records))
        documents = [result for result in results if isinstance(result, Document)]
        n_writes = self._n_writes()  # before the table is read
        stored = self._table.documents([document.id for document in documents])
        for document in documents:
            document.stored, document.looked_up_at = stored.get(document.id), n_writes
        return results


def _stat(record: SourceOutput) -> LookupResult:
    return stat_document(record) if isinstance(record, SourceRecord) else record


def memory_size(value: object) -> int:
    """About how many bytes of memory a value keeps; a file keeps none."""
    if isinstance(value, Path | RemoteFile):
        return 0
    if is_item(value):
        return value.nbytes
    return source_nbytes(value.data if isinstance(value, Blob) else value)
