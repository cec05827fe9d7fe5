"""Thumbnails and audio excerpts as data URIs, within a total size limit."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multimodal.core.errors import MediaUnsupported, MultimodalError
from multimodal.core.items import Audio, Item
from multimodal.core.media.registry import Excerpt, has_thumbnail, open_excerpt, thumbnail
from multimodal.core.media.thumbnail import data_uri, encode_image
from multimodal.core.modality import Modality
from multimodal.index.storage.schema import Row

SIDE, SMALL_SIDE = 112, 64  # pixels; the second for more than MANY thumbnails
MANY = 1500
VISIBLE = (Modality.IMAGE, Modality.VIDEO)
QUALITY = 78
IMAGE_SHARE = 0.75  # of the limit; the rest is for audio
LONGEST_S, RATE_HZ = 6.0, 16_000  # of an audio excerpt


@dataclass
class EmbeddedMedia:
    """Data URIs by row number. omitted: readable, but beyond the limit. unreadable: missing or damaged files."""

    uris: dict[int, str] = field(default_factory=dict)
    omitted: int = 0
    unreadable: int = 0

    @property
    def n_bytes(self) -> int:
        return sum(map(len, self.uris.values()))


def embed(rows: Sequence[Row], limit: int) -> EmbeddedMedia:
    """Embeds images, videos and audio of existing files, evenly spread over the rows, up to `limit` bytes of text."""
    media = EmbeddedMedia()
    images = [k for k, row in enumerate(rows) if row.modality in VISIBLE]
    audio = [k for k, row in enumerate(rows) if row.modality == Modality.AUDIO]
    side = SIDE if len(images) <= MANY else SMALL_SIDE
    share = IMAGE_SHARE if audio else 1.0
    _fill(media, rows, images, int(limit * share), side)
    _fill(media, rows, audio, limit - media.n_bytes, side)
    return media


def small_jpeg(item: Item, side: int) -> bytes:
    """The thumbnail of an item as a JPEG. Raises MediaError, MissingExtra."""
    return encode_image(thumbnail(item, side), "JPEG", quality=QUALITY, optimize=True)


def short_flac(audio: Audio) -> bytes:
    """The first LONGEST_S seconds of an item as FLAC. Raises MediaError."""
    import numpy as np
    import soundfile

    waveform = audio.load(RATE_HZ)
    samples = waveform.samples[: int(LONGEST_S * RATE_HZ)]
    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1, 1), RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def _fill(media: EmbeddedMedia, rows: Sequence[Row], numbers: Sequence[int], limit: int, side: int) -> None:
    used = 0
    for number in _spread(numbers):
        row = rows[number]
        path = Path(row.uri) if row.uri and "\0" not in row.uri else None
        if path is None or not path.is_file():
            media.unreadable += 1
            continue
        if used >= limit:
            media.omitted += 1
            continue
        try:
            uri = _data_uri(row, path, side)
        except MultimodalError:  # the file has changed since it was indexed
            media.unreadable += 1
            continue
        if used + len(uri) > limit:
            media.omitted += 1
            continue
        media.uris[number] = uri
        used += len(uri)


def _data_uri(row: Row, path: Path, side: int) -> str:
    fragment = row.id.rpartition("#")[2] if "#" in row.id else ""
    item = open_excerpt(path, Excerpt(Modality(row.modality), row.start_s, row.end_s, fragment))
    if isinstance(item, Audio):
        return data_uri("audio/flac", short_flac(item))
    if item is None or not has_thumbnail(item):
        raise MediaUnsupported(f"{path}: has no thumbnail")
    return data_uri("image/jpeg", small_jpeg(item, side))


def _spread(numbers: Sequence[int]) -> list[int]:
    """Reordered so that any prefix is evenly spread over the whole (van der Corput sequence)."""
    bits = max(1, (len(numbers) - 1).bit_length())
    order = sorted(range(len(numbers)), key=lambda k: int(f"{k:0{bits}b}"[::-1], 2))
    return [numbers[k] for k in order]
