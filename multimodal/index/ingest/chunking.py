"""What is longer than an encoder takes in at once -> parts: a sound into windows, a text into chunks.

A sound that is little longer than a window stays whole. Of a longer one each window overlaps the one before by a fifth,
so that what happens at a border is heard whole in one of them, and the last window ends where the sound does. Chunks of
a text do not overlap; they end at paragraphs where they can, else at sentences, else between words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from multimodal.core.modality import Waveform

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW_S = 10.0  # of sound, and
CHUNK_CHARS = 300  # of text, about the 77 tokens of CLIP: where an encoder does not say
WHOLE = 1.5  # windows; up to here a sound stays in one piece
HOP = 0.8  # of a window, from the start of one to the start of the next

PARAGRAPH = re.compile(r"\n\s*\n")
SENTENCE = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")
WORD = re.compile(r"\s+")
BREAKS = (PARAGRAPH, SENTENCE, WORD)

Span = tuple[int, int]


def windows(
    blocks: Iterator[Waveform], window_s: float
) -> Iterator[tuple[Waveform, float | None, float | None]]:
    """A sound that comes in blocks -> (window, where it starts and ends in seconds); (all of it, None, None) if that is
    no longer than WHOLE windows. Never holds more than about two windows and a block."""
    held = _Held()
    limit_s = WHOLE * window_s
    for block in blocks:
        held.push(block)
        if held.seconds > limit_s:
            break
    else:
        yield held.cut(0, held.end), None, None
        return
    window, hop = round(window_s * held.rate_hz), round(HOP * window_s * held.rate_hz)
    start = 0
    while True:
        while held.end < start + window and (more := next(blocks, None)) is not None:
            held.push(more)
        if held.end < start + window:
            break
        yield held.part(start, start + window)
        start += hop
        held.forget(start - hop)  # the last window may have to begin anywhere behind this
    if held.end > start - hop + window:
        yield held.part(held.end - window, held.end)


class _Held:
    """The part of a sound that is still needed. Places are samples from its beginning."""

    def __init__(self) -> None:
        self.begin = self.end = 0
        self.rate_hz = 1
        self._pieces: list[NDArray[np.float32]] = []

    @property
    def seconds(self) -> float:
        return self.end / self.rate_hz

    def push(self, block: Waveform) -> None:
        self._pieces.append(block.samples)
        self.end += len(block.samples)
        self.rate_hz = block.rate_hz

    def cut(self, start: int, end: int) -> Waveform:
        import numpy as np

        if len(self._pieces) > 1:
            self._pieces = [np.concatenate(self._pieces)]
        return Waveform(self._pieces[0][start - self.begin : end - self.begin].copy(), self.rate_hz)

    def part(self, start: int, end: int) -> tuple[Waveform, float, float]:
        return self.cut(start, end), start / self.rate_hz, end / self.rate_hz

    def forget(self, before: int) -> None:
        if before > self.begin:
            self._pieces = [self._pieces[0][before - self.begin :], *self._pieces[1:]]
            self.begin = before


def chunks(text: str, size: int) -> Iterator[Span]:
    """Where to cut a text into parts of at most `size` characters: (start, end) of each, in order, without the white
    space around them. Every other character is in one of them."""
    yield from _chunks(text, 0, len(text), size, 0)


def _chunks(text: str, start: int, end: int, size: int, level: int) -> Iterator[Span]:
    start, end = _stripped(text, start, end)
    if start == end:
        return
    if end - start <= size:
        yield start, end
        return
    if level == len(BREAKS):  # one word without end
        yield from ((at, min(at + size, end)) for at in range(start, end, size))
        return
    begun = stop = start
    for piece, piece_end in _pieces(text, start, end, BREAKS[level]):
        if piece_end - begun > size and stop > begun:
            yield from _chunks(text, begun, stop, size, level + 1)
            begun = piece
        stop = piece_end
    yield from _chunks(text, begun, stop, size, level + 1)


def _pieces(text: str, start: int, end: int, at: re.Pattern[str]) -> Iterator[Span]:
    begin = start
    for found in at.finditer(text, start, end):
        if found.start() > begin or found.end() > found.start():
            yield begin, found.start()
            begin = found.end()
    yield begin, end


def _stripped(text: str, start: int, end: int) -> Span:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
