"""Small images, and media inside HTML as data URIs."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import PIL.Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def shrink(pixels: NDArray[np.uint8], side: int) -> PIL.Image.Image:
    """Shrinks an image (h, w, 3) until its longer edge has at most `side` pixels; a smaller one keeps its size."""
    image = PIL.Image.fromarray(pixels)
    image.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    return image


def encode_image(image: PIL.Image.Image, format: str, **options: Any) -> bytes:
    """The bytes of an image file. format: as Pillow names it, "PNG", "JPEG" or "WEBP"; options: as `Image.save`."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def data_uri(mime_type: str, content: bytes) -> str:
    """The content as a data URI, for the `src` of an element."""
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"
