"""Media in requests: data URIs, base64, uploads and URLs of allowed hosts become items that are checked.

A string is never a path. What is checked here, before anything is decoded: the bytes are of the expected modality, and
their header announces no more pixels or seconds than the ceilings allow.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
from typing import NamedTuple

from multimodal.core.errors import MediaError, MediaTooLarge, MediaUnsupported
from multimodal.core.items import Item, Text
from multimodal.core.media.headers import header_size
from multimodal.core.modality import Modality
from multimodal.server.config import Ceilings
from multimodal.server.errors import ApiError, from_exception, invalid
from multimodal.server.urls import Fetcher

DATA_URI = re.compile(r"data:([\w.+/-]*)((?:;[\w.+-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE)
CHARS_PER_TOKEN = 4  # of English in the vocabularies of most models
BYTES_PER_SECOND = 16_000  # of audio whose header does not say how long it is


class Checked(NamedTuple):
    """An item that may be encoded, and what that costs in the unit of its lane: tokens, pixels or seconds."""

    item: Item
    cost: int


class MediaReader:
    """Makes items of what requests hold.

    Args:
        ceilings: The largest media accepted.
        fetcher: Fetches URLs of allowed hosts.
    """

    def __init__(self, ceilings: Ceilings, fetcher: Fetcher) -> None:
        self._ceilings, self._fetcher = ceilings, fetcher

    def text(self, value: object, param: str) -> Checked:
        """Checks a text. Raises ApiError (400)."""
        if not isinstance(value, str):
            raise invalid(f"{param} must be a string, got {type(value).__name__}", param)
        if len(value) > self._ceilings.text_chars:
            raise invalid(f"{param} has {len(value):,} characters; the limit is {self._ceilings.text_chars:,}",
                          param, "text_too_long")  # fmt: skip
        if not value.strip():
            raise invalid(f"{param} is empty; there is nothing to encode", param)
        return Checked(Text(value), len(value) // CHARS_PER_TOKEN + 2)

    def string(self, value: object, param: str, modality: Modality | None = None) -> Checked:
        """The item of a data URI, a URL of an allowed host, or base64. Blocks; call it in a thread.

        Args:
            value: The string.
            param: The field of the request, for messages.
            modality: The expected modality; None for whatever the content is.

        Raises:
            ApiError: 400 or 413 naming the field.
        """
        return self.content(self.bytes_of(value, param), param, modality)

    def bytes_of(self, value: object, param: str) -> bytes:
        """The bytes that a string of a request holds or names; see `string`."""
        if not isinstance(value, str):
            raise invalid(f"{param} must be a string, got {type(value).__name__}", param)
        if match := DATA_URI.match(value[:1000]):
            if not match[3]:
                raise invalid(f"{param} is a data URI without ';base64'; encode it with base64", param)
            return _base64(value[match.end() :], param)
        if value[:8].lower().startswith(("http://", "https://")):
            return self._fetcher.fetch(value, param)
        scheme = value[:20].partition(":")[0]
        if ":" in value[:20] and scheme.isalpha():
            raise invalid(
                f"{param} is a {scheme} URL; give a data URI (data:image/png;base64,…), or upload the file",
                param,
            )
        return _base64(value, param)

    def content(self, content: bytes, param: str, modality: Modality | None = None) -> Checked:
        """The item in the bytes of a file. Raises ApiError (400 or 413) naming the field.

        Args:
            content: The bytes.
            param: The field of the request, for messages.
            modality: The expected modality; None for whatever the content is.
        """
        from multimodal.core.media.registry import open_item

        try:
            item = open_item(content)
            if modality is not None and item.modality is not modality:
                raise MediaUnsupported(f"the content is {item.modality}, expected {modality}")
            return Checked(item, self._cost(item, content))
        except MediaError as error:
            raise from_exception(error, param) from None

    def _cost(self, item: Item, content: bytes) -> int:
        if item.modality is Modality.IMAGE:
            pixels = _pixels(content)
            if pixels > self._ceilings.pixels:
                raise MediaTooLarge(
                    f"the image has {pixels:,} pixels; the limit is {self._ceilings.pixels:,}"
                )
            return pixels
        seconds = _seconds(content)
        if seconds > self._ceilings.media_seconds:
            limit = self._ceilings.media_seconds
            raise MediaTooLarge(f"the {item.modality} has {seconds:,.0f} seconds; the limit is {limit:,.0f}")
        return 1 + int(seconds)


def _base64(text: str, param: str) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise invalid(
            f"{param} is neither a data URI nor base64; a string is never taken as a path or an address here: "
            "encode the file as data:image/png;base64,…, or upload it",
            param,
        ) from None
    if not content:
        raise invalid(f"{param} holds no data", param)
    return content


def _pixels(content: bytes) -> int:
    """Width times height, by the header."""
    from multimodal.core.media.image import pixel_count

    size = header_size(content)
    return pixel_count(content) if size is None else size[0] * size[1]


def _seconds(content: bytes) -> float:
    """The length of audio or video as its header says, or about that long by its size."""
    import soundfile

    try:
        return float(soundfile.info(io.BytesIO(content)).duration)
    except (RuntimeError, soundfile.LibsndfileError):
        return len(content) / BYTES_PER_SECOND


def too_many(n: int, limit: int, what: str, param: str) -> ApiError:
    """A 413 for a list that is too long."""
    return ApiError(413, f"{param} has {n:,} {what}; the limit is {limit:,}: send several requests",
                    param=param, code="too_many_items")  # fmt: skip
