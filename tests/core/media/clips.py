"""Small video files made with PyAV, whose frames differ in colour."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEIGHT, WIDTH = 48, 64
BLOCK = 8
DEMUXERS = {"mp4": "mov", "mov": "mov", "webm": "matroska"}


def drawn(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """The picture of a frame: its number in binary as eight bars, black or white, which no codec blurs away; the left
    end is red, the top line of it green, so that turning shows."""
    bars = np.repeat([255 * (number >> bit & 1) for bit in range(8)], width // 16)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[:, : width // 2] = (200, 0, 0)
    image[: height // 2, : width // 2] = (0, 200, 0)
    image[:, width // 2 : width // 2 + len(bars)] = bars[None, :, None]
    return image


def number(image: NDArray[np.uint8]) -> int:
    """The number that `drawn` drew."""
    height, width = image.shape[:2]
    bars = image[height // 4 : -height // 4, width // 2 :, 1].mean(axis=0).reshape(8, -1).mean(axis=1)
    return sum(1 << bit for bit, bar in enumerate(bars) if bar > 127)


def clip(
    kind: str = "mp4",
    codec: str = "libx264",
    *,
    n: int = 30,
    fps: int = 10,
    group: int = 6,
    times: Sequence[int] | None = None,
    rotation: int = 0,
    sound: bool = False,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    height: int = HEIGHT,
    width: int = WIDTH,
) -> bytes:
    """n frames; a key frame at least every `group`. times: of each frame, in 1/fps, where they are not even.

    options: of the codec. container: of the container."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind, options=container or {}) as output:
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", group
        if rotation:
            stream.set_display_rotation(rotation)
        voice: Any = output.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for place in range(n):
            frame = av.VideoFrame.from_ndarray(drawn(place, height, width), format="rgb24")
            frame.pts = place if times is None else times[place]
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if voice is not None:
            tone = np.sin(np.arange(16_000 * n // fps) * 0.2).astype(np.float32)[None]
            heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            heard.sample_rate = 16_000
            output.mux(voice.encode(heard))
            output.mux(voice.encode())
    return buffer.getvalue()


def every_frame(data: bytes, kind: str) -> list[tuple[float, NDArray[np.uint8]]]:
    """(time in seconds, picture) of each frame, by decoding the whole file with PyAV alone."""
    import av

    with av.open(io.BytesIO(data), format=DEMUXERS.get(kind, kind)) as container:
        stream = container.streams.video[0]
        frames = [
            (frame.pts or frame.dts or 0, frame.to_ndarray(format="rgb24"))
            for frame in container.decode(stream)
        ]
        start = stream.start_time or 0
        return [(float((pts - start) * stream.time_base), pixels) for pts, pixels in frames]
