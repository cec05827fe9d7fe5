"""The data of an ingest: a document on its way into the index, and the chunks that an encoder takes of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.errors import MediaError, MediaNotFound, MultimodalError
from multimodal.core.items import Item, Text, to_item
from multimodal.core.media import sniff
from multimodal.core.media.registry import is_item
from multimodal.core.remote import files
from multimodal.core.remote.copies import check_size
from multimodal.core.remote.files import RemoteFile
from multimodal.core.remote.path import RemotePath
from multimodal.index.ingest.hashing import hash_item
from multimodal.index.ingest.sources.folders import absolute
from multimodal.index.ingest.sources.names import check_unicode, printable
from multimodal.index.ingest.sources.record import Blob, FileState, SourceRecord
from multimodal.index.ingest.video import subtitles_of
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import IndexedDocument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(eq=False)
class Document:
    """One source record on its way into the index.

    Attributes:
        path: The file it is read from; None for items in memory and members of containers.
        state: Size and time of that file when the document was looked up.
        stored: What the index holds of the document already.
        looked_up_at: Number of the latest write that `stored` includes.
        rows: Rows of the chunks that are encoded, with their `vectors` (dim,).
        pending: How many chunks are read and not encoded yet.
        is_read: Whether all chunks have been read.
        failed: Whether it failed. Chunks that are still in flight are then dropped.
    """

    record: SourceRecord
    id: str
    uri: str | None
    path: Path | None = None
    state: FileState | None = None
    item: Item | None = None
    content_hash: str | None = None
    stored: IndexedDocument | None = None
    looked_up_at: int = 0
    rows: list[Row] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    pending: int = 0
    is_read: bool = False
    failed: bool = False

    @property
    def metadata(self) -> Metadata:
        """The metadata that all its rows share: as given with the source, or else as stored."""
        if self.record.metadata is not None:
            return self.record.metadata
        return {} if self.stored is None else self.stored.metadata

    @property
    def provenance(self) -> Provenance:
        return Provenance(self.id, self.record.container, self.content_hash, *(self.state or (None, None)))

    @property
    def has_same_state(self) -> bool:
        """Whether the index has it with the same size and time."""
        return (
            self.stored is not None and self.state is not None and self.state == self.stored.provenance[-2:]
        )

    @property
    def has_same_content(self) -> bool:
        """Whether the index has it with the same content."""
        return (
            self.stored is not None
            and self.content_hash is not None
            and self.content_hash == self.stored.provenance.content
        )

    @property
    def is_unchanged(self) -> bool:
        """Whether the index has all of it, so that there is nothing to write."""
        if self.stored is None or not (self.has_same_state or self.has_same_content):
            return False
        is_current = self.provenance[-2:] == self.stored.provenance[-2:]
        return is_current and self.metadata == self.stored.metadata

    @property
    def has_changed_on_disk(self) -> bool:
        """Whether its file changed since the document was looked up."""
        return self.path is not None and _file_state(self.path) != self.state

    def check_state(self) -> None:
        """Raises MediaError if its file changed since the document was looked up."""
        if self.has_changed_on_disk:
            raise MediaError(
                f"{printable(self.path)}: changed while it was being read; add it again when it is complete"
            )

    def failure(self, stage: str, error: BaseException) -> FailureRecord:
        """The record of a failure of this document."""
        return failure_of(self.record, stage, error, self.id)


class Chunk(NamedTuple):
    """What an encoder takes in at once: a whole image, a window of a recording, a passage of a text.

    row: its row, without the metadata of the document. length: seconds, characters, or 1. held_bytes: memory it keeps
    until it is encoded. decoded_bytes: memory it takes while it is prepared.
    """

    document: Document
    item: Item
    row: Row
    length: float
    held_bytes: int
    decoded_bytes: int


class OpenedDocument(NamedTuple):
    """A document with its first chunks, and the stream that yields the others, if there are more. `chunks` is None if
    the index has the same content already."""

    document: Document
    chunks: list[Chunk] | None
    stream: Iterator[Chunk] | None


def stat_document(record: SourceRecord) -> Document | FailureRecord:
    """Finds the id of a record and the state of its file, without reading it: enough to look it up in the index.

    The content is hashed only if the record has no other name.
    """
    try:
        return _stat(record)
    except Exception as error:  # whatever a codec raises, one file must not end a job of hours
        return failure_of(record, "read", error)


def failure_of(
    record: SourceRecord, stage: str, error: BaseException, key: str | None = None
) -> FailureRecord:
    """The stored record of a failure. key: the id of the document, where it is known."""
    source = record.value.source if is_item(record.value) else record.value
    if isinstance(source, Blob) and source.remote is not None:
        source = source.remote
    path = str(absolute(source.expanduser())) if isinstance(source, Path) and not record.container else None
    if isinstance(source, RemoteFile | RemotePath) and not record.container:
        path = _address(source)
    reason = str(error) if isinstance(error, MultimodalError) else f"{type(error).__name__}: {error}"
    return FailureRecord(
        key=key or record.id or path or record.name,
        uri=record.name,
        stage=stage,
        reason=sniff.with_name(reason, record.name),
        path=path,
        container=record.container,
        columns=record.columns,
        id=record.id,
        metadata=record.metadata,
        delimiter=record.delimiter,
        encoding=record.encoding,
    )


def _stat(record: SourceRecord) -> Document:
    value = record.value
    if isinstance(value, Blob):
        document = Document(record, record.id or value.uri, value.uri, state=record.file_state)
    elif isinstance(value, RemoteFile | RemotePath):
        document = _stat_remote(record, value)
    elif isinstance(value, Path):
        document = _stat_file(record, value, None)
    else:
        item = to_item(value)
        if isinstance(item, Text):
            item.load()  # raises for an empty text
        elif isinstance(item.source, Path) and item.uri == str(item.source):
            return _stat_file(record, item.source, item)
        name, content = record.id or item.uri, None
        if name is None:
            content = hash_item(item)
            name = f"{item.modality}:{content}"
        document = Document(record, name, item.uri, None, record.file_state, item, content)
    if document.uri is not None:
        check_unicode(document.uri, "the path")
    return document


def _stat_file(record: SourceRecord, file: Path, item: Item | None) -> Document:
    path = file if record.is_listed else absolute(file.expanduser())  # a walk yields absolute paths
    check_unicode(str(path), "the path")
    return Document(record, record.id or str(path), str(path), path, _file_state(path), item)


def _stat_remote(record: SourceRecord, value: RemoteFile | RemotePath) -> Document:
    file = files.stat_source(value) if isinstance(value, RemotePath) else value
    if file is None:
        raise MediaNotFound(f"{value}: no such file; check the address")
    check_size(file)
    url = _address(file)
    return Document(record._replace(value=file), record.id or url, url, None, (file.size, file.version))


def _address(value: RemoteFile | RemotePath) -> str:
    return str(value.path if isinstance(value, RemoteFile) else value)


def _file_state(path: Path) -> FileState | None:
    """Size and time of a file and its subtitles: the sum of the sizes, and the latest time."""
    try:
        status = path.stat()
    except OSError:  # reported when the document is opened
        return None
    size, mtime_ns = status.st_size, status.st_mtime_ns
    for subtitles in subtitles_of(path):
        with contextlib.suppress(OSError):
            status = subtitles.stat()
            size, mtime_ns = size + status.st_size, max(mtime_ns, status.st_mtime_ns)
    return size, mtime_ns
