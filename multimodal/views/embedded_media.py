"""Pictures and sounds as data URIs, small, and all together within a limit."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.core.errors import MultimodalError
from multimodal.core.items import Audio, Image, Video
from multimodal.core.modality import Modality
from multimodal.index.ingest.video import picture_of
from multimodal.index.storage.schema import Row

if TYPE_CHECKING:
    import PIL.Image

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


def small_picture(picture: Image | Video, side: int) -> PIL.Image.Image:
    """At most `side` pixels on its longer edge; of a film, its middle. Raises MediaError, MissingExtra."""
    import PIL.Image

    pixels = picture.load(n_frames=1).frames[0] if isinstance(picture, Video) else picture.load()
    small = PIL.Image.fromarray(pixels)
    small.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    return small


def small_jpeg(picture: Image | Video, side: int) -> bytes:
    """The same as a JPEG."""
    file = io.BytesIO()
    small_picture(picture, side).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def short_flac(sound: Audio, start_s: float = 0.0) -> bytes:
    """The first seconds from `start_s` on, as FLAC. Raises MediaError."""
    import numpy as np
    import soundfile

    waveform = sound.load(RATE_HZ)
    first = int(start_s * RATE_HZ)
    samples = waveform.samples[first : first + int(LONGEST_S * RATE_HZ)]
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
    if row.modality in SEEN:
        is_image = row.modality == Modality.IMAGE
        seen = picture_of(path, row.start_s, row.end_s) if is_image else Video(path)
        return _uri("image/jpeg", small_jpeg(seen, side))
    return _uri("audio/flac", short_flac(Audio(path), row.start_s or 0.0))


def _spread(numbers: Sequence[int]) -> list[int]:
    """All of them, so ordered that any first part is spread over the whole (van der Corput's sequence)."""
    bits = max(1, (len(numbers) - 1).bit_length())
    order = sorted(range(len(numbers)), key=lambda k: int(f"{k:0{bits}b}"[::-1], 2))
    return [numbers[k] for k in order]


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
