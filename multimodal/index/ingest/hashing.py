"""Content of files and items: the text of a text file, and hashes by which unchanged content is recognised."""

from __future__ import annotations

import hashlib
from pathlib import Path

from multimodal.core.errors import MediaUnsupported
from multimodal.core.items import Item, Text
from multimodal.core.media import registry, sniff
from multimodal.index.ingest.documents.kinds import is_text_name
from multimodal.index.ingest.documents.text import LATIN, decode, too_large
from multimodal.index.ingest.sources.encodings import warn_of_latin

HASH_HEX_DIGITS = 32  # 128 bits of a sha256, enough that no two contents collide
READ_BYTES = 1 << 20


def file_item(source: Path | bytes, uri: str, max_text_bytes: int, encoding: str | None = None) -> Item:
    """The item in a file, or in its bytes, by its content. What has the name of a text is one if it decodes as text.

    encoding: of texts; None to recognise it.

    Raises MediaError, InvalidInput, MissingExtra.
    """
    if is_text_name(uri):
        return _text_or_media(source, uri, max_text_bytes, encoding)
    return registry.open_item(source, uri=uri)


def _text_or_media(source: Path | bytes, uri: str, max_bytes: int, encoding: str | None) -> Item:
    with sniff.open_source(source) as (file, name):
        content = file.read(max_bytes + 1)
    decoded = decode(content, is_complete=len(content) <= max_bytes, given=encoding)
    if decoded is None:
        try:
            return registry.open_item(source, uri=uri)
        except MediaUnsupported as error:
            raise MediaUnsupported(
                f"{name}: not text in {encoding or 'UTF-8, UTF-16 or Latin-1'}, nor image, audio or video; save it as "
                "UTF-8"
            ) from error
    if len(content) > max_bytes:
        raise too_large(name, max_bytes)
    item = Text(decoded.text, uri=uri)
    item.load()  # raises for an empty text
    if decoded.encoding == LATIN:
        warn_of_latin(name)
    return item


def hash_file(path: Path) -> str:
    """Hashes the bytes of a file, block by block. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()[:HASH_HEX_DIGITS]


def hash_bytes(content: bytes) -> str:
    """Hashes the bytes of a file that is in memory: the same as `hash_file`."""
    return hashlib.sha256(content).hexdigest()[:HASH_HEX_DIGITS]


def hash_item(item: Item) -> str:
    """Hashes the content of an item: the same for a file and for its bytes; decoded content for arrays and PIL images.

    Raises what `item.load()` raises.
    """
    if not isinstance(item, Text) and isinstance(item.source, Path):
        return hash_file(item.source)
    digest = hashlib.sha256()
    for block in registry.type_of(item).content(item):
        digest.update(block)
    return digest.hexdigest()[:HASH_HEX_DIGITS]
