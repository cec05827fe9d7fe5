"""Splits an item into the chunks that an encoder takes in at once: audio into windows, text into passages, a video into
frames, audio windows and subtitles.

Audio up to WHOLE_WINDOWS windows stays whole. Windows of longer audio overlap by a fifth, so that what happens at a
border is heard whole in one of them, and the last window ends where the audio ends. Passages of text do not overlap;
they end at paragraphs where possible, else at sentences, else between words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from multimodal.core.errors import MediaUnsupported
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.media import registry
from multimodal.core.modality import Modality, Waveform
from multimodal.core.space import Space
from multimodal.index import fragments
from multimodal.index.ingest import video
from multimodal.index.ingest.document import Chunk, Document
from multimodal.index.ingest.documents.kinds import Kind
from multimodal.index.ingest.documents.part import NoText, Part, ReadOptions
from multimodal.index.ingest.documents.text import too_large
from multimodal.index.results import Metadata
from multimodal.index.storage.schema import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_S = 10.0  # length of an audio window, for an encoder that names no limit
PASSAGE_CHARS = 300  # length of a text passage, likewise; about the 77 tokens of CLIP
WHOLE_WINDOWS = 1.5  # audio up to this many windows is not split
HOP = 0.8  # distance between the starts of two windows, in windows

PARAGRAPH = re.compile(r"\n\s*\n")
SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")
WORD = re.compile(r"\s+")
BREAKS = (PARAGRAPH, SENTENCE, WORD)

Span = tuple[int, int]


def split_item(document: Document, item: Item, space: Space, *, splits_text: bool) -> Iterator[Chunk]:
    """Yields the chunks of an item in order.

    splits_text: whether a text longer than the encoder takes is split; a text that is given by itself is not.
    Raises MediaError or InvalidInput when it meets what cannot be read.
    """
    text = item.source if isinstance(item, Text) else None
    row = Row(document.id, document.uri, str(item.modality), text, {})
    media_type = registry.type_of(item)
    if media_type.chunks is not None:
        yield from _registered_chunks(document, row, item, media_type.chunks(item), space)
    elif isinstance(item, Text):
        yield from _passages(document, row, item, passage_chars(space), splits_text)
    elif isinstance(item, Audio):
        yield from _audio_windows(document, row, item, _window_s(space))
    elif isinstance(item, Image):
        yield Chunk(document, item, row, 1.0, item.nbytes, media_type.decoded_nbytes(item))
    else:
        yield from _video_chunks(document, row, item, space)


def _window_s(space: Space) -> float:
    return space.encoders[Modality.AUDIO].max_input or WINDOW_S


def passage_chars(space: Space) -> int:
    """Characters that the encoder of text of a space takes."""
    encoder = space.encoders.get(Modality.TEXT)
    return round((None if encoder is None else encoder.max_input) or PASSAGE_CHARS)


def split_parts(
    document: Document, kind: Kind, parts: Iterable[Part], space: Space, options: ReadOptions
) -> Iterator[Chunk]:
    """Yields the chunks of the parts of a document: the image of a part, or else its text in passages.

    Raises:
        MediaError: The document cannot be read, holds nothing, or more text than `options.max_text_bytes`.
        UnsupportedModality: The space encodes no text, and there are no images.
    """
    name = document.uri or document.id
    n_chars = n_parts = n_chunks = 0
    for part in parts:
        n_parts += 1
        n_chars += len(part.text)
        if n_chars > options.max_text_bytes:
            raise too_large(name, options.max_text_bytes)
        for chunk in _part_chunks(document, part, space, options):
            n_chunks += 1
            yield chunk
    if n_chunks:
        return
    if n_chars:
        space.encoder_for(Modality.TEXT)
    raise NoText(
        f"{name}: this {kind.name} document holds no text in {n_parts:,} parts; there is nothing to index"
    )


def _part_chunks(document: Document, part: Part, space: Space, options: ReadOptions) -> Iterator[Chunk]:
    fragment = fragments.join(part.locator)
    suffix = f"#{fragment}" if fragment else ""
    metadata: Metadata = {**fragments.metadata_of(fragment, document.uri)}
    row = Row(f"{document.id}{suffix}", document.uri, str(Modality.TEXT), part.text, metadata)
    if part.image is not None:
        row = row._replace(modality=str(Modality.IMAGE), text=part.text or None)
        yield Chunk(document, Image(part.image, uri=document.uri), row, 1.0, part.image.nbytes, 0)
    elif part.text.strip() and options.encodes_text:
        if part.start_s is not None and part.end_s is not None:
            row = _timed_row(row, "t", part.start_s, part.end_s)
        size = options.code_chars if fragments.LINES in part.locator else options.passage_chars
        yield from _passages(document, row, Text(part.text), max(size, options.passage_chars), True)


# --- an item of each modality ---------------------------------------------------------------------


def _registered_chunks(
    document: Document, whole: Row, item: Item, parts: Iterable[registry.ItemChunk], space: Space
) -> Iterator[Chunk]:
    """The parts that a registered media type splits an item into, without those that the space cannot encode."""
    is_encoded = False
    for part in parts:
        modality = part.item.modality
        if modality not in space.modalities:
            continue
        is_encoded = True
        own_text = part.item.source if isinstance(part.item, Text) else None
        text = part.text if part.text is not None else own_text
        row = whole._replace(
            id=f"{whole.id}#{part.fragment}",
            modality=str(modality),
            text=text,
            metadata={**fragments.metadata_of(part.fragment, whole.uri)},
        )
        length = {Modality.TEXT: float(len(own_text or "")), Modality.AUDIO: WINDOW_S}.get(modality, 1.0)
        decoded_bytes = registry.type_of(part.item).decoded_nbytes(part.item)
        yield Chunk(document, part.item, row, length, part.item.nbytes, decoded_bytes)
    if not is_encoded:
        space.encoder_for(item.modality)
        raise MediaUnsupported(
            f"{document.uri or document.id}: its media type yields no chunk that the space {space.name!r} encodes"
        )


def _video_chunks(document: Document, whole: Row, item: Video, space: Space) -> Iterator[Chunk]:
    is_encoded = False
    if Modality.VIDEO in space.modalities:
        is_encoded = True
        yield Chunk(document, item, whole, 1.0, item.nbytes, registry.type_of(item).decoded_nbytes(item))
    elif Modality.IMAGE in space.modalities:
        is_encoded = True
        for pixels, start_s, end_s in item.sample(video.FRAME_S):
            row = _timed_row(whole, "frame", start_s, end_s)._replace(modality=str(Modality.IMAGE))
            yield Chunk(document, Image(pixels, uri=item.uri), row, 1.0, pixels.nbytes, 0)
    if Modality.AUDIO in space.modalities and (audio := item.audio()) is not None:
        is_encoded = True
        audio_row = whole._replace(modality=str(Modality.AUDIO))
        yield from _audio_windows(document, audio_row, audio, _window_s(space), "sound")
    if not is_encoded:
        raise video.nothing_to_encode(document.uri or document.id, space)
    if Modality.TEXT in space.modalities and document.path is not None:
        for cue in video.subtitle_passages(document.path, passage_chars(space)):
            row = _timed_row(whole, "words", cue.start_s, cue.end_s)
            row = row._replace(modality=str(Modality.TEXT), text=cue.text)
            yield Chunk(document, Text(cue.text), row, len(cue.text), len(cue.text), 0)


def _passages(document: Document, whole: Row, item: Text, size: int, splits_text: bool) -> Iterator[Chunk]:
    text = item.source
    spans = list(passages(text, size)) if splits_text and len(text) > size else []
    if len(spans) <= 1:
        yield Chunk(document, item, whole, len(text), len(text), 0)
        return
    sign = "#" if whole.id == document.id else "&"
    for number, (start, end) in enumerate(spans):
        passage = text[start:end]
        row = whole._replace(
            id=f"{whole.id}{sign}chunk={number}", text=passage, start_char=start, end_char=end
        )
        yield Chunk(document, Text(passage), row, len(passage), len(passage), 0)


def _audio_windows(
    document: Document, whole: Row, item: Audio, window_s: float, track: str = ""
) -> Iterator[Chunk]:
    """track: the name of a video's audio in ids; "" for an audio file."""
    for waveform, start_s, end_s in windows(item.stream(), window_s):
        row = whole
        if start_s is not None and end_s is not None:
            row = _timed_row(whole, track or "t", start_s, end_s)
        elif track:
            row = _timed_row(whole, track, 0.0, waveform.seconds)
        window = Audio({"array": waveform.samples, "sampling_rate": waveform.rate_hz}, uri=item.uri)
        yield Chunk(document, window, row, waveform.seconds, waveform.samples.nbytes, 0)


def _timed_row(whole: Row, kind: str, start_s: float, end_s: float) -> Row:
    id_ = f"{whole.id}#{kind}={_format_seconds(start_s)}-{_format_seconds(end_s)}"
    return whole._replace(id=id_, start_s=start_s, end_s=end_s)


def _format_seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


# --- audio into windows -----------------------------------------------------------------------------


def windows(
    blocks: Iterator[Waveform], window_s: float
) -> Iterator[tuple[Waveform, float | None, float | None]]:
    """Splits audio that arrives in blocks into overlapping windows of `window_s` seconds.

    Yields (window, start, end) with the times in seconds, or (all of it, None, None) if the audio is no longer than
    WHOLE_WINDOWS windows. Never holds more than about two windows and a block.
    """
    buffer = _AudioBuffer()
    limit_s = WHOLE_WINDOWS * window_s
    for block in blocks:
        buffer.push(block)
        if buffer.seconds > limit_s:
            break
    else:
        yield buffer.read(0, buffer.end), None, None
        return
    window, hop = round(window_s * buffer.rate_hz), round(HOP * window_s * buffer.rate_hz)
    start = 0
    while True:
        while buffer.end < start + window and (more := next(blocks, None)) is not None:
            buffer.push(more)
        if buffer.end < start + window:
            break
        yield buffer.timed(start, start + window)
        start += hop
        buffer.discard(start - hop)  # the last window may have to begin anywhere after this
    if buffer.end > start - hop + window:
        yield buffer.timed(buffer.end - window, buffer.end)


class _AudioBuffer:
    """The audio that later windows still need. Positions are samples from the beginning of the recording."""

    def __init__(self) -> None:
        self.begin = self.end = 0
        self.rate_hz = 1
        self._blocks: list[NDArray[np.float32]] = []

    @property
    def seconds(self) -> float:
        return self.end / self.rate_hz

    def push(self, block: Waveform) -> None:
        self._blocks.append(block.samples)
        self.end += len(block.samples)
        self.rate_hz = block.rate_hz

    def read(self, start: int, end: int) -> Waveform:
        import numpy as np

        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        return Waveform(self._blocks[0][start - self.begin : end - self.begin].copy(), self.rate_hz)

    def timed(self, start: int, end: int) -> tuple[Waveform, float, float]:
        return self.read(start, end), start / self.rate_hz, end / self.rate_hz

    def discard(self, before: int) -> None:
        if before > self.begin:
            self._blocks = [self._blocks[0][before - self.begin :], *self._blocks[1:]]
            self.begin = before


# --- text into passages -----------------------------------------------------------------------------


def passages(text: str, size: int) -> Iterator[Span]:
    """Splits a text into passages of at most `size` characters.

    Yields (start, end) of each in order, without the white space around it. Every other character is in one of them.
    """
    yield from _split(text, 0, len(text), size, 0)


def _split(text: str, start: int, end: int, size: int, level: int) -> Iterator[Span]:
    start, end = _strip(text, start, end)
    if start == end:
        return
    if end - start <= size:
        yield start, end
        return
    if level == len(BREAKS):  # one word longer than a passage
        yield from ((at, min(at + size, end)) for at in range(start, end, size))
        return
    passage_start = passage_end = start
    for piece_start, piece_end in _pieces(text, start, end, BREAKS[level]):
        if piece_end - passage_start > size and passage_end > passage_start:
            yield from _split(text, passage_start, passage_end, size, level + 1)
            passage_start = piece_start
        passage_end = piece_end
    yield from _split(text, passage_start, passage_end, size, level + 1)


def _pieces(text: str, start: int, end: int, separator: re.Pattern[str]) -> Iterator[Span]:
    begin = start
    for match in separator.finditer(text, start, end):
        if match.start() > begin or match.end() > match.start():
            yield begin, match.start()
            begin = match.end()
    yield begin, end


def _strip(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
