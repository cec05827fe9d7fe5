"""Subtitles: SubRip (.srt) and WebVTT (.vtt) of texts with times.

Players differ in what they forgive, so what is written is always in order: a text ends before the next begins, is
shown for at least MIN_SHOWN_S, and holds nothing that would end it early (an empty line, an arrow).
WebVTT: https://www.w3.org/TR/webvtt1/. SubRip has no standard; what is written is what its own program writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

MIN_SHOWN_S = 0.1
ARROW = "-->"
VTT_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))


class Cue(NamedTuple):
    """A text to be shown, and when, in seconds."""

    start_s: float
    end_s: float
    text: str


class _Shown(NamedTuple):
    """A cue in whole milliseconds, its lines not empty."""

    start: int
    end: int
    lines: list[str]


def srt(cues: Iterable[Cue]) -> str:
    """SubRip: numbered from 1, times with a comma. No cues give an empty string."""
    # The arrow would be taken for times; SubRip knows no escape, so the nearest that reads the same is written
    blocks = [
        f"{number}\n{_clock(cue.start, ',')} {ARROW} {_clock(cue.end, ',')}\n"
        + "\n".join(line.replace(ARROW, "→") for line in cue.lines)
        for number, cue in enumerate(_in_order(cues), 1)
    ]
    return "".join(f"{block}\n\n" for block in blocks)


def vtt(cues: Iterable[Cue]) -> str:
    """WebVTT: times with a point; &, < and > are escaped."""
    blocks = ["WEBVTT"]
    for cue in _in_order(cues):
        text = "\n".join(cue.lines)
        for plain, escaped in VTT_ESCAPES:
            text = text.replace(plain, escaped)
        blocks.append(f"{_clock(cue.start, '.')} {ARROW} {_clock(cue.end, '.')}\n{text}")
    return "\n\n".join(blocks) + "\n"


def _in_order(cues: Iterable[Cue]) -> list[_Shown]:
    """Sorted by their start, none over the next, none too short to be seen, none without words.

    Where two begin together, or nearly, the later one waits: no word is lost.
    """
    least = round(1000 * MIN_SHOWN_S)
    found: list[_Shown] = []
    for cue in sorted(cues, key=lambda one: one.start_s):
        lines = [" ".join(line.split()) for line in cue.text.splitlines()]
        lines = [line for line in lines if line]
        if not lines:
            continue
        start = max(0, round(1000 * cue.start_s)) if math.isfinite(cue.start_s) else 0
        end = round(1000 * cue.end_s) if math.isfinite(cue.end_s) else start
        if found:
            before = found[-1]
            start = max(start, before.start + least)
            found[-1] = before._replace(end=min(before.end, start))
        found.append(_Shown(start, max(end, start + least), lines))
    return found


def _clock(milliseconds: int, point: str) -> str:
    """hours:minutes:seconds and milliseconds; hours have two digits, or as many as they need."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
