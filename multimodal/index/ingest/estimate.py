"""Estimates an add without doing it: documents of each modality, bytes, and time.

The media type comes from the file name where possible, so that no file need be opened. The time is measured on an even
sample of the documents, which go through the same stages as in a job, without the writing.
"""

from __future__ import annotations

import mimetypes
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from multimodal.core.errors import MultimodalError
from multimodal.core.media import registry
from multimodal.core.modality import Modality
from multimodal.core.remote.files import RemoteFile
from multimodal.core.space import Space
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.document import Document
from multimodal.index.ingest.documents import kinds
from multimodal.index.ingest.lookup import Lookup, memory_size
from multimodal.index.ingest.progress import JobProgress
from multimodal.index.ingest.scheduler import Job
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import Blob, ContainerRead, SourceOptions, SourceRecord
from multimodal.index.ingest.sync import SyncPlan
from multimodal.index.results import Estimate
from multimodal.index.storage.failures import FailureLog, FailureRecord
from multimodal.index.storage.table import IndexedDocument, ItemTable

SAMPLE_SIZE = 48  # documents of each modality
TIMED_BY_BYTES = ("audio", "video", "text")  # an image takes the same time whatever its size


class _Sample:
    """Counts the documents of one modality, and keeps a uniform sample of them (reservoir sampling)."""

    def __init__(self) -> None:
        self.count = self.n_bytes = 0
        self.documents: list[tuple[SourceRecord, int]] = []
        self._random = random.Random(0)  # the same sample each time

    def push(self, record: SourceRecord, n_bytes: int) -> None:
        self.count += 1
        self.n_bytes += n_bytes
        if len(self.documents) < SAMPLE_SIZE:
            self.documents.append((record, n_bytes))
        elif (position := self._random.randrange(self.count)) < SAMPLE_SIZE:
            self.documents[position] = (record, n_bytes)


class _NullTable:
    """A store that holds nothing and writes nothing."""

    path = Path()
    has_scattered_ids = False

    def documents(self, sources: Sequence[str]) -> dict[str, IndexedDocument]:
        return {}

    def count(self, condition: str | None = None) -> int:
        return 0

    def upsert(self, *arguments: Any, **options: Any) -> None: ...

    def index_ids(self) -> None: ...


def estimate(
    table: ItemTable | None,
    space: Space,
    source: object,
    columns: Mapping[str, str] | None,
    options: JobOptions,
    delimiter: str | None = None,
    encoding: str | None = None,
    *,
    sync: bool = False,
) -> Estimate:
    """See Index.estimate. table: None for an index that does not exist yet."""
    plan = SyncPlan(table, source) if sync and table is not None else None
    source_options = SourceOptions(
        None, columns, None if table is None else table.folder, delimiter, encoding, options.selection
    )
    records = resolve.records(source, None, source_options)
    samples: dict[str, _Sample] = {}
    unchanged = failed = skipped = 0
    lookup = Lookup(records, table or _NullTable(), options.config)  # type: ignore[arg-type]
    for document in _documents(lookup):
        if isinstance(document, FailureRecord):
            failed += 1
        elif plan is not None and plan.sees(document):
            continue
        elif document.has_same_state or document.has_same_content:
            unchanged += 1
        elif (modality := _modality(document)) not in space.modalities:
            is_skipped = (
                not modality and document.record.is_listed and not kinds.claims_kind(document.uri or "")
            )
            skipped += is_skipped
            failed += not is_skipped
        else:
            is_file = document.path is not None or isinstance(document.record.value, RemoteFile)
            on_disk = is_file and document.state
            n_bytes = on_disk[0] if on_disk else memory_size(document.record.value)
            samples.setdefault(modality, _Sample()).push(document.record, n_bytes)
    n_deleted = 0 if plan is None else plan.n_deleted()  # raises before anything is timed
    return Estimate(
        counts={modality: samples[modality].count for modality in sorted(samples)},
        n_bytes=sum(sample.n_bytes for sample in samples.values()),
        unchanged=unchanged,
        failed=failed,
        skipped=skipped,
        seconds=sum(_seconds(modality, sample, space, options) for modality, sample in samples.items()),
        sampled=sum(len(sample.documents) for sample in samples.values()),
        moved=0 if plan is None else plan.n_moved,
        deleted=n_deleted,
    )


def _documents(lookup: Lookup) -> Iterator[Document | FailureRecord]:
    while True:
        batch = lookup.next()
        yield from (result for result in batch.results if not isinstance(result, ContainerRead))
        if batch.error is not None:
            raise batch.error
        if batch.is_last:
            return


def _modality(document: Document) -> str:
    """The modality of a document, by its name if that has a known suffix; "" if it has none."""
    if document.item is not None:
        return str(document.item.modality)
    name = Path(document.uri or "")
    if kinds.is_document_name(name.name):
        return str(Modality.TEXT)
    guessed = (mimetypes.guess_type(name.name)[0] or "").partition("/")[0]
    if guessed in ("image", "audio", "video"):
        return guessed
    value = document.record.value
    try:
        source = value.data if isinstance(value, Blob) else document.path or b""
        return str(registry.identify(source).modality)
    except (MultimodalError, OSError):
        return ""


def _seconds(modality: str, sample: _Sample, space: Space, options: JobOptions) -> float:
    """Extrapolates the time of the sample to all documents of a modality."""
    records = [record for record, _ in sample.documents]
    _time_job(records[:2], space, options)  # warm-up: what is loaded once is not extrapolated
    seconds = _time_job(records, space, options)
    if modality in TIMED_BY_BYTES and (n_bytes := sum(size for _, size in sample.documents)):
        return seconds * sample.n_bytes / n_bytes
    return seconds * sample.count / len(records)


def _time_job(records: list[SourceRecord], space: Space, options: JobOptions) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        progress = JobProgress(FailureLog(Path(folder)))
        Job(iter(records), _NullTable(), space, progress, options).run()  # type: ignore[arg-type]
        return time.perf_counter() - start
