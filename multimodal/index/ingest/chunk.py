"""An item -> the parts of it that an encoder takes, each with the row it will be and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.modality import Modality, Waveform
from multimodal.core.space import Space
from multimodal.index.ingest import video
from multimodal.index.ingest.chunking import CHUNK_CHARS, WINDOW_S, chunks, windows
from multimodal.index.storage.schema import Row

if TYPE_CHECKING:
    from multimodal.index.ingest.document import Thing

VIDEO_BYTES = 64 << 20  # decoded, as far as one can tell without a look: eight frames of 1080p are 50 MB


class Part(NamedTuple):
    """What an encoder takes of a thing. row: its row, but for the metadata. length: seconds, characters, or 1.
    held: bytes that are kept in memory for it until it is encoded; decoded: what it takes while it is prepared."""

    thing: Thing
    item: Item
    row: Row
    length: float
    held: int
    decoded: int


def parts(thing: Thing, item: Item, space: Space, *, cut_text: bool) -> Iterator[Part]:
    """The parts of an item, in order. Raises what is wrong with it when that is met (MediaError, InvalidInput)."""
    whole = Row(thing.id, thing.uri, str(item.modality), item.source if isinstance(item, Text) else None, {})
    if isinstance(item, Text):
        yield from _chunks(thing, whole, item, round(_takes(space, Modality.TEXT, CHUNK_CHARS)), cut_text)
    elif isinstance(item, Audio):
        yield from _windows(thing, whole, item, _takes(space, Modality.AUDIO, WINDOW_S))
    elif isinstance(item, Image):
        yield Part(thing, item, whole, 1.0, _held(item), 3 * _pixels(item))
    else:
        yield from _film(thing, whole, item, space)


def _takes(space: Space, modality: Modality, otherwise: float) -> float:
    return space.encoders[modality].max_input or otherwise


def _film(thing: Thing, whole: Row, item: Video, space: Space) -> Iterator[Part]:
    none = True
    if Modality.VIDEO in space.modalities:
        none = False
        yield Part(thing, item, whole, 1.0, _held(item), VIDEO_BYTES)
    elif Modality.IMAGE in space.modalities:
        none = False
        for pixels, start_s, end_s in video.frames(item):
            row = _placed(whole, "frame", start_s, end_s)._replace(modality=str(Modality.IMAGE))
            yield Part(thing, Image(pixels, uri=item.uri), row, 1.0, pixels.nbytes, 0)
    if Modality.AUDIO in space.modalities and (sound := item.audio()) is not None:
        none = False
        heard = whole._replace(modality=str(Modality.AUDIO))
        yield from _windows(thing, heard, sound, _takes(space, Modality.AUDIO, WINDOW_S), "sound")
    if none:
        raise video.nothing_to_take(thing.uri or thing.id, space)
    if Modality.TEXT in space.modalities and thing.path is not None:
        for one in video.said(thing.path, round(_takes(space, Modality.TEXT, CHUNK_CHARS))):
            row = _placed(whole, "words", one.start_s, one.end_s)
            row = row._replace(modality=str(Modality.TEXT), text=one.words)
            yield Part(thing, Text(one.words), row, len(one.words), len(one.words), 0)


def _chunks(thing: Thing, whole: Row, item: Text, size: int, cut: bool) -> Iterator[Part]:
    text = item.source
    spans = list(chunks(text, size)) if cut and len(text) > size else []
    if len(spans) <= 1:
        yield Part(thing, item, whole, len(text), len(text), 0)
        return
    for number, (start, end) in enumerate(spans):
        words = text[start:end]
        row = whole._replace(id=f"{whole.id}#chunk={number}", text=words, start_char=start, end_char=end)
        yield Part(thing, Text(words), row, len(words), len(words), 0)


def _windows(thing: Thing, whole: Row, item: Audio, window_s: float, of_film: str = "") -> Iterator[Part]:
    from multimodal.core.media.audio import stream_audio

    blocks = stream_audio(item.source) if isinstance(item.source, Path | bytes) else iter([item.load()])
    for waveform, start_s, end_s in windows(blocks, window_s):
        row = whole
        if start_s is not None and end_s is not None:
            row = _placed(whole, of_film or "t", start_s, end_s)
        elif of_film:
            row = _placed(whole, of_film, 0.0, waveform.seconds)
        yield Part(thing, _sound(waveform, item), row, waveform.seconds, waveform.samples.nbytes, 0)


def _placed(whole: Row, what: str, start_s: float, end_s: float) -> Row:
    place = f"{whole.id}#{what}={_seconds(start_s)}-{_seconds(end_s)}"
    return whole._replace(id=place, start_s=start_s, end_s=end_s)


def _sound(waveform: Waveform, item: Audio) -> Audio:
    return Audio({"array": waveform.samples, "sampling_rate": waveform.rate_hz}, uri=item.uri)


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _held(item: Image | Video) -> int:
    """Bytes that are in memory for an item as long as it is there."""
    source = item.source
    if isinstance(source, Path):
        return 0
    if isinstance(source, bytes):
        return len(source)
    return int(getattr(source, "nbytes", 0)) or 3 * (_pixels(item) if isinstance(item, Image) else 0)


def _pixels(item: Image) -> int:
    """Width times height, by the header."""
    from multimodal.core.media.image import pixel_count

    return pixel_count(item.source)
