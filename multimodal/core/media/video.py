"""Moving pictures: what FFmpeg opens (by PyAV), arrays and lists of pictures -> RGB uint8 (t, h, w, 3), upright.

Of n frames, the i-th is the one on screen in the middle of the i-th of n equal parts of the clip, at the time
(i + 1/2) * seconds / n, however its file is cut into groups.

Size and length are read from the header and checked against the limits first. A clip that was cut short gives what is
there, its last frame standing still, as players do; where its own header shows that much is missing it is refused.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import PIL.Image

from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaUnsupported
from multimodal.core.limits import get_limits
from multimodal.core.media import ffmpeg
from multimodal.core.media.frame_reader import Reader
from multimodal.core.media.image import decode_image
from multimodal.core.media.inputs import check_count, frame_rate
from multimodal.core.media.sniff import HEAD_BYTES, Source, opened, signature, unsupported
from multimodal.core.modality import Frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.uint8]

STRIP_FRAMES, STRIP_HEIGHT = 6, 96


@dataclass(frozen=True)
class Wanted:
    """Which frames: n_frames evenly spaced, or as many as `fps` gives, or all; never more than max_frames."""

    n_frames: int | None = None
    fps: Fraction | None = None
    max_frames: int | None = None

    def how_many(self, seconds: Fraction, in_all: int) -> int | None:
        """How many of a clip with (about) so many in all; None for every one there is."""
        if self.n_frames is not None:
            n = self.n_frames
        elif self.fps is not None:
            n = max(1, round(seconds * self.fps))
        elif self.max_frames is None or in_all <= self.max_frames:
            return None
        else:
            n = in_all
        return n if self.max_frames is None else min(n, self.max_frames)


def wanted(n_frames: object, fps: object, max_frames: object) -> Wanted:
    """Checks the arguments of Video.load. Raises InvalidInput."""
    if n_frames is not None and fps is not None:
        raise InvalidInput(f"give n_frames or fps, not both, got n_frames={n_frames!r} and fps={fps!r}")
    for name, value in (("n_frames", n_frames), ("max_frames", max_frames)):
        if value is not None:
            check_count(value, name)
    return Wanted(n_frames, None if fps is None else frame_rate(fps), max_frames)  # type: ignore[arg-type]


def decode_video(source: Any, fps: float | None, what: Wanted) -> Frames:
    """See Video.load."""
    if isinstance(source, np.ndarray):
        return _from_array(source, frame_rate(fps), what)
    if isinstance(source, Sequence) and not isinstance(source, bytes):
        return _from_pictures(source, frame_rate(fps), what)
    with opened(source) as (file, name), _open(file, name) as container:
        av = ffmpeg.import_av(name)
        try:
            return _from_stream(container, _moving(container, name), name, what)
        except av.FFmpegError as error:
            raise MediaCorrupt(
                f"{name}: its pictures cannot be decoded ({error.strerror}); copy or download it again"
            ) from error


def sample_video(source: Source, every_s: float) -> Iterator[tuple[Array, float, float]]:
    """One frame (h, w, 3) of each of equal parts of a file, about so many seconds long, and where the part starts and
    ends. One is held at a time, whatever the length. Raises what `Video.load` raises."""
    with _reading(source) as (reader, seconds, name):
        n = max(1, round(float(seconds) / every_s))
        for i in range(n):
            when = reader.start + int((2 * i + 1) * seconds / (2 * n) / reader.stream.time_base)
            frame = reader.on_screen(when)
            _check_whole(reader, when, seconds, name)
            yield (
                _pixels(frame, None, name),
                round(float(i * seconds / n), 3),
                round(float((i + 1) * seconds / n), 3),
            )


def frame_of(source: Source, at_s: float) -> Array:
    """The frame (h, w, 3) of a file that is on screen at a time. Raises what `Video.load` raises."""
    with _reading(source) as (reader, _, name):
        return _pixels(reader.on_screen(reader.start + int(at_s / reader.stream.time_base)), None, name)


@contextlib.contextmanager
def _reading(source: Source) -> Iterator[tuple[Reader, Fraction, str]]:
    """A reader of a file whose sizes are within the limits, how long it lasts, and its name."""
    with opened(source) as (file, name), _open(file, name) as container:
        av, limits = ffmpeg.import_av(name), get_limits()
        try:
            stream = _moving(container, name)
            limits.check_pixels(stream.codec_context.width, stream.codec_context.height, name)
            seconds = _seconds(container, stream)
            limits.check_length(float(seconds), name)
            reader = Reader(container, stream)
            if reader.ahead is None:
                raise MediaCorrupt(f"{name}: holds no frame that can be decoded; export it again")
            yield reader, seconds, name
        except av.FFmpegError as error:
            raise MediaCorrupt(
                f"{name}: its pictures cannot be decoded ({error.strerror}); copy or download it again"
            ) from error


def has_sound(source: Source) -> bool:
    """Whether the container has a sound track. Raises what `decode_video` does for what is no video."""
    with opened(source) as (file, name), _open(file, name) as container:
        _moving(container, name)
        return bool(container.streams.audio)


def _open(file: BinaryIO, name: str) -> Any:
    head = file.read(HEAD_BYTES)
    found = signature(head)
    if found.modality is not None or not found.decoder:
        raise unsupported(name, head, "a video")
    ffmpeg.import_av(name, "reading video")
    return ffmpeg.open_av(file, name, found.decoder)


def _moving(container: Any, name: str) -> Any:
    stream = ffmpeg.moving_pictures(container)
    if stream is None and container.streams.audio:
        raise MediaUnsupported(f"{name}: holds a sound, not a video; use Audio(...)")
    if stream is None:
        raise MediaUnsupported(f"{name}: is a media container without a picture or a sound in it")
    if stream.codec_context is None:  # FFmpeg knows no decoder for what a damaged header names
        raise MediaCorrupt(f"{name}: its pictures are of a kind that cannot be decoded; export it again")
    return stream


def _from_stream(container: Any, stream: Any, name: str, what: Wanted) -> Frames:
    limits = get_limits()
    width, height = stream.codec_context.width, stream.codec_context.height
    limits.check_pixels(width, height, name)
    seconds = _seconds(container, stream)
    limits.check_length(float(seconds), name)
    in_all = stream.frames or round(seconds * (stream.average_rate or 0))
    n = what.how_many(seconds, in_all)
    limits.check_frames(in_all if n is None else n, width, height, name)
    reader = Reader(container, stream)
    if reader.ahead is None:
        raise MediaCorrupt(f"{name}: holds no frame that can be decoded; export it again")
    if n is None:
        return _every(reader, seconds, name)
    return _evenly(reader, n, seconds, name)


def _every(reader: Reader, seconds: Fraction, name: str) -> Frames:
    pixels: list[Array] = []
    times: list[float] = []
    for frame in reader.every():
        pixels.append(_pixels(frame, pixels[0] if pixels else None, name))
        times.append(reader.seconds(frame))
        get_limits().check_frames(len(pixels), frame.width, frame.height, name)  # whatever the header said
    _check_whole(reader, reader.start + int(seconds / reader.stream.time_base), seconds, name)
    return Frames(np.stack(pixels), np.array(times, dtype=np.float32), float(seconds))


def _evenly(reader: Reader, n: int, seconds: Fraction, name: str) -> Frames:
    frames: Array | None = None
    times = np.empty(n, dtype=np.float32)
    before: Any = None
    for i in range(n):
        when = reader.start + int((2 * i + 1) * seconds / (2 * n) / reader.stream.time_base)
        frame = reader.on_screen(when)
        _check_whole(reader, when, seconds, name)
        if frames is None:
            first = _pixels(frame, None, name)
            frames = np.empty((n, *first.shape), dtype=np.uint8)
            frames[i] = first
        else:  # what stays on screen is converted once
            frames[i] = frames[i - 1] if frame is before else _pixels(frame, frames[0], name)
        times[i], before = reader.seconds(frame), frame
    return Frames(frames, times, float(seconds))  # type: ignore[arg-type]  # n is at least 1


def _check_whole(reader: Reader, when: int, seconds: Fraction, name: str) -> None:
    if reader.missing(when):
        raise MediaCorrupt(
            f"{name}: was cut short, its header tells of {float(seconds):.1f} seconds and its pictures end at "
            f"{reader.seconds(reader.shown):.1f}; copy or download it again"
        )


def _seconds(container: Any, stream: Any) -> Fraction:
    """How long the pictures last, as far as the file tells; if it does not, every packet is looked at (not decoded)."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    if container.duration:  # Matroska and FLV tell when they end, on a clock that need not begin at 0
        return Fraction(container.duration, 1_000_000) - max(0, stream.start_time or 0) * stream.time_base
    packets = [packet for packet in container.demux(stream) if packet.pts is not None]
    container.seek(0)
    if not packets:
        return Fraction(0)
    first, last = min(p.pts for p in packets), max(packets, key=lambda p: p.pts)
    return Fraction((last.pts + (last.duration or 0) - first) * stream.time_base)


def _pixels(frame: Any, like: Array | None, name: str) -> Array:
    """RGB, turned upright; at the size of the first frame, should a clip change its size on the way."""
    get_limits().check_pixels(frame.width, frame.height, name)
    rgb: Array = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4)
    if like is not None and rgb.shape != like.shape:
        size = (like.shape[1], like.shape[0])
        rgb = np.asarray(PIL.Image.fromarray(np.ascontiguousarray(rgb)).resize(size))
    return rgb


def _from_array(array: Array, fps: Fraction, what: Wanted) -> Frames:
    shape = array.shape
    if array.dtype != np.uint8 or array.ndim != 4 or shape[3] != 3 or 0 in shape:
        raise InvalidInput(
            f"a video as an array must be uint8 of shape (t, h, w, 3), with a frame at least, got {array.dtype} {shape}"
        )
    get_limits().check_pixels(shape[2], shape[1], "<array>")
    places = _places(len(array), fps, what)
    get_limits().check_frames(len(places), shape[2], shape[1], "<array>")
    return _frames_of(array[places], places, len(array), fps)  # a copy: places is a list


def _from_pictures(pictures: Sequence[PIL.Image.Image], fps: Fraction, what: Wanted) -> Frames:
    places = _places(len(pictures), fps, what)
    width, height = pictures[0].size
    get_limits().check_frames(len(places), width, height, "<PIL images>")
    loaded = {place: decode_image(pictures[place]) for place in dict.fromkeys(places)}
    first = places[0]
    for place, pixels in loaded.items():
        if pixels.shape != loaded[first].shape:
            raise InvalidInput(
                f"the frames of a video must have one size: frame {place} is {pixels.shape[1]} x {pixels.shape[0]}, "
                f"frame {first} is {loaded[first].shape[1]} x {loaded[first].shape[0]}; resize them first"
            )
    return _frames_of(np.stack([loaded[place] for place in places]), places, len(pictures), fps)


def _places(n_given: int, fps: Fraction, what: Wanted) -> list[int]:
    """The place of each frame that is wanted among those given."""
    n = what.how_many(n_given / fps, n_given)
    return list(range(n_given)) if n is None else [(2 * i + 1) * n_given // (2 * n) for i in range(n)]


def _frames_of(frames: Array, places: list[int], n_given: int, fps: Fraction) -> Frames:
    times = np.array([float(place / fps) for place in places], dtype=np.float32)
    return Frames(frames, times, float(n_given / fps))


def strip_html(frames: Frames) -> str:
    """The frames side by side as one picture, for notebooks."""
    pictures = [PIL.Image.fromarray(one) for one in frames.frames]
    width = max(1, round(pictures[0].width * STRIP_HEIGHT / pictures[0].height))
    strip = PIL.Image.new("RGB", (width * len(pictures), STRIP_HEIGHT))
    for place, picture in enumerate(pictures):
        strip.paste(picture.resize((width, STRIP_HEIGHT)), (place * width, 0))
    buffer = io.BytesIO()
    strip.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    about = html.escape(f"{len(pictures)} frames of {frames.seconds:.2f} s")
    return f'<img alt="{about}" title="{about}" src="data:image/png;base64,{data}">'
