"""Subtitle formats: SubRip (.srt) and WebVTT (.vtt).

Players differ in what they tolerate, so the output is strict: cues are in order and do not overlap, last at least
MIN_SHOWN_S, and contain nothing that would end them early (an empty line, an arrow).
WebVTT: https://www.w3.org/TR/webvtt1/. SubRip has no standard; the output follows the SubRip program.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

MIN_SHOWN_S = 0.1
ARROW = "-->"
VTT_ESCAPES = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"))


class Cue(NamedTuple):
    """A text with the times at which it is shown, in seconds."""

    start_s: float
    end_s: float
    text: str


class _Shown(NamedTuple):
    """A cue in whole milliseconds, without empty lines."""

    start: int
    end: int
    lines: list[str]


def srt(cues: Iterable[Cue]) -> str:
    """SubRip: numbered from 1, times with a comma. No cues give an empty string."""
    # An arrow would be parsed as a time line, and SubRip has no escapes, so a similar character is written
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
    """Cues sorted by start, without overlaps, empty texts or too short durations.

    Where two begin at nearly the same time, the later one is delayed: no text is lost.
    """
    least = round(1000 * MIN_SHOWN_S)
    shown: list[_Shown] = []
    for cue in sorted(cues, key=lambda cue: cue.start_s):
        lines = [" ".join(line.split()) for line in cue.text.splitlines()]
        lines = [line for line in lines if line]
        if not lines:
            continue
        start = max(0, round(1000 * cue.start_s)) if math.isfinite(cue.start_s) else 0
        end = round(1000 * cue.end_s) if math.isfinite(cue.end_s) else start
        if shown:
            before = shown[-1]
            start = max(start, before.start + least)
            shown[-1] = before._replace(end=min(before.end, start))
        shown.append(_Shown(start, max(end, start + least), lines))
    return shown


def _clock(milliseconds: int, point: str) -> str:
    """hours:minutes:seconds and milliseconds; hours have two digits, or as many as they need."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
