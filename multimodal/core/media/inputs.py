"""Checks and descriptions of what a caller passes to an item. Nothing is opened or decoded here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Rational, Real
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput


def path_or_bytes(source: object, what: str) -> Path | bytes | None:
    """A path or the bytes of a file; None for anything else. Raises InvalidInput for a str that cannot be a path.

    what: the class of the item, for the message.
    """
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if not isinstance(path, str) or not path or "\0" in path:
            raise InvalidInput(f"{what} got {path!r}, which cannot be a path")
        return Path(path)
    return bytes(source) if isinstance(source, bytes | bytearray) else None


def is_pil(value: object) -> bool:
    """Whether a value is a PIL image."""
    import PIL.Image

    return isinstance(value, PIL.Image.Image)


def is_pil_list(value: object) -> bool:
    """Whether a value is a list or tuple of at least one PIL image."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(is_pil, value))


def check_fps(fps: object, *, is_file: bool) -> None:
    """Raises InvalidInput unless the frame rate is given once: by the caller, or by the file."""
    if is_file and fps is not None:
        raise InvalidInput(f"a video file states its own frame rate: leave out fps, got {fps!r}")
    if not is_file and fps is None:
        raise InvalidInput(
            "a video given as frames has no frame rate: give the frames per second with fps=..."
        )
    if not is_file:
        frame_rate(fps)


def frame_rate(fps: object) -> Fraction:
    """Frames per second, exact. Raises InvalidInput unless it is a finite number above 0."""
    if isinstance(fps, bool) or not isinstance(fps, Real) or not 0 < float(fps) < float("inf"):
        raise InvalidInput(f"fps must be a number of frames per second above 0, got {fps!r}")
    return Fraction(fps) if isinstance(fps, Rational) else Fraction(float(fps))


def check_count(value: object, name: str, of: str = "") -> None:
    """Raises InvalidInput unless `value` is a whole number of at least 1. of: its unit, " of pixels"."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InvalidInput(f"{name} must be a whole number{of} of at least 1, got {value!r}")


def is_array(value: object) -> bool:
    """Whether a value is a NumPy array."""
    import numpy as np

    return isinstance(value, np.ndarray)


def is_audio_mapping(value: object) -> bool:
    """Whether a value is {"array": samples, "sampling_rate": Hz}."""
    return isinstance(value, Mapping) and "array" in value and "sampling_rate" in value


def source_nbytes(source: object) -> int:
    """About how many bytes of memory the source of an item holds; 0 for a file."""
    if isinstance(source, bytes | bytearray | str):
        return len(source)
    if isinstance(source, Mapping):
        source = source.get("array")
    if is_array(source):
        return int(source.nbytes)  # type: ignore[attr-defined]
    if is_pil(source):
        return 3 * source.width * source.height  # type: ignore[attr-defined]
    return sum(map(source_nbytes, source)) if is_pil_list(source) else 0  # type: ignore[call-overload]


def describe_type(value: object) -> str:
    """A value in a few words, for the end of a message: "…, got a list of 3"."""
    if isinstance(value, Mapping):
        return f"a mapping with keys {sorted(map(str, value))}"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"


def describe_source(source: Any, uri: str | None) -> str:
    """The source of an item in a few characters, for its repr."""
    if isinstance(source, Path):
        shown = repr(str(source))
    elif isinstance(source, bytes):
        shown = f"{len(source):,} bytes"
    elif isinstance(source, Mapping):
        shown = f"{len(source['array']):,} samples at {source['sampling_rate']} Hz"
    elif isinstance(source, list | tuple):
        shown = f"{len(source):,} PIL images"
    elif is_array(source):
        shown = f"array {source.shape}"
    else:
        shown = f"PIL {source.mode} {source.size}"
    return shown if uri is None or isinstance(source, Path) else f"{shown}, uri={uri!r}"
