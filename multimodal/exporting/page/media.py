"""Thumbnails, waveforms and files of the items of a page."""

from __future__ import annotations

import os
import shutil
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from multimodal.core.errors import MediaError, MissingExtra
from multimodal.core.items import Audio
from multimodal.core.media import registry, sniff
from multimodal.core.media.audio import peaks
from multimodal.core.media.mime import EXTENSIONS, mime_type
from multimodal.core.media.thumbnail import encode_image
from multimodal.core.modality import Modality

Media = Literal["copy", "link", "none"]
SIDE, QUALITY = 256, 80
BARS = 48
WEB = ("http://", "https://")


class MediaWriter:
    """Writes the files of items into a folder, each file once.

    Args:
        folder: The folder of the page.
        target: Where it will be, for links.
        media: "copy", "link" or "none".
    """

    def __init__(self, folder: Path, target: Path, media: Media) -> None:
        self._folder, self._target, self._media = folder, target, media
        self._addresses: dict[str, str | None] = {}
        self.thumbnails: list[str] = []
        self.copies: list[str] = []
        self.missing: dict[str, str] = {}

    def describe(self, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
        """What index.json says of the files of a row: "thumb", "peaks" and "media", as far as there are any."""
        uri = row["uri"] or ""
        if uri.startswith(WEB):
            return {"media": uri} if self._media != "none" else {}
        path = Path(uri)
        if row["modality"] == Modality.TEXT or not uri or "\0" in uri or not path.is_absolute():
            return {}
        try:
            looks = self._looks(number, row, path)
            address = self._address(path, row["modality"])
        except (MediaError, MissingExtra, OSError) as error:
            self.missing.setdefault(uri, str(error))
            return {}
        return looks | ({"media": address} if address else {})

    def _looks(self, number: int, row: Mapping[str, Any], path: Path) -> dict[str, Any]:
        if row["modality"] == Modality.AUDIO:
            heights = peaks(Audio(path).stream(), row["start_s"], row["end_s"], BARS)
            return {"peaks": [round(height, 3) for height in heights]}
        fragment = row["id"].rpartition("#")[2] if "#" in row["id"] else ""
        excerpt = registry.Excerpt(Modality(row["modality"]), row["start_s"], row["end_s"], fragment)
        item = registry.open_excerpt(path, excerpt)
        if item is None or not registry.has_thumbnail(item):
            return {}
        name = f"thumbs/{number // 1000}/{number}.webp"
        (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = registry.thumbnail(item, SIDE).convert("RGB")
        (self._folder / name).write_bytes(encode_image(image, "WEBP", quality=QUALITY))
        self.thumbnails.append(name)
        return {"thumb": name}

    def _address(self, path: Path, modality: str) -> str | None:
        """The address of a file, copied or linked. Only formats that cannot hold scripts are copied."""
        if self._media == "none":
            return None
        if self._media == "link":
            return urllib.parse.quote(os.path.relpath(path, self._target).replace(os.sep, "/"))
        key = str(path)
        if key not in self._addresses:
            self._addresses[key] = self._copied(path, modality)
        return self._addresses[key]

    def _copied(self, path: Path, modality: str) -> str | None:
        with path.open("rb") as file:
            extension = EXTENSIONS.get(mime_type(file.read(sniff.HEAD_BYTES), modality))
        if extension is None:
            return None
        name = f"media/{len(self.copies)}{extension}"
        (self._folder / "media").mkdir(exist_ok=True)
        shutil.copyfile(path, self._folder / name)
        self.copies.append(name)
        return name
