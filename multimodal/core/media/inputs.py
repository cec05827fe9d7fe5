"""What a caller may hand an item: told apart by type, and described in messages. Nothing is opened or decoded here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Rational, Real
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput


def path_or_bytes(source: object, what: str) -> Path | bytes | None:
    """A path or the bytes of a file; None for anything else. Raises InvalidInput for what cannot be a path."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if not isinstance(path, str) or not path or "\0" in path:
            raise InvalidInput(f"{what} got {path!r}, which cannot be a path")
        return Path(path)
    return bytes(source) if isinstance(source, bytes | bytearray) else None


def is_pil(value: object) -> bool:
    import PIL.Image

    return isinstance(value, PIL.Image.Image)


def is_pil_list(value: object) -> bool:
    """A list or tuple of pictures, at least one."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(map(is_pil, value))


def check_fps(fps: object, *, is_file: bool) -> None:
    """Raises InvalidInput unless frames have a rate, given by exactly one: the caller or the file."""
    if is_file and fps is not None:
        raise InvalidInput(f"a video file tells its own rate: leave out fps, got {fps!r}")
    if not is_file and fps is None:
        raise InvalidInput(
            "a video of single frames does not tell its rate: say how many a second with fps=..."
        )
    if not is_file:
        frame_rate(fps)


def frame_rate(fps: object) -> Fraction:
    """Frames a second. Raises InvalidInput unless it is a finite number above 0."""
    if isinstance(fps, bool) or not isinstance(fps, Real) or not 0 < float(fps) < float("inf"):
        raise InvalidInput(f"fps must be a number of frames a second above 0, got {fps!r}")
    return Fraction(fps) if isinstance(fps, Rational) else Fraction(float(fps))


def check_count(value: object, name: str, of: str = "") -> None:
    """Raises InvalidInput unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InvalidInput(f"{name} must be a whole number{of} of at least 1, got {value!r}")


def is_array(value: object) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray)


def is_sound_mapping(value: object) -> bool:
    return isinstance(value, Mapping) and "array" in value and "sampling_rate" in value


def describe_type(value: object) -> str:
    """For the end of "…, got "."""
    if isinstance(value, Mapping):
        return f"a mapping with keys {sorted(map(str, value))}"
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a value of type {type(value).__name__}"


def describe_source(source: Any, uri: str | None) -> str:
    """For a repr: what an item holds, in a few characters."""
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
