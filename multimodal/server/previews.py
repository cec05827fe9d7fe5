"""Thumbnails of the items of an index, and the files behind them. Nothing but items of an index is shown."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.core.errors import MediaError
from multimodal.core.media import registry, sniff
from multimodal.core.media.mime import UNKNOWN_TYPE, mime_type
from multimodal.core.media.thumbnail import encode_image
from multimodal.core.modality import Modality
from multimodal.core.remote.copies import media_path
from multimodal.server.errors import ApiError
from multimodal.server.state import ServedIndex

CACHE_BYTES = 64 << 20
JPEG_QUALITY = 82
SHOWN_INLINE = ("image/", "audio/", "video/")


class Media(NamedTuple):
    """A file that an item stands for."""

    path: Path
    type: str

    @property
    def is_inline(self) -> bool:
        """Whether a browser may show it, rather than save it."""
        return self.type.startswith(SHOWN_INLINE)


def find_row(served: ServedIndex, item_id: str) -> dict[str, Any]:
    """The row of an item; of a document, its first. Raises ApiError (404)."""
    first: dict[str, Any] | None = None
    for row in served.index.rows(ids=item_id):
        if row["id"] == item_id:
            return row
        first = first or row
    if first is None:
        raise ApiError(404, "no item of the index has this id", code="item_not_found")
    return first


def find_media(row: dict[str, Any]) -> Media:
    """The file of an item: an image, audio, a video, or the PDF of a page. Raises ApiError (404).

    A text is not read from its file: the index holds what it shows.
    """
    path = media_path(row["uri"])
    if path is None or not path.is_absolute():
        raise ApiError(404, "this item was not added as a file", code="media_not_found")
    try:
        with sniff.open_source(path) as (file, _):
            head = file.read(sniff.HEAD_BYTES)
    except MediaError:
        raise ApiError(404, "the file of this item is no longer there", code="media_not_found") from None
    kind = mime_type(head, row["modality"])
    if kind == UNKNOWN_TYPE:
        raise ApiError(404, "this item has no media; a text is in the item itself", code="media_not_found")
    return Media(path, kind)


class Thumbnails:
    """Makes thumbnails, and keeps the latest ones in memory. May be used by several threads."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes, self._n_bytes = max_bytes, 0
        self._cached: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, row: dict[str, Any], side: int) -> tuple[bytes, str]:
        """The JPEG of an item, and a tag that changes with its file.

        Args:
            row: Of the item.
            side: The most pixels of its longer edge.

        Raises:
            ApiError: 404 for an item that cannot be seen, or whose file is gone.
            MediaError: Its file is damaged.
        """
        path = find_media(row).path
        status = path.stat()
        key = (row["id"], side, status.st_size, status.st_mtime_ns)
        tag = f'"{abs(hash(key)):x}"'
        with self._lock:
            if (cached := self._cached.get(key)) is not None:
                self._cached.move_to_end(key)
                return cached, tag
        made = _make(row, path, side)
        with self._lock:
            if key not in self._cached:
                self._cached[key] = made
                self._n_bytes += len(made)
            while self._n_bytes > self._max_bytes:
                self._n_bytes -= len(self._cached.popitem(last=False)[1])
        return made, tag


def _make(row: dict[str, Any], path: Path, side: int) -> bytes:
    fragment = row["id"].rpartition("#")[2] if "#" in row["id"] else ""
    excerpt = registry.Excerpt(Modality(row["modality"]), row["start_s"], row["end_s"], fragment)
    item = registry.open_excerpt(path, excerpt) if excerpt.modality is not Modality.AUDIO else None
    if item is None or not registry.has_thumbnail(item):
        raise ApiError(404, f"{row['modality']} has no thumbnail", code="no_thumbnail")
    return encode_image(registry.thumbnail(item, side).convert("RGB"), "JPEG", quality=JPEG_QUALITY)
