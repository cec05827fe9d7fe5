"""Pictures and sounds as data URIs, small, and all together within a limit."""

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

SIDE, SMALL_SIDE = 112, 64  # pixels; the second where there are many
MANY = 1500
SEEN = (Modality.IMAGE, Modality.VIDEO)
QUALITY = 78
PICTURES_SHARE = 0.75  # of the limit; the rest is for sounds
LONGEST_S, RATE_HZ = 6.0, 16_000  # of a sound that is played


@dataclass
class Inlined:
    """Data URIs by the row's number. left_out: readable, but beyond the limit; unreadable: gone or broken since."""

    uris: dict[int, str] = field(default_factory=dict)
    left_out: int = 0
    unreadable: int = 0

    @property
    def n_bytes(self) -> int:
        return sum(map(len, self.uris.values()))


def inline(rows: Sequence[Row], limit: int) -> Inlined:
    """Pictures and sounds of files that are there, in an order that leaves no part of the index bare, until `limit`
    bytes of text are used up."""
    found = Inlined()
    pictures = [k for k, row in enumerate(rows) if row.modality in SEEN]
    sounds = [k for k, row in enumerate(rows) if row.modality == Modality.AUDIO]
    side = SIDE if len(pictures) <= MANY else SMALL_SIDE
    share = PICTURES_SHARE if sounds else 1.0
    _fill(found, rows, pictures, int(limit * share), side)
    _fill(found, rows, sounds, limit - found.n_bytes, side)
    return found


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


def _fill(found: Inlined, rows: Sequence[Row], wanted: Sequence[int], limit: int, side: int) -> None:
    used = 0
    for number in _spread(wanted):
        row = rows[number]
        path = Path(row.uri) if row.uri and "\0" not in row.uri else None
        if path is None or not path.is_file():
            found.unreadable += 1
            continue
        if used >= limit:
            found.left_out += 1
            continue
        try:
            uri = _inlined(row, path, side)
        except MultimodalError:  # it has changed since it was indexed; the report counts it
            found.unreadable += 1
            continue
        if used + len(uri) > limit:
            found.left_out += 1
            continue
        found.uris[number] = uri
        used += len(uri)


def _inlined(row: Row, path: Path, side: int) -> str:
    item = open_excerpt(path, Excerpt(Modality(row.modality), row.start_s, row.end_s))
    if isinstance(item, Audio):
        return data_uri("audio/flac", short_flac(item))
    if item is None or not has_thumbnail(item):
        raise MediaUnsupported(f"{path}: has no thumbnail")
    return data_uri("image/jpeg", small_jpeg(item, side))


def _spread(numbers: Sequence[int]) -> list[int]:
    """All of them, so ordered that any first part is spread over the whole (van der Corput's sequence)."""
    bits = max(1, (len(numbers) - 1).bit_length())
    order = sorted(range(len(numbers)), key=lambda k: int(f"{k:0{bits}b}"[::-1], 2))
    return [numbers[k] for k in order]
