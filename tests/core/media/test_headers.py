"""The size of an image by its header is that which Pillow reads, or unknown."""

from __future__ import annotations

import io
from pathlib import Path

import PIL.Image
import pytest

from multimodal.core.media.headers import header_size
from multimodal.core.media.image import image_size

PICTURES = sorted((Path(__file__).resolve().parents[3] / "assets" / "gallery" / "pictures").iterdir())


def saved(format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (31, 17), (9, 99, 199)).save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def test_it_is_that_of_pillow_for_jpeg_and_png() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # a rotation, which the header does not know
    contents = [path.read_bytes() for path in PICTURES if path.suffix in (".jpg", ".png")]
    contents += [
        saved("PNG"),
        saved("JPEG", progressive=True),
        saved("JPEG", exif=exif, comment=b"\xff\xc0" * 9),
    ]
    filled = saved("JPEG")
    contents.append(filled[:2] + b"\xff\xff" + filled[2:])
    known = [header_size(content) for content in contents]
    assert known == [image_size(content) for content in contents]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xd8", saved("WEBP"), saved("GIF"), saved("PNG")[:20], saved("JPEG")[:100],
     b"\xff\xd8\xff\xd9" + saved("JPEG"), saved("JPEG")[2:], b"\xff\xd8\xff\xe0\xff\xff" + b"x" * 50],
)  # fmt: skip
def test_it_is_unknown_for_other_formats_and_broken_headers(content: bytes) -> None:
    assert header_size(content) is None
