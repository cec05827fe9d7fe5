"""Opens a document: detects its media type, hashes its content, and reads its chunks. Runs in worker threads."""

from __future__ import annotations

from collections.abc import Iterator

from multimodal.core.items import Item, Video, to_item
from multimodal.core.media import registry
from multimodal.core.space import Space
from multimodal.index.ingest import video
from multimodal.index.ingest.chunking import split_item
from multimodal.index.ingest.config import IngestConfig
from multimodal.index.ingest.document import Chunk, Document, OpenedDocument
from multimodal.index.ingest.hashing import file_item, hash_file, hash_item
from multimodal.index.ingest.sources.record import Blob
from multimodal.index.storage.failures import FailureRecord


def open_document(
    document: Document, space: Space, config: IngestConfig, *, defer: bool = False
) -> OpenedDocument | FailureRecord:
    """Hashes a document and reads its first chunks.

    defer: read no chunk yet, because the index may turn out to have the same content under another id.
    """
    try:
        item = _item(document, config)
        if isinstance(item, Video):
            video.check(space)
        elif registry.type_of(item).chunks is None:
            space.encoder_for(item.modality)
        if not document.content_hash:
            path = document.path
            document.content_hash = (
                hash_item(item) if path is None else video.hash_with_subtitles(path, hash_file(path))
            )
        document.check_state()
    except Exception as error:  # as in stat_document
        return document.failure("read", error)
    if document.has_same_content:
        return OpenedDocument(document, None, None)
    splits_text = document.record.split_text or document.path is not None
    stream = split_item(document, item, space, splits_text=splits_text)
    if defer:
        return OpenedDocument(document, [], stream)
    return next_chunks(document, stream, config)


def next_chunks(
    document: Document, stream: Iterator[Chunk], config: IngestConfig
) -> OpenedDocument | FailureRecord:
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
    except Exception as error:  # as in stat_document
        return document.failure("decode", error)
    return OpenedDocument(document, chunks, None)


def _item(document: Document, config: IngestConfig) -> Item:
    value = document.record.value
    if isinstance(value, Blob):
        return registry.open_item(value.data, uri=value.uri)
    if document.item is not None:
        return document.item
    return to_item(value) if document.path is None else file_item(document.path, config.max_text_bytes)
