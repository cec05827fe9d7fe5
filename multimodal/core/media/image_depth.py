"""Greyscale images of more than 8 bits, scaled to 8; Pillow's own conversion clips at 255.

Black and white follow from the bits per sample, the kind of number and the photometric tag of a TIFF file. Other
formats state 16 bits, or are scaled to 16 bits by Pillow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import PIL.Image

from multimodal.core.errors import MediaCorrupt, MediaUnsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITS_TAG, PHOTOMETRIC_TAG, SAMPLE_FORMAT_TAG = 258, 262, 339  # of TIFF
WHITE_IS_ZERO = 0
UNSIGNED, SIGNED = 1, 2
DEEP_MODES = ("I", "F")


class _Scale(NamedTuple):
    """The values that black and white have in a file."""

    black: float
    white: float


def is_deep_grey(image: PIL.Image.Image) -> bool:
    """Whether an image has one channel of more than 8 bits."""
    return image.mode in DEEP_MODES or image.mode.startswith("I;16")


def to_rgb(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """A deep greyscale image as RGB of 8 bits.

    Raises:
        MediaCorrupt: it holds NaN or infinity.
        MediaUnsupported: its values exceed the range in which black and white are defined.
    """
    values: NDArray[Any] = np.asarray(image)
    if image.format == "TIFF":
        scale, values = _tiff_scale(image, values, name)
    else:
        scale = _float_scale(values, name) if image.mode == "F" else _Scale(0.0, 65_535.0)
    low, high = values.min(), values.max()
    if low < min(scale) or high > max(scale):
        raise MediaUnsupported(
            f"{name}: its pixels range from {low:g} to {high:g}, which has no standard black and white (16-bit: 0 to "
            "65,535; floats: 0 to 1 or 0 to 255); scale it and pass a uint8 array"
        )
    levels = (values.astype(np.float64) - scale.black) * (255.0 / (scale.white - scale.black))
    grey = np.round(levels).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # PNG: the grey level that is transparent
        grey = np.where(values == transparent, np.uint8(255), grey)
    return PIL.Image.fromarray(grey).convert("RGB")


def _float_scale(values: NDArray[Any], name: str) -> _Scale:
    high = values.max()
    if not (np.isfinite(values.min()) and np.isfinite(high)):
        raise MediaCorrupt(f"{name}: its pixels hold NaN or infinity; replace them first")
    return _Scale(0.0, 1.0 if high <= 1 else 255.0)


def _tiff_scale(image: PIL.Image.Image, values: NDArray[Any], name: str) -> tuple[_Scale, NDArray[Any]]:
    """Black and white of a TIFF image, and its values, which Pillow may have read with the wrong sign."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = int(_first(tags.get(BITS_TAG), 16))
    sample_format = int(_first(tags.get(SAMPLE_FORMAT_TAG), UNSIGNED))
    if image.mode == "F":  # floats are not inverted, as by ImageMagick
        return _float_scale(values, name), values
    if sample_format == SIGNED:
        # Pillow writes values of 16 bits as 32 signed bits, so these keep the range of 16
        scale = _Scale(0.0, 65_535.0) if bits == 32 else _Scale(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1)
    else:
        values = values.view(np.uint32) if values.dtype == np.int32 and bits == 32 else values
        scale = _Scale(0.0, 2.0**bits - 1)
    if int(_first(tags.get(PHOTOMETRIC_TAG), 1)) == WHITE_IS_ZERO:
        scale = _Scale(scale.white, scale.black)
    return scale, values


def _first(value: Any, default: int) -> Any:
    """A tag, or the first of its values."""
    if value is None:
        return default
    return value[0] if isinstance(value, tuple) else value
