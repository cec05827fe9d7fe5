"""Opens a file: detects its type, hashes its content, and reads its chunks. Runs in worker threads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

from multimodal.core.errors import MediaCorrupt, MediaError, MediaUnsupported, MissingExtra
from multimodal.core.items import Item, Video, to_item
from multimodal.core.media import registry
from multimodal.core.modality import Modality
from multimodal.core.remote import files
from multimodal.core.remote.files import RemoteFile
from multimodal.core.space import Space
from multimodal.index.fragments import LANGUAGES
from multimodal.index.ingest import video
from multimodal.index.ingest.chunking import passage_chars, split_item, split_parts
from multimodal.index.ingest.config import IngestConfig
from multimodal.index.ingest.document import Chunk, Document, OpenedDocument
from multimodal.index.ingest.documents import kinds
from multimodal.index.ingest.documents.part import NoText, Pages, ReadOptions
from multimodal.index.ingest.hashing import file_item, hash_bytes, hash_file, hash_item
from multimodal.index.ingest.sources.record import Blob
from multimodal.index.storage.failures import FailureRecord


class Skipped(NamedTuple):
    """A file of no known kind that was listed, not named. kind: its suffix, or its name without one."""

    kind: str


OpenResult = OpenedDocument | Skipped | FailureRecord


def open_document(
    document: Document, space: Space, config: IngestConfig, *, pages: Pages = "auto", defer: bool = False
) -> OpenResult:
    """Hashes a document and reads its first chunks.

    pages: see ReadOptions. defer: read no chunk yet, because the index may turn out to have the same content under
    another id.
    """
    try:
        _fetch(document)
        content = _kind(document) or _item(document, config)
        if not isinstance(content, kinds.Kind):
            _check_encodable(content, space)
        if not document.content_hash:
            document.content_hash = _hash(document, content)
        document.check_state()
    except (MediaUnsupported, MediaCorrupt) as error:
        return _skipped(document, error) or document.failure("read", error)
    except Exception as error:  # as in stat_document
        return document.failure("read", error)
    if document.has_same_content:
        _forget(document)
        return OpenedDocument(document, None, None)
    if isinstance(content, kinds.Kind):
        stream = _read_parts(document, content, space, config, pages)
    else:
        splits_text = document.record.split_text or document.path is not None
        stream = split_item(document, content, space, splits_text=splits_text)
    if defer:
        return OpenedDocument(document, [], stream)
    return next_chunks(document, stream, config)


def next_chunks(document: Document, stream: Iterator[Chunk], config: IngestConfig) -> OpenResult:
    """Reads the next chunks of a document: all that remain, or as many as may be held in memory at a time."""
    chunks: list[Chunk] = []
    held = 0
    try:
        for chunk in stream:
            chunks.append(chunk)
            held += chunk.held_bytes
            if held >= config.stream_bytes:
                return OpenedDocument(document, chunks, stream)
        document.check_state()
        _forget(document)
    except NoText as error:
        return _skipped(document, error) or document.failure("decode", error)
    except Exception as error:  # as in stat_document
        stage = "read" if isinstance(error, MissingExtra) else "decode"
        return document.failure(stage, error)
    return OpenedDocument(document, chunks, None)


def _fetch(document: Document) -> None:
    """Puts the bytes of an object in the place of its address. Raises OSError."""
    value = document.record.value
    if isinstance(value, RemoteFile):
        blob = Blob(files.read(value.path), value.path.url, value)
        document.record = document.record._replace(value=blob)


def _forget(document: Document) -> None:
    """Puts the address of an object back, once its chunks hold what they need."""
    value = document.record.value
    if isinstance(value, Blob) and value.remote is not None:
        document.record = document.record._replace(value=value.remote)


def _source(document: Document) -> tuple[Path | bytes, str] | None:
    """The file of a document, or its bytes, and its name; None for an item in memory."""
    if document.item is not None:
        return None
    value = document.record.value
    if isinstance(value, Blob):
        return value.data, value.uri
    return None if document.path is None else (document.path, str(document.path))


def _kind(document: Document) -> kinds.Kind | None:
    """The kind of a document with parts. A file with the name of media is looked at only if it turns out to be none."""
    source = _source(document)
    if source is None or kinds.is_media_name(source[1]) or registry.is_registered(source[0]):
        return None
    return kinds.kind_of(*source)


def _item(document: Document, config: IngestConfig) -> Item:
    source = _source(document)
    if source is not None:
        return file_item(*source, config.max_text_bytes, document.record.encoding)
    return to_item(document.record.value) if document.item is None else document.item


def _check_encodable(item: Item, space: Space) -> None:
    if isinstance(item, Video):
        video.check(space)
    elif registry.type_of(item).chunks is None:
        space.encoder_for(item.modality)


def _hash(document: Document, content: kinds.Kind | Item) -> str:
    path, value = document.path, document.record.value
    if path is not None:
        return video.hash_with_subtitles(path, hash_file(path))
    if isinstance(value, Blob) or isinstance(content, kinds.Kind):
        return hash_bytes(value.data if isinstance(value, Blob) else b"")
    return hash_item(content)


def _skipped(document: Document, error: MediaError) -> Skipped | None:
    """What becomes of a file of no known kind, and of source code without a line: skipped if a folder holds it among
    others; a failure if it was named, if its name claims another kind, or if the index has rows of it."""
    path = PurePath(document.uri or document.id)
    if not document.record.is_listed or document.stored is not None:
        return None
    is_empty = isinstance(error, NoText) or _is_empty(document)
    if is_empty and path.suffix.lower() in LANGUAGES:
        return Skipped(f"empty {path.suffix.lower()}")
    if kinds.claims_kind(path.name) or not (is_empty or isinstance(error, MediaUnsupported)):
        return None
    return Skipped(path.suffix.lower() or path.name)


def _is_empty(document: Document) -> bool:
    value = document.record.value
    return (
        not value.data if isinstance(value, Blob) else document.state is not None and document.state[0] == 0
    )


def _read_parts(
    document: Document, kind: kinds.Kind, space: Space, config: IngestConfig, pages: Pages
) -> Iterator[Chunk]:
    source = _source(document)
    if source is None:
        return
    options = ReadOptions(
        pages=pages,
        encodes_text=Modality.TEXT in space.modalities,
        encodes_images=Modality.IMAGE in space.modalities,
        passage_chars=passage_chars(space),
        max_text_bytes=config.max_text_bytes,
        max_pages=config.max_pages,
    )
    yield from split_parts(document, kind, kind.read(source[0], options), space, options)
