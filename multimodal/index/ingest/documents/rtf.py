"""Text of RTF by striprtf."""

from __future__ import annotations

from collections.abc import Iterator

from multimodal.core.errors import MediaCorrupt, MissingExtra
from multimodal.index.ingest.documents.part import Part, ReadOptions, Source
from multimodal.index.ingest.documents.text import read_bytes

IMAGE_FACTOR = 8  # RTF holds images as hexadecimal digits, so that a file is much larger than its text


def read_rtf(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields the text of an RTF file.

    Raises:
        MediaError: It is damaged or too large.
        MissingExtra: striprtf is not installed.
    """
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError as error:
        raise MissingExtra("reading RTF", package="striprtf", extra="documents") from error
    content, name = read_bytes(source, IMAGE_FACTOR * options.max_text_bytes)
    try:
        text = rtf_to_text(content.decode("cp1252", errors="replace"), encoding="cp1252", errors="replace")
    except Exception as error:  # striprtf names no exceptions
        raise MediaCorrupt(f"{name}: cannot be read as RTF ({error}); save it again") from error
    yield Part(text)
