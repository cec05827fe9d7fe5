"""Lines of a text file of any encoding, each with what is wrong with it. A bad byte spoils its line, not the file."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import NamedTuple

from multimodal.core.remote.opened import open_binary
from multimodal.core.remote.path import AnyPath
from multimodal.index.ingest.sources.encodings import (
    SAMPLE_BYTES,
    UTF_8,
    decode_latin,
    detect_encoding,
    is_latin,
    warn_of_latin,
)
from multimodal.index.ingest.sources.names import printable

MAX_LINE_CHARS = 8 << 20  # as in the largest text file; a longer line is not text
MARK = "\udcff"  # a lone surrogate, which no decoder yields by itself
BAD_BYTES = re.compile("[\udc80-\udcff]")


class Line(NamedTuple):
    """number: from 1, as an editor shows it. text: with its line break. problem: why it cannot be used, or None."""

    number: int
    text: str
    problem: str | None = None


def read_lines(path: AnyPath, encoding: str | None = None) -> Iterator[Line]:
    """Yields the lines of a file.

    Args:
        path: The file.
        encoding: As the caller named it. Default: as a byte order mark says, or UTF-16, UTF-8, or Latin-1 with a
            warning, by what the bytes fit.

    Raises:
        OSError: The file cannot be read.
    """
    with open_binary(path) as file:
        head = file.read(SAMPLE_BYTES)
        file.seek(0)
        detected = detect_encoding(head, encoding)
        is_utf_8 = codecs.lookup(detected).name in (UTF_8, "utf-8-sig")
        reader = io.TextIOWrapper(
            file, detected, errors="surrogateescape" if is_utf_8 else _ERRORS, newline=""
        )
        latin: bool | None = None if is_utf_8 and encoding is None and detected == UTF_8 else False
        for number, (text, is_complete) in enumerate(_raw_lines(reader), start=1):
            if not is_complete:
                yield Line(number, "", f"line {number:,} is longer than {MAX_LINE_CHARS:,} characters")
            elif text.isascii() or not BAD_BYTES.search(text):
                if latin is None and not text.isascii():
                    latin = False
                yield Line(number, text, _nul(text, number))
            else:
                data = text.encode(UTF_8, errors="surrogateescape") if is_utf_8 else b""
                if latin is None and (latin := is_latin(head + data)):
                    warn_of_latin(printable(path))
                if latin:
                    yield Line(number, text := decode_latin(data), _nul(text, number))
                else:
                    yield Line(number, text, _bad_bytes(number, detected))


def _raw_lines(reader: io.TextIOWrapper) -> Iterator[tuple[str, bool]]:
    """Yields lines, and whether each is complete. What exceeds the longest line is dropped."""
    while text := reader.readline(MAX_LINE_CHARS):
        is_complete = len(text) < MAX_LINE_CHARS or text.endswith(("\n", "\r"))
        while not is_complete and (rest := reader.readline(MAX_LINE_CHARS)):
            if rest.endswith(("\n", "\r")):
                break
        yield text, is_complete


def _nul(text: str, number: int) -> str | None:
    return f"line {number:,} holds a NUL character; remove it" if "\0" in text else None


def _bad_bytes(number: int, encoding: str) -> str:
    return (
        f"line {number:,} holds bytes that are not valid {encoding.removesuffix('-sig').upper()}; correct them, or "
        "name the encoding of the file with encoding='cp1252' or another"
    )


def _mark(error: UnicodeError) -> tuple[str, int]:
    """Replaces undecodable bytes by a mark, so that only their line is lost."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return MARK, error.end


_ERRORS = "multimodal.mark"
codecs.register_error(_ERRORS, _mark)
