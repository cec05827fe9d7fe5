"""Video: files that FFmpeg opens (by PyAV), arrays and lists of images -> RGB uint8 (t, h, w, 3), upright.

Of n sampled frames, the i-th is the one shown at (i + 1/2) * seconds / n, the middle of the i-th of n equal parts of
the clip, whatever the grouping of frames in the file.

Size and length are read from the header and checked against the limits before decoding. A truncated clip gives the
frames that are there, its last frame standing still, as players do; if its own header shows that much is missing, it is
refused.
"""

from __future__ import annotations

import contextlib
import html
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import PIL.Image

from multimodal.core.checks import whole_number
from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaUnsupported
from multimodal.core.limits import get_limits
from multimodal.core.media import ffmpeg
from multimodal.core.media.image import decode_image
from multimodal.core.media.inputs import frame_rate
from multimodal.core.media.sniff import HEAD_BYTES, Source, open_source, signature, unsupported
from multimodal.core.media.thumbnail import data_uri, encode_image
from multimodal.core.modality import Frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.uint8]

STRIP_FRAMES, STRIP_HEIGHT = 6, 96
INDEXED_FORMATS = {"mov", "matroska", "avi"}  # FFmpeg's demuxers for files with an index of key frames
SEEK_SECONDS = 1  # seek to a frame further ahead than this; below, decoding on is as quick
MISSING_SECONDS = 1  # a clip whose frames end this much before the length in its header is refused


@dataclass(frozen=True)
class FrameSampling:
    """Which frames to decode: n_frames evenly spaced, or `fps` per second, or all; never more than max_frames."""

    n_frames: int | None = None
    fps: Fraction | None = None
    max_frames: int | None = None

    def count(self, seconds: Fraction, total: int) -> int | None:
        """The number of frames of a clip with about `total`; None for every frame."""
        if self.n_frames is not None:
            n = self.n_frames
        elif self.fps is not None:
            n = max(1, round(seconds * self.fps))
        elif self.max_frames is None or total <= self.max_frames:
            return None
        else:
            n = total
        return n if self.max_frames is None else min(n, self.max_frames)


def check_sampling(n_frames: object, fps: object, max_frames: object) -> FrameSampling:
    """Checks the arguments of Video.load. Raises InvalidInput."""
    if n_frames is not None and fps is not None:
        raise InvalidInput(f"give n_frames or fps, not both, got n_frames={n_frames!r} and fps={fps!r}")
    for name, value in (("n_frames", n_frames), ("max_frames", max_frames)):
        if value is not None:
            whole_number(value, name)
    return FrameSampling(n_frames, None if fps is None else frame_rate(fps), max_frames)  # type: ignore[arg-type]


def decode_video(source: Any, fps: float | None, sampling: FrameSampling) -> Frames:
    """Implements Video.load."""
    if isinstance(source, np.ndarray):
        return _from_array(source, frame_rate(fps), sampling)
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        return _from_images(source, frame_rate(fps), sampling)
    with open_source(source) as (file, name), _open(file, name) as container, _decoding_errors(name):
        stream = _video_stream(container, name)
        seconds = _check_header(container, stream, name)
        return _from_stream(container, stream, seconds, name, sampling)


def sample_video(source: Source, every_s: float) -> Iterator[tuple[Array, float, float]]:
    """Yields one frame of each of equal parts of a file, holding one frame in memory at a time.

    Args:
        source: a path or the bytes of a file.
        every_s: about how long a part is, in seconds.

    Yields:
        RGB (h, w, 3), and the start and end of the part in seconds.

    Raises:
        MediaError, MissingExtra: as `Video.load` does.
    """
    with _open_frames(source) as (frames, seconds, name):
        n = max(1, round(float(seconds) / every_s))
        for i in range(n):
            pts = frames.pts_of((2 * i + 1) * seconds / (2 * n))
            frame = frames.at(pts)
            _check_complete(frames, pts, seconds, name)
            start_s, end_s = float(i * seconds / n), float((i + 1) * seconds / n)
            yield _pixels(frame, None, name), round(start_s, 3), round(end_s, 3)


def frame_of(source: Source, at_s: float) -> Array:
    """The frame (h, w, 3) of a file that is shown at a time, in seconds. Raises as `Video.load` does."""
    with _open_frames(source) as (frames, _, name):
        return _pixels(frames.at(frames.pts_of(Fraction(at_s))), None, name)


def has_audio(source: Source) -> bool:
    """Whether a video file has an audio track. Raises as `decode_video` does for a file that is not a video."""
    with open_source(source) as (file, name), _open(file, name) as container:
        _video_stream(container, name)
        return bool(container.streams.audio)


# --- opening a file -----------------------------------------------------------------------------------


@contextlib.contextmanager
def _open_frames(source: Source) -> Iterator[tuple[FrameReader, Fraction, str]]:
    """A reader of a file whose size is within the limits, its length in seconds, and its name."""
    with open_source(source) as (file, name), _open(file, name) as container, _decoding_errors(name):
        stream = _video_stream(container, name)
        seconds = _check_header(container, stream, name)
        yield _frame_reader(container, stream, name), seconds, name


@contextlib.contextmanager
def _decoding_errors(name: str) -> Iterator[None]:
    av = ffmpeg.import_av(name)
    try:
        yield
    except av.FFmpegError as error:
        raise MediaCorrupt(
            f"{name}: its frames cannot be decoded ({error.strerror}); copy or download it again"
        ) from error


def _open(file: BinaryIO, name: str) -> Any:
    head = file.read(HEAD_BYTES)
    known = signature(head)
    if known.modality is not None or not known.decoder:
        raise unsupported(name, head, "a video")
    ffmpeg.import_av(name, "reading video")
    return ffmpeg.open_av(file, name, known.decoder)


def _video_stream(container: Any, name: str) -> Any:
    stream = ffmpeg.video_stream(container)
    if stream is None and container.streams.audio:
        raise MediaUnsupported(f"{name}: holds audio, not a video; use Audio(...)")
    if stream is None:
        raise MediaUnsupported(f"{name}: is a media container with neither a video nor an audio track")
    if stream.codec_context is None:  # a damaged header names a codec that FFmpeg does not have
        raise MediaCorrupt(f"{name}: its video codec is unknown, so it cannot be decoded; export it again")
    return stream


def _check_header(container: Any, stream: Any, name: str) -> Fraction:
    """Checks the frame size and the length against the limits -> the length in seconds."""
    limits = get_limits()
    limits.check_pixels(stream.codec_context.width, stream.codec_context.height, name)
    seconds = _seconds(container, stream)
    limits.check_length(float(seconds), name)
    return seconds


def _frame_reader(container: Any, stream: Any, name: str) -> FrameReader:
    reader = FrameReader(container, stream)
    if reader.ahead is None:
        raise MediaCorrupt(f"{name}: holds no frame that can be decoded; export it again")
    return reader


def _seconds(container: Any, stream: Any) -> Fraction:
    """The length by the header; without one, by the timestamps of all packets, which are not decoded."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    if container.duration:  # Matroska and FLV store the end time, on a clock that need not begin at 0
        return Fraction(container.duration, 1_000_000) - max(0, stream.start_time or 0) * stream.time_base
    packets = [packet for packet in container.demux(stream) if packet.pts is not None]
    container.seek(0)
    if not packets:
        return Fraction(0)
    first, last = min(p.pts for p in packets), max(packets, key=lambda p: p.pts)
    return Fraction((last.pts + (last.duration or 0) - first) * stream.time_base)


# --- frames of a file ---------------------------------------------------------------------------------


class FrameReader:
    """The frames of a stream in order of time, with seeks over parts that are not needed.

    Timestamps (pts) are in the stream's `time_base`, and must be asked for in increasing order.

    Attributes:
        shown: the frame on screen at the last timestamp asked for.
        ahead: the next frame, None at the end.
        start: the timestamp at which the clip begins.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self.container, self.stream = container, stream
        # Without an index of key frames, where a seek ends is unpredictable.
        is_indexed = container.format.name.split(",")[0] in INDEXED_FORMATS
        self.min_seek = int(SEEK_SECONDS / stream.time_base) if is_indexed else None
        self.frames = self._decoded(container.demux(stream))
        self.ahead: Any = next(self.frames, None)
        self.shown: Any = self.ahead  # before the first frame is due there is nothing else to show
        first = 0 if self.ahead is None else self.ahead.pts
        self.start: int = first if stream.start_time is None else stream.start_time

    def pts_of(self, seconds: Fraction) -> int:
        """The timestamp of a time from the start of the clip."""
        return self.start + int(seconds / self.stream.time_base)

    def seconds(self, frame: Any) -> float:
        """When a frame begins to be shown, in seconds from the start of the clip."""
        return float((frame.pts - self.start) * self.stream.time_base)

    def all(self) -> Iterator[Any]:
        """Every frame from here on."""
        while self.ahead is not None:
            self.shown, self.ahead = self.ahead, next(self.frames, None)
            yield self.shown

    def at(self, pts: int) -> Any:
        """The frame that is shown at a timestamp."""
        if self.min_seek is not None and self.ahead is not None and pts - self.ahead.pts > self.min_seek:
            self._seek(pts)
        while self.ahead is not None and self.ahead.pts <= pts:
            self.shown, self.ahead = self.ahead, next(self.frames, None)
        return self.shown

    def ended_before(self, pts: int) -> bool:
        """Whether the frames ended well before a timestamp that the header says they reach."""
        if self.ahead is not None or not self.stream.duration:
            return False
        end = self.shown.pts + (self.shown.duration or 0)
        return bool((pts - end) * self.stream.time_base > MISSING_SECONDS)

    def _decoded(self, packets: Iterator[Any]) -> Iterator[Any]:
        for packet in packets:
            for frame in packet.decode():
                if frame.pts is None:  # AVI stores only the decoding order
                    frame.pts = frame.dts
                yield frame

    def _seek(self, pts: int) -> None:
        """Continues from the last key frame that is *shown* no later than `pts`.

        A key frame decoded before it is not enough: frames shown before a key frame may be decoded after it, and depend
        on the group of frames that the seek left out.
        """
        target = pts
        while True:
            self.container.seek(target, stream=self.stream)
            packets = self.container.demux(self.stream)
            key = next(packets)
            if key.pts is None or not key.is_keyframe or target < self.start:
                self.container.seek(0)  # the index is wrong: decode from the start, and never seek again
                packets, self.min_seek = self.container.demux(self.stream), None
                break
            if key.pts <= pts:
                packets = itertools.chain([key], packets)
                if self.min_seek is not None and key.pts <= self.ahead.pts:
                    self.min_seek *= 2  # there was no key frame in between, so the seek lost time
                break
            target = min(target, key.dts) - 1  # containers are searched by decoding time
        self.frames = self._decoded(packets)
        self.ahead = next(self.frames, None)


def _from_stream(
    container: Any, stream: Any, seconds: Fraction, name: str, sampling: FrameSampling
) -> Frames:
    width, height = stream.codec_context.width, stream.codec_context.height
    total = stream.frames or round(seconds * (stream.average_rate or 0))
    n = sampling.count(seconds, total)
    get_limits().check_frames(total if n is None else n, width, height, name)
    reader = _frame_reader(container, stream, name)
    return _all_frames(reader, seconds, name) if n is None else _spaced_frames(reader, n, seconds, name)


def _all_frames(reader: FrameReader, seconds: Fraction, name: str) -> Frames:
    pixels: list[Array] = []
    times: list[float] = []
    for frame in reader.all():
        pixels.append(_pixels(frame, pixels[0] if pixels else None, name))
        times.append(reader.seconds(frame))
        get_limits().check_frames(len(pixels), frame.width, frame.height, name)  # the header may be wrong
    _check_complete(reader, reader.pts_of(seconds), seconds, name)
    return Frames(np.stack(pixels), np.array(times, dtype=np.float32), float(seconds))


def _spaced_frames(reader: FrameReader, n: int, seconds: Fraction, name: str) -> Frames:
    frames: Array | None = None
    times = np.empty(n, dtype=np.float32)
    previous: Any = None
    for i in range(n):
        pts = reader.pts_of((2 * i + 1) * seconds / (2 * n))
        frame = reader.at(pts)
        _check_complete(reader, pts, seconds, name)
        if frames is None:
            first = _pixels(frame, None, name)
            frames = np.empty((n, *first.shape), dtype=np.uint8)
            frames[i] = first
        else:  # a frame that stays on screen is converted once
            frames[i] = frames[i - 1] if frame is previous else _pixels(frame, frames[0], name)
        times[i], previous = reader.seconds(frame), frame
    return Frames(frames, times, float(seconds))  # type: ignore[arg-type]  # n is at least 1


def _check_complete(reader: FrameReader, pts: int, seconds: Fraction, name: str) -> None:
    if reader.ended_before(pts):
        raise MediaCorrupt(
            f"{name}: is truncated: its header states {float(seconds):.1f} seconds and its frames end at "
            f"{reader.seconds(reader.shown):.1f}; copy or download it again"
        )


def _pixels(frame: Any, like: Array | None, name: str) -> Array:
    """A frame as RGB, upright, at the size of the first frame if the clip changes its size."""
    get_limits().check_pixels(frame.width, frame.height, name)
    rgb: Array = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
    if like is not None and rgb.shape != like.shape:
        size = (like.shape[1], like.shape[0])
        rgb = np.asarray(PIL.Image.fromarray(np.ascontiguousarray(rgb)).resize(size))
    return rgb


# --- frames in memory -----------------------------------------------------------------------------------


def _from_array(array: Array, fps: Fraction, sampling: FrameSampling) -> Frames:
    shape = array.shape
    if array.dtype != np.uint8 or array.ndim != 4 or shape[3] != 3 or 0 in shape:
        raise InvalidInput(
            f"a video as an array must be uint8 of shape (t, h, w, 3) with at least one frame, "
            f"got {array.dtype} {shape}"
        )
    get_limits().check_pixels(shape[2], shape[1], "<array>")
    positions = _positions(len(array), fps, sampling)
    get_limits().check_frames(len(positions), shape[2], shape[1], "<array>")
    return _timed(array[positions], positions, len(array), fps)  # indexing by a list copies


def _from_images(images: Sequence[PIL.Image.Image], fps: Fraction, sampling: FrameSampling) -> Frames:
    positions = _positions(len(images), fps, sampling)
    width, height = images[0].size
    get_limits().check_frames(len(positions), width, height, "<PIL images>")
    decoded = {position: decode_image(images[position]) for position in dict.fromkeys(positions)}
    first = positions[0]
    for position, pixels in decoded.items():
        if pixels.shape != decoded[first].shape:
            raise InvalidInput(
                f"the frames of a video must have one size: frame {position} is {pixels.shape[1]} x "
                f"{pixels.shape[0]}, frame {first} is {decoded[first].shape[1]} x {decoded[first].shape[0]}; resize "
                "them first"
            )
    return _timed(np.stack([decoded[position] for position in positions]), positions, len(images), fps)


def _positions(total: int, fps: Fraction, sampling: FrameSampling) -> list[int]:
    """The positions of the sampled frames among `total`."""
    n = sampling.count(total / fps, total)
    return list(range(total)) if n is None else [(2 * i + 1) * total // (2 * n) for i in range(n)]


def _timed(frames: Array, positions: list[int], total: int, fps: Fraction) -> Frames:
    times = np.array([float(position / fps) for position in positions], dtype=np.float32)
    return Frames(frames, times, float(total / fps))


def strip_html(frames: Frames) -> str:
    """An <img> element with the frames side by side, for notebooks."""
    images = [PIL.Image.fromarray(frame) for frame in frames.frames]
    width = max(1, round(images[0].width * STRIP_HEIGHT / images[0].height))
    strip = PIL.Image.new("RGB", (width * len(images), STRIP_HEIGHT))
    for position, image in enumerate(images):
        strip.paste(image.resize((width, STRIP_HEIGHT)), (position * width, 0))
    title = html.escape(f"{len(images)} frames of {frames.seconds:.2f} s")
    return f'<img alt="{title}" title="{title}" src="{data_uri("image/png", encode_image(strip, "PNG"))}">'
