"""Subtitles in SubRip (.srt) and WebVTT (.vtt), as a file of their own or beside a video."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from multimodal.index.ingest.documents.part import Part, ReadOptions, Source
from multimodal.index.ingest.documents.text import decode_or_raise, read_bytes

TIMES = re.compile(r"^\s*([\d:]+[.,]\d{3})\s+-->\s+([\d:]+[.,]\d{3})", re.MULTILINE)
TAG = re.compile(r"<[^>\n]*>|\{\\[^}\n]*\}")


class Cue(NamedTuple):
    """The text of a subtitle, and the seconds between which it is shown."""

    text: str
    start_s: float
    end_s: float


def joined_cues(cues: Iterable[Cue], size: int) -> Iterator[Cue]:
    """Subtitles joined to passages of up to about `size` characters."""
    passage: Cue | None = None
    for cue in cues:
        if passage is not None and len(passage.text) + len(cue.text) < size:
            end_s = max(passage.end_s, cue.end_s)
            passage = Cue(f"{passage.text} {cue.text}", passage.start_s, end_s)
            continue
        if passage is not None:
            yield passage
        passage = cue
    if passage is not None:
        yield passage


def cues_of(content: str) -> Iterator[Cue]:
    """The cues of SubRip and WebVTT: a line with times, lines of text, and an empty line."""
    for block in re.split(r"\n\s*\n", content.replace("\r\n", "\n").replace("\r", "\n")):
        times = TIMES.search(block)
        text = "" if times is None else block[times.end() :].partition("\n")[2]
        text = " ".join(html.unescape(TAG.sub("", text)).split())
        if times is not None and text:
            yield Cue(text, _seconds(times[1]), _seconds(times[2]))


def _seconds(time: str) -> float:
    """Seconds of "01:02:03,456" or "02:03.456"."""
    total = 0.0
    for field in time.replace(",", ".").split(":"):
        total = 60 * total + float(field)
    return round(total, 3)


def read_subtitles(source: Source, options: ReadOptions) -> Iterator[Part]:
    """Yields passages of SubRip or WebVTT subtitles with their times. Raises MediaError."""
    content, name = read_bytes(source, options.max_text_bytes)
    for text, start_s, end_s in joined_cues(cues_of(decode_or_raise(content, name)), options.passage_chars):
        yield Part(text, start_s=start_s, end_s=end_s)
