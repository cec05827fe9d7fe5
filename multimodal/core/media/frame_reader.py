"""The frames of one stream in order of time, leaping over what nobody asked for.

Knows when a frame is shown, not what is on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

INDEXED = {"mov", "matroska", "avi"}  # demuxers, as FFmpeg calls them, of files that list their key frames
LEAP_SECONDS = 1  # a frame further ahead than this is leapt to; below, decoding on is as quick
MISSING_SECONDS = 1  # by which the pictures may end before the header says so


class Reader:
    """The frames of a stream in order of time, which is also the order to ask for them. Times are in its time_base."""

    def __init__(self, container: Any, stream: Any) -> None:
        self.container, self.stream = container, stream
        # Without an index of key frames, where a leap ends is guesswork.
        indexed = container.format.name.split(",")[0] in INDEXED
        self.leap = int(LEAP_SECONDS / stream.time_base) if indexed else None
        self.frames = self._decoded(container.demux(stream))
        self.ahead: Any = next(self.frames, None)
        self.shown: Any = self.ahead  # before the first frame is due there is nothing else to show
        first = 0 if self.ahead is None else self.ahead.pts
        self.start: int = first if stream.start_time is None else stream.start_time

    def seconds(self, frame: Any) -> float:
        """When a frame begins to be shown, from the start of the clip."""
        return float((frame.pts - self.start) * self.stream.time_base)

    def every(self) -> Iterator[Any]:
        while self.ahead is not None:
            self.shown, self.ahead = self.ahead, next(self.frames, None)
            yield self.shown

    def on_screen(self, when: int) -> Any:
        """The frame that is shown at a time."""
        if self.leap is not None and self.ahead is not None and when - self.ahead.pts > self.leap:
            self._leap_to(when)
        while self.ahead is not None and self.ahead.pts <= when:
            self.shown, self.ahead = self.ahead, next(self.frames, None)
        return self.shown

    def missing(self, when: int) -> bool:
        """Whether the pictures ended well before a time that their own header says they reach."""
        if self.ahead is not None or not self.stream.duration:
            return False
        end = self.shown.pts + (self.shown.duration or 0)
        return bool((when - end) * self.stream.time_base > MISSING_SECONDS)

    def _decoded(self, packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            for frame in packet.decode():
                if frame.pts is None:  # AVI tells only in which order to decode
                    frame.pts = frame.dts
                yield frame

    def _leap_to(self, when: int) -> None:
        """Decodes on from the last key frame that is shown no later than `when`. That it is decoded before it is not
        enough: frames shown before a key frame may be decoded after it, and lean on the group that was left out."""
        aim = when
        while True:
            self.container.seek(aim, stream=self.stream)
            packets = self.container.demux(self.stream)
            key = next(packets)
            if key.pts is None or not key.is_keyframe or aim < self.start:
                self.container.seek(0)  # its index leads astray: once more from the start, and never again
                packets, self.leap = self.container.demux(self.stream), None
                break
            if key.pts <= when:
                packets = itertools.chain([key], packets)
                if self.leap is not None and key.pts <= self.ahead.pts:
                    self.leap *= 2  # no key frame in between: time was lost
                break
            aim = min(aim, key.dts) - 1  # files are searched by when to decode
        self.frames = self._decoded(packets)
        self.ahead = next(self.frames, None)
