"""Decodes text files: UTF-8, UTF-16 with a byte order mark, or else Latin-1 as Windows extends it."""

from __future__ import annotations

import re
from typing import NamedTuple

from multimodal.core.errors import MediaCorrupt, MediaTooLarge
from multimodal.core.media import sniff
from multimodal.index.ingest.documents.part import Source

TEXT_CONTROLS = "\t\n\r\f"  # the control characters that a text file may hold
CONTROL = re.compile(f"[^{TEXT_CONTROLS}\x20-\U0010ffff]")
LATIN = "cp1252"  # Latin-1 as Windows extends it
LATIN_SHARE = (
    0.3  # of characters above ASCII; more is no text in a Western language, but another encoding or no text
)


class Decoded(NamedTuple):
    """A text, and the encoding it was decoded from."""

    text: str
    encoding: str


def read_bytes(source: Source, max_bytes: int) -> tuple[bytes, str]:
    """The content of a text document, and its name for messages.

    Raises:
        MediaError: It cannot be read, is empty, or is larger than `max_bytes`.
    """
    with sniff.open_source(source) as (file, name):
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise too_large(name, max_bytes)
    return content, name


def too_large(name: str, max_bytes: int) -> MediaTooLarge:
    """The error for a document with more text than is accepted."""
    return MediaTooLarge(
        f"{name}: text larger than {max_bytes:,} bytes; split it into several files, or raise max_text_bytes"
    )


def decode(content: bytes, *, is_complete: bool = True, given: str | None = None) -> Decoded | None:
    """Decodes a text; None for what holds control characters, or looks like no text in any of the encodings.

    Args:
        content: All of a file, or its beginning.
        is_complete: False if the end may have split a character.
        given: The encoding that the caller named. A byte order mark takes precedence.
    """
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else given or "utf-8-sig"
    for end in range(len(content), len(content) - (1 if is_complete else 4), -1):
        try:
            text = content[:end].decode(encoding)
        except UnicodeDecodeError:
            continue
        return None if CONTROL.search(text) else Decoded(text, encoding)
    return None if encoding != "utf-8-sig" else _decode_latin(content)


def _decode_latin(content: bytes) -> Decoded | None:
    """Windows-1252. Nearly any bytes decode as Latin-1, so that characters above ASCII must be as rare as in text of a
    Western language."""
    text = content.decode(LATIN, errors="replace")
    if "\ufffd" in text or CONTROL.search(text):
        return None
    if sum(char > "\x7f" for char in text) > LATIN_SHARE * len(text):
        return None
    return Decoded(text, LATIN)


def decode_or_raise(content: bytes, name: str) -> str:
    """The text of a file whose name says that it is one. Raises MediaCorrupt if it is not."""
    decoded = decode(content)
    if decoded is None:
        raise MediaCorrupt(f"{name}: is not text in UTF-8, UTF-16 or Latin-1; save it as UTF-8")
    return decoded.text
