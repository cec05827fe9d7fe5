"""Limits on the size of images, audio and video, checked against the header before anything is decoded.

`set_limits` changes the default of the whole process. `limits(...)` changes it for the current thread or async
task only, so that one server request cannot loosen another's; a thread pool that should inherit it runs its work
through `contextvars.copy_context().run`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from multimodal.core.errors import InvalidInput, MediaTooLarge

MAX_PIXELS = 178_956_970  # 13,377 x 13,377; the size at which Pillow by default refuses: 512 MiB as RGB
MAX_SECONDS = 4 * 60 * 60  # 14,400
MAX_RESIZED_SHARE = 1 / 32  # of max_pixels, for an image that is enlarged: 5.6 million, 67 MB as float32
MAX_RESIZED_RATIO = 16  # of the sides of an enlarged image that is accepted at any size
MAX_BYTES = 4 * 2**30  # 4 GiB: four hours of mono float32 at 48 kHz are 2.6 GiB


@dataclasses.dataclass(frozen=True)
class Limits:
    """The largest media accepted.

    Attributes:
        max_pixels: width x height of an image, or of a frame of a video. An image that a model enlarges, because its
            shorter side is too short, may have 1/32 of it afterwards, or sides of 16 to 1.
        max_seconds: length of audio or a video.
        max_bytes: size of the file (or bytes), and of what it decodes to.

    Raises:
        InvalidInput: a limit is not a number above 0.
    """

    max_pixels: int = MAX_PIXELS
    max_seconds: float = MAX_SECONDS
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise InvalidInput(f"{field.name} must be a number above 0, got {value!r}")

    def check_pixels(self, width: int, height: int, name: str) -> None:
        """Checks the size of an image.

        Args:
            width: In pixels.
            height: In pixels.
            name: The file, for messages.

        Raises:
            MediaTooLarge: The image exceeds `max_pixels`.
        """
        if width * height > self.max_pixels:
            raise MediaTooLarge(
                f"{name}: {width:,} x {height:,} pixels, more than the limit of {self.max_pixels:,}; "
                f"if you trust it, allow it with multimodal.limits(max_pixels={width * height})"
            )

    def check_resized(self, width: int, height: int, shortest_edge: int, name: str) -> None:
        """Raises MediaTooLarge if resizing the shorter side to `shortest_edge` pixels makes an image very large.

        A strip of 20,000 x 1 pixels becomes one of 4,480,000 x 224. Allowed are as many pixels as the image has, an
        aspect ratio of MAX_RESIZED_RATIO, and a share of `max_pixels`.
        """
        short, long = sorted((width, height))
        n_pixels = shortest_edge * max(shortest_edge, round(long * shortest_edge / short))
        allowed = max(
            width * height, MAX_RESIZED_RATIO * shortest_edge**2, int(self.max_pixels * MAX_RESIZED_SHARE)
        )
        if n_pixels > allowed:
            raise MediaTooLarge(
                f"{name}: {width:,} x {height:,} pixels, which the model would enlarge to {n_pixels:,} before it crops "
                f"them, more than {allowed:,}: the sides are too different; crop it, or allow it with "
                f"multimodal.limits(max_pixels={math.ceil(n_pixels / MAX_RESIZED_SHARE)})"
            )

    def check_seconds(self, n_samples: int, rate_hz: int, name: str) -> None:
        """Checks the length of mono float32 audio.

        Args:
            n_samples: The number of samples.
            rate_hz: Samples per second.
            name: The file, for messages.

        Raises:
            MediaTooLarge: The audio exceeds `max_seconds` or `max_bytes`.
        """
        if n_samples > self.max_seconds * rate_hz:
            raise MediaTooLarge(
                f"{name}: {n_samples / rate_hz:,.1f} seconds of audio, more than the limit of "
                f"{self.max_seconds:,}; cut it, or allow it with "
                f"multimodal.limits(max_seconds={-(-n_samples // rate_hz)})"
            )
        self.check_bytes(n_samples * 4, f"{name} (decoded)")

    def check_length(self, seconds: float, name: str) -> None:
        """Checks the length of a video, whichever frames are decoded.

        Args:
            seconds: The length.
            name: The file, for messages.

        Raises:
            MediaTooLarge: The video exceeds `max_seconds`.
        """
        if seconds > self.max_seconds:
            raise MediaTooLarge(
                f"{name}: {seconds:,.1f} seconds of video, more than the limit of {self.max_seconds:,}; cut it, or "
                f"allow it with multimodal.limits(max_seconds={math.ceil(seconds)})"
            )

    def check_frames(self, n_frames: int, width: int, height: int, name: str) -> None:
        """Checks the decoded size of RGB frames.

        Args:
            n_frames: The number of frames.
            width: In pixels.
            height: In pixels.
            name: The file, for messages.

        Raises:
            MediaTooLarge: The frames exceed `max_bytes`.
        """
        n_bytes = n_frames * width * height * 3
        if n_bytes > self.max_bytes:
            raise MediaTooLarge(
                f"{name}: {n_frames:,} frames of {width:,} x {height:,} pixels are {n_bytes:,} bytes, more than the "
                f"limit of {self.max_bytes:,}; ask for fewer with load(n_frames=...), or allow it with "
                f"multimodal.limits(max_bytes={n_bytes})"
            )

    def check_bytes(self, n_bytes: int, name: str) -> None:
        """Checks a decoded size.

        Args:
            n_bytes: The size.
            name: The file, for messages.

        Raises:
            MediaTooLarge: The size exceeds `max_bytes`.
        """
        if n_bytes > self.max_bytes:
            raise MediaTooLarge(
                f"{name}: {n_bytes:,} bytes, more than the limit of {self.max_bytes:,}; "
                f"if you trust it, allow it with multimodal.limits(max_bytes={n_bytes})"
            )


_process_default = Limits()
_override: ContextVar[Limits | None] = ContextVar("multimodal_limits", default=None)


def get_limits() -> Limits:
    """Reads the limits of the current thread or async task.

    Returns:
        The limits.
    """
    return _override.get() or _process_default


def set_limits(new: Limits) -> None:
    """Sets the default limits of the whole process.

    Args:
        new: The limits.

    Raises:
        InvalidInput: `new` is not a Limits.
    """
    global _process_default
    if not isinstance(new, Limits):
        raise InvalidInput(
            f"set_limits takes a Limits, got {type(new).__name__}: set_limits(Limits(max_pixels=...))"
        )
    _process_default = new


@contextlib.contextmanager
def limits(
    *, max_pixels: int | None = None, max_seconds: float | None = None, max_bytes: int | None = None
) -> Iterator[Limits]:
    """Changes limits inside a `with` block, in this thread or async task only. None keeps a limit.

    Args:
        max_pixels: Pixels of an image.
        max_seconds: Seconds of audio or video.
        max_bytes: Bytes of decoded media.

    Yields:
        The limits in the block.

    Raises:
        InvalidInput: A limit is not a number above 0.
    """
    given: dict[str, Any] = {"max_pixels": max_pixels, "max_seconds": max_seconds, "max_bytes": max_bytes}
    new = dataclasses.replace(
        get_limits(), **{name: value for name, value in given.items() if value is not None}
    )
    token = _override.set(new)
    try:
        yield new
    finally:
        _override.reset(token)
