"""Checks and descriptions of what a caller passes to an item. Nothing is opened or decoded here.

Values of other libraries are recognised by what they offer, so that none is imported: a torch tensor by `detach`, a
pandas or Polars Series by `to_list`, an Arrow array by `to_pylist`, a table by its columns.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence, Set
from fractions import Fraction
from numbers import Rational, Real
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput

CHANNELS = (1, 3, 4)  # of an image: grey, RGB, RGBA


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


def is_array(value: object) -> bool:
    """Whether a value is a NumPy array."""
    import numpy as np

    return isinstance(value, np.ndarray)


def is_audio_mapping(value: object) -> bool:
    """Whether a value is {"array": samples, "sampling_rate": Hz}."""
    return isinstance(value, Mapping) and "array" in value and "sampling_rate" in value


def is_tensor(value: object) -> bool:
    """Whether a value is a torch tensor. torch is not imported for it."""
    # While another thread imports torch, the module is there without its classes, and no value can be a tensor.
    tensor_class = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor_class is not None and isinstance(value, tensor_class)


def to_array(value: Any) -> Any:
    """A torch tensor as a NumPy array, of any device and float type; another value as it is."""
    if not is_tensor(value):
        return value
    tensor = value.detach().cpu()
    if tensor.is_floating_point() and tensor.element_size() < 4:  # NumPy has no bfloat16
        tensor = tensor.float()
    return tensor.numpy()


def image_array(tensor: Any) -> Any:
    """A torch tensor (3, h, w) as an array (h, w, 3), the order of images in NumPy; another value as it is.

    The first axis is the channels, as torch has them, unless only the last one can be.
    """
    array = to_array(tensor)
    if not is_tensor(tensor) or array.ndim != 3:
        return array
    leads = array.shape[0] in CHANNELS
    return array.transpose(1, 2, 0) if leads else array


def vector_array(value: Any) -> Any:
    """A torch tensor (dim,) or (n, dim) as an array; another value as it is."""
    return to_array(value) if is_tensor(value) and value.ndim < 3 else value


def video_array(tensor: Any) -> Any:
    """A torch tensor (t, 3, h, w) as an array (t, h, w, 3); another value as it is."""
    array = to_array(tensor)
    leads = is_tensor(tensor) and array.ndim == 4 and array.shape[1] == 3
    return array.transpose(0, 2, 3, 1) if leads else array


def samples_and_rate(value: object) -> Mapping[str, Any] | None:
    """The tuple (samples, rate) of torchaudio and librosa, or (rate, samples) of SciPy, as a mapping; None for others.

    The samples are an array or a tensor of numbers, and the rate is a number.
    """
    if not isinstance(value, tuple) or len(value) != 2:
        return None
    for samples, rate in (value, value[::-1]):
        is_rate = isinstance(rate, Real) and not isinstance(rate, bool)
        if is_rate and (is_tensor(samples) or (is_array(samples) and samples.dtype.kind in "fiu")):
            return {"array": samples, "sampling_rate": rate}
    return None


def as_list(value: object) -> list[Any] | None:
    """The elements of a collection of inputs; None for a single input.

    Args:
        value: a list, tuple, generator or other iterable, a Series, an Arrow array, or an array of objects or strings.
            A str, bytes, a mapping, an array of numbers, a tensor and a (samples, rate) tuple are single inputs.

    Raises:
        InvalidInput: a table, of which one column is meant, or a set, which has no order.
    """
    if isinstance(value, list):
        return list(value)
    if samples_and_rate(value) is not None or is_tensor(value):
        return None
    if is_array(value):
        return value.tolist() if value.dtype.kind in "OUT" and value.ndim == 1 else None  # type: ignore[attr-defined]
    if isinstance(value, str | bytes | bytearray | os.PathLike | Mapping):
        return None
    if hasattr(value, "columns") or hasattr(value, "column_names"):
        raise InvalidInput(
            f"a table of type {type(value).__name__} was given where items are expected; pass one of its columns"
        )
    if isinstance(value, Set):
        raise InvalidInput(
            f"a {type(value).__name__} has no order, so its vectors could not be assigned to its items; pass a list"
        )
    for method in ("to_pylist", "to_list"):
        if hasattr(value, method):
            return list(getattr(value, method)())
    return list(value) if isinstance(value, Iterable) and not is_pil(value) else None


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
