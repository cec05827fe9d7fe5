"""Content of files and items: the text of a text file, and hashes by which unchanged content is recognised."""

from __future__ import annotations

import hashlib
from pathlib import Path

from multimodal.core.errors import MediaError, MediaUnsupported
from multimodal.core.items import Item, Text, as_item
from multimodal.core.media import registry, sniff

TEXT_SUFFIXES = (".txt", ".md")
HASH_HEX_DIGITS = 32  # 128 bits of a sha256, enough that no two contents collide
TEXT_CONTROLS = "\t\n\r\f"  # the control characters that a text file may hold
READ_BYTES = 1 << 20


def file_item(path: Path, max_text_bytes: int) -> Item:
    """The item in a file, by its content. A file called .txt or .md is a text if it decodes as one.

    Raises MediaError, InvalidInput, MissingExtra.
    """
    return _text_or_media(path, max_text_bytes) if path.suffix.lower() in TEXT_SUFFIXES else as_item(path)


def _text_or_media(path: Path, max_bytes: int) -> Item:
    with sniff.open_source(path) as (file, name):
        content = file.read(max_bytes + 1)
    text = _decode(content, is_complete=len(content) <= max_bytes)
    if text is None:
        try:
            return as_item(path)
        except MediaUnsupported as error:
            raise MediaUnsupported(
                f"{name}: not valid UTF-8 text, nor image, audio or video; save it as UTF-8"
            ) from error
    if len(content) > max_bytes:
        raise MediaError(
            f"{name}: text larger than {max_bytes:,} bytes; split it into several files, or raise max_text_bytes"
        )
    item = Text(text, uri=str(path))
    item.load()  # raises for an empty text
    return item


def _decode(content: bytes, *, is_complete: bool) -> str | None:
    """UTF-8, or UTF-16 with a byte order mark; None if it is neither, or holds control characters."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    for end in range(len(content), len(content) - 4, -1):  # the limit may have split the last character
        try:
            text = content[:end].decode(encoding)
        except UnicodeDecodeError:
            if is_complete:
                return None
            continue
        return None if any(char < " " and char not in TEXT_CONTROLS for char in text) else text
    return None


def hash_file(path: Path) -> str:
    """Hashes the bytes of a file, block by block. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()[:HASH_HEX_DIGITS]


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
