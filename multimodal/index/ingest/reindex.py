"""Reads the documents of one index again from their sources, to encode them with another space into a new index."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from multimodal.core.errors import MultimodalError
from multimodal.core.items import Text
from multimodal.core.modality import Modality
from multimodal.core.remote.opened import is_file
from multimodal.core.remote.path import AnyPath, RemotePath, any_source, is_remote_source
from multimodal.core.space import Space
from multimodal.index import fragments
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.jobs import job_context, record_id
from multimodal.index.ingest.scheduler import Job
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.names import printable
from multimodal.index.ingest.sources.record import ContainerRead, SourceOptions, SourceOutput, SourceRecord
from multimodal.index.results import IngestReport, Metadata
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import ItemTable

DOCUMENTS_PER_QUERY = 500


class _Stored(NamedTuple):
    """The first row of a stored document."""

    row: Row
    provenance: Provenance

    @property
    def id(self) -> str:
        return self.provenance.source

    @property
    def name(self) -> str:
        return printable(self.row.uri or self.id)

    @property
    def metadata(self) -> Metadata:
        return fragments.shared_metadata(self.row.metadata, self.row.id, self.id, self.row.uri)


def reindex(old: ItemTable, new: ItemTable, space: Space, options: JobOptions) -> IngestReport:
    """See Index.reindex."""
    with job_context(new, options, lambda: _count_documents(old)) as progress:
        Job(records(old), new, space, progress, options).run()
    return progress.report()


def records(table: ItemTable) -> Iterator[SourceOutput]:
    """Yields the source record of each document of an index, or a failure if it cannot be read again."""
    in_containers: dict[str, dict[str, _Stored]] = {}
    documents = _documents(table)
    while some := list(itertools.islice(documents, DOCUMENTS_PER_QUERY)):
        texts = _texts(table, [stored.id for stored in some if _is_stored_text(stored)])
        for stored in some:
            container = stored.provenance.container
            if stored.id in texts:
                yield _text_record(stored, texts[stored.id])
            elif (path := _path(stored)) is not None:
                yield SourceRecord(path, stored.name, stored.id, stored.metadata, container)
            elif container is not None:
                in_containers.setdefault(container, {})[stored.id] = stored
            else:
                yield _failure(
                    stored, "was given in memory, so it cannot be read again: add it to the new index"
                )
    for container, wanted in in_containers.items():
        yield from _members(any_source(container), wanted)


def _documents(table: ItemTable) -> Iterator[_Stored]:
    """Each document once, by its first row."""
    seen: set[str] = set()
    for row, provenance in table.provenances():
        if provenance.source not in seen:
            seen.add(provenance.source)
            yield _Stored(row, provenance)


def _count_documents(table: ItemTable) -> int:
    return sum(1 for _ in _documents(table))


def _path(stored: _Stored) -> AnyPath | None:
    """The file of a document, also one that is gone; None if it had none of its own."""
    uri, provenance = stored.row.uri, stored.provenance
    if uri is None:
        return None
    if is_remote_source(uri):  # which an item in memory may have as its name, too
        is_member = uri.startswith(f"{provenance.container}#")
        is_object = provenance.mtime_ns is not None or provenance.container is not None
        return RemotePath(uri) if is_object and not is_member else None
    is_file = provenance.mtime_ns is not None if provenance.container is None else Path(uri).is_file()
    return Path(uri) if is_file else None


def _is_stored_text(stored: _Stored) -> bool:
    """Whether the text of a document can be put together from its rows; that of pages and other parts is read again."""
    row, provenance = stored
    is_part = row.start_s is not None or bool(
        fragments.metadata_of(row.id.removeprefix(provenance.source), row.uri)
    )
    return row.modality == Modality.TEXT and _path(stored) is None and not is_part


def _texts(table: ItemTable, ids: list[str]) -> dict[str, str]:
    """The whole text of each document, put together from its overlapping passages."""
    if not ids:
        return {}
    passages: dict[str, list[Row]] = {}
    rows, provenances, _ = table.fetch_rows(is_in("source", ids, "documents"))
    for row, provenance in zip(rows, provenances, strict=True):
        passages.setdefault(provenance.source, []).append(row)
    return {id_: joined_text(parts) for id_, parts in passages.items()}


def joined_text(passages: Sequence[Row]) -> str:
    """The text whose passages overlap or follow each other."""
    text = ""
    for row in sorted(passages, key=lambda passage: passage.start_char or 0):
        start = row.start_char or 0
        text = text[:start].ljust(start) + (row.text or "")  # what lay between passages was white space
    return text


def _text_record(stored: _Stored, text: str) -> SourceRecord:
    row, provenance = stored
    state = (
        None
        if provenance.size is None or provenance.mtime_ns is None
        else (provenance.size, provenance.mtime_ns)
    )
    return SourceRecord(
        Text(text, uri=row.uri), stored.name, stored.id, stored.metadata, provenance.container, None, state,
        split_text=row.start_char is not None,
    )  # fmt: skip


def _members(container: AnyPath, wanted: dict[str, _Stored]) -> Iterator[SourceOutput]:
    """The wanted documents of a table or archive. Those that it no longer holds are failures."""
    reason, is_there = f"is no longer in {printable(container)}", is_file(container)
    try:
        for record in resolve.members(container, None, SourceOptions()) if is_there else ():
            if isinstance(record, SourceRecord):
                if (stored := wanted.pop(record_id(record), None)) is not None:
                    yield record._replace(metadata=stored.metadata)
            elif not isinstance(record, ContainerRead) and wanted.pop(record.key, None) is not None:
                yield record
    except MultimodalError as error:  # its columns are not recognised any more
        reason = f"cannot be read from {printable(container)} ({error})"
    for stored in wanted.values():
        yield _failure(stored, reason if is_there else f"its source {printable(container)} is gone")


def _failure(stored: _Stored, reason: str) -> FailureRecord:
    container = stored.provenance.container
    return FailureRecord(
        stored.id,
        stored.name,
        "read",
        f"{stored.name}: {reason}",
        None,
        container,
        None,
        None,
        stored.metadata,
    )
