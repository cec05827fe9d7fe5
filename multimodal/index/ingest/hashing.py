"""What is in a file or an item: a hash of it, and the words of a text file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from multimodal.core.errors import MediaError, MediaUnsupported
from multimodal.core.items import Audio, Image, Item, Text, Video, as_item
from multimodal.core.media import sniff

TEXT_SUFFIXES = (".txt", ".md")
MAX_TEXT_BYTES = (
    8 << 20
)  # 8 MiB: eight thick books; its chunks are written in one piece, so they must fit in memory
ID_HEX_DIGITS = 32  # 128 bits of a sha256: two contents with one id will not be met
LINE_BREAKS = "\t\n\r\f"
BLOCK_BYTES = 1 << 20


def file_item(path: Path) -> Item:
    """What a file is, told by its content; one called .txt or .md is a text if it holds words.

    Raises MediaError, InvalidInput, MissingExtra.
    """
    return _text_or_media(path) if path.suffix.lower() in TEXT_SUFFIXES else as_item(path)


def _text_or_media(path: Path) -> Item:
    with sniff.open_source(path) as (file, name):
        content = file.read(MAX_TEXT_BYTES + 1)
    text = _decode(content)
    if text is None:
        try:
            return as_item(path)
        except MediaUnsupported as error:
            raise MediaUnsupported(
                f"{name}: is called a text, but is not one in UTF-8 (nor a picture or a sound); save it as UTF-8"
            ) from error
    if len(content) > MAX_TEXT_BYTES:
        raise MediaError(
            f"{name}: holds more than {MAX_TEXT_BYTES:,} bytes of text, too much for one file; split it into parts"
        )
    item = Text(text, uri=str(path))
    item.load()  # an empty text is refused here
    return item


def _decode(content: bytes) -> str | None:
    """UTF-8, or UTF-16 with its byte order mark; None if it is neither, or holds control characters."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    for end in range(len(content), len(content) - 4, -1):  # the limit may have cut the last character in two
        try:
            text = content[:end].decode(encoding)
        except UnicodeDecodeError:
            if len(content) <= MAX_TEXT_BYTES:
                return None
            continue
        return None if any(char < " " and char not in LINE_BREAKS for char in text) else text
    return None


def file_hash(path: Path) -> str:
    """A hash of the bytes of a file, block by block. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()[:ID_HEX_DIGITS]


def content_hash(item: Item) -> str:
    """A hash that depends on nothing but the content: of a file and of its bytes the same, of arrays and PIL images
    that of what they load as. Raises what `item.load()` raises."""
    if not isinstance(item, Text) and isinstance(item.source, Path):
        return file_hash(item.source)
    digest = hashlib.sha256()
    for part in _content(item):
        digest.update(part)
    return digest.hexdigest()[:ID_HEX_DIGITS]


def _content(item: Item) -> Iterator[bytes]:
    if isinstance(item, Text):
        yield item.load().encode()
    elif isinstance(item.source, bytes):
        yield item.source
    elif isinstance(item, Image):
        pixels = item.load()
        yield repr(pixels.shape).encode()
        yield pixels.tobytes()
    elif isinstance(item, Audio):
        waveform = item.load()
        yield repr(waveform.rate_hz).encode()
        yield waveform.samples.tobytes()
    elif isinstance(item, Video):
        clip = item.load()
        yield repr((clip.frames.shape, item.fps)).encode()
        yield clip.frames.tobytes()
