"""Text of unknown encoding: byte order marks, UTF-16, UTF-8, and Latin-1 where the bytes fit nothing else."""

from __future__ import annotations

import codecs
import re
import warnings

from multimodal.core.errors import AssumedEncodingWarning, InvalidInput

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
UTF_8 = "utf-8"
SAMPLE_BYTES = 1 << 20  # read to decide between UTF-8 with bad bytes and Latin-1
UTF_16_SAMPLE_BYTES = 4096
UTF_16_ZEROS = 0.4  # share of zero bytes at even or odd positions from which UTF-16 is assumed
MULTI_BYTE = re.compile(
    rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}"
)  # of UTF-8
NOT_IN_LATIN = re.compile(rb"[\x81\x8d\x8f\x90\x9d\xff]")  # unassigned in Windows-1252, or in hardly any text


def check_encoding(encoding: str | None) -> None:
    """Raises InvalidInput unless Python can decode text with this encoding."""
    try:
        "".encode(encoding or UTF_8)
    except (LookupError, TypeError, ValueError) as error:
        raise InvalidInput(
            f"encoding must be the name of a text encoding such as 'utf-16', 'cp1252' or 'shift_jis', got {encoding!r}"
        ) from error


def detect_encoding(head: bytes, given: str | None = None) -> str:
    """The encoding of a file, from its first bytes.

    Args:
        head: At least the first 4 KiB of the file, or all of it.
        given: The encoding that the caller named. A byte order mark takes precedence.

    Returns:
        A codec that strips a byte order mark.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    if given is not None:
        return given
    sample = head[:UTF_16_SAMPLE_BYTES]
    half = len(sample) // 2
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if half and even == 0 and odd >= UTF_16_ZEROS * half:
        return "utf-16-le"
    if half and odd == 0 and even >= UTF_16_ZEROS * half:
        return "utf-16-be"
    return UTF_8


def is_latin(data: bytes) -> bool:
    """Whether bytes that are not valid UTF-8 read as Latin-1 (as Windows extends it) rather than as damaged UTF-8.

    Text in UTF-8 holds sequences of two and more bytes, which hardly occur in Latin-1.
    """
    return not MULTI_BYTE.search(data) and not NOT_IN_LATIN.search(data)


def decode_latin(data: bytes) -> str:
    """Decodes Windows-1252, which extends the printable characters of Latin-1."""
    return data.decode("cp1252", errors="replace")


def warn_of_latin(name: str) -> None:
    """Warns that Latin-1 was assumed. name: the file."""
    warnings.warn(
        f"{name}: not valid UTF-8, so read as Latin-1 (Windows-1252); if letters are wrong, name the encoding with "
        "encoding='cp1251' or another",
        AssumedEncodingWarning,
        stacklevel=2,
    )


def decode_text(data: bytes, name: str, given: str | None = None) -> str:
    """Decodes a text that is held as bytes.

    Args:
        data: The bytes of the whole text.
        name: What they are, for warnings and errors.
        given: The encoding that the caller named.

    Returns:
        The text, without a byte order mark.

    Raises:
        InvalidInput: The bytes fit no encoding.
    """
    encoding = detect_encoding(data, given)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != UTF_8 or given is not None or not is_latin(data[:SAMPLE_BYTES]):
            raise InvalidInput(
                f"{name}: byte {error.start:,} is not valid {encoding.upper()}; save it as UTF-8, or name its encoding "
                "with encoding='cp1252' or another"
            ) from error
    warn_of_latin(name)
    return decode_latin(data)
