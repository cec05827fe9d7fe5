"""TIFF: bit depth, kind of number and photometric tag decide what is black and white."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from multimodal.core.errors import MediaUnsupported
from multimodal.core.items import Image

FILES = Path(__file__).parent / "files"
HEIGHT, WIDTH = 8, 16
RAMP = np.linspace(0, 1, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5


def tiff(
    pixels: bytes, bits: int, photometric: int, sample_format: int = UNSIGNED, channels: int = 1,
    order: str = "<", palette: list[int] | None = None,
) -> bytes:  # fmt: skip
    """An uncompressed TIFF of one strip."""
    tags: list[tuple[int, str, list[int]]] = [
        (256, "H", [WIDTH]), (257, "H", [HEIGHT]), (258, "H", [bits] * channels), (259, "H", [1]),
        (262, "H", [photometric]), (273, "I", [8]), (277, "H", [channels]), (278, "H", [HEIGHT]),
        (279, "I", [len(pixels)]), *([] if palette is None else [(320, "H", palette)]),
        (339, "H", [sample_format] * channels),
    ]  # fmt: skip
    directory_at = 8 + len(pixels)
    outside_at = directory_at + 2 + 12 * len(tags) + 4
    entries, outside = b"", b""
    for tag, kind, values in tags:
        data = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(data) > 4:
            data, outside = struct.pack(f"{order}I", outside_at + len(outside)), outside + data
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + data.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", directory_at)
    return head + pixels + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + outside


def packed(levels: NDArray[np.float64], bits: int, order: str = "<") -> bytes:
    """Whole numbers of `bits` bits, rows padded to bytes."""
    values = np.round(levels * (2**bits - 1)).astype(np.uint64)
    if bits in (8, 16, 32):
        return values.astype(f"{order}u{bits // 8}").tobytes()
    rows = ("".join(f"{value:0{bits}b}" for value in row) for row in values.reshape(HEIGHT, -1).tolist())
    return b"".join(int(row, 2).to_bytes(len(row) // 8, "big") for row in rows)


def by_imagemagick(data: bytes, path: Path) -> NDArray[np.uint8]:
    """RGB (h, w, 3)."""
    if (program := next(filter(None, map(shutil.which, ("convert-im6.q16", "magick"))), None)) is None:
        pytest.skip("ImageMagick is missing")
    path.write_bytes(data)
    command = [program, str(path), "-colorspace", "sRGB", "-depth", "8", "rgb:-"]
    output = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(output, np.uint8).reshape(HEIGHT, WIDTH, 3)


def off_by(left: NDArray[np.generic], right: NDArray[np.generic]) -> int:
    return int(np.abs(left.astype(int) - right.astype(int)).max())


CASES = {
    f"{bits} bits, {'white' if photometric == WHITE_IS_ZERO else 'black'} is zero, {order}": tiff(
        packed(RAMP, bits, order), bits, photometric, order=order
    )
    for order in "<>"
    for photometric, depths in ((WHITE_IS_ZERO, (1, 8, 16)), (BLACK_IS_ZERO, (1, 2, 4, 8, 12, 16)))
    for bits in depths
    if (photometric, bits, order) != (WHITE_IS_ZERO, 16, ">") and (bits, order) != (12, ">")
} | {
    "32 unsigned bits": tiff(packed(RAMP, 32), 32, BLACK_IS_ZERO),
    "floats": tiff(RAMP.astype("<f4").tobytes(), 32, BLACK_IS_ZERO, FLOAT),
    "floats, big-endian": tiff(RAMP.astype(">f4").tobytes(), 32, BLACK_IS_ZERO, FLOAT, order=">"),
    "16 signed bits": tiff(
        np.round((RAMP * 2 - 1) * 32_767).astype("<i2").tobytes(), 16, BLACK_IS_ZERO, SIGNED
    ),
    "RGB of 16 bits": tiff(packed(np.random.default_rng(0).random((HEIGHT, WIDTH, 3)), 16), 16, RGB, channels=3),
    "RGB of 16 bits, big-endian": tiff(
        packed(np.random.default_rng(0).random((HEIGHT, WIDTH, 3)), 16, ">"), 16, RGB, channels=3, order=">"
    ),
    "CMYK of 8 bits": tiff(packed(np.random.default_rng(1).random((HEIGHT, WIDTH, 4)), 8), 8, CMYK, channels=4),
    "CMYK of 16 bits": tiff(packed(np.random.default_rng(1).random((HEIGHT, WIDTH, 4)), 16), 16, CMYK, channels=4),
    "palette of 4 bits": tiff(
        packed(RAMP, 4), 4, PALETTE, palette=np.random.default_rng(2).integers(0, 65_536, 48).tolist()
    ),
    "palette of 8 bits": tiff(
        packed(RAMP, 8), 8, PALETTE, palette=np.random.default_rng(2).integers(0, 65_536, 768).tolist()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_tiff_looks_as_in_imagemagick(name: str, tmp_path: Path) -> None:
    theirs = by_imagemagick(CASES[name], tmp_path / "x.tif")
    assert off_by(Image(CASES[name]).load(), theirs) <= 3  # it computes CMYK with 16 bits, Pillow with 8


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_zero_is_white_where_the_photometric_tag_says_so(bits: int) -> None:
    levels = RAMP.round() if bits == 1 else RAMP
    loaded = Image(tiff(packed(levels, bits), bits, WHITE_IS_ZERO)).load()
    assert off_by(loaded[..., 0], np.round(255 * (1 - levels))) <= 1


@pytest.mark.parametrize("bits", [2, 4, 8, 12, 16, 32])
def test_the_largest_number_of_the_stated_bits_is_white(bits: int) -> None:
    loaded = Image(tiff(packed(RAMP, bits), bits, BLACK_IS_ZERO)).load()
    levels = np.round(RAMP * (2**bits - 1)) / (2**bits - 1)
    assert off_by(loaded[..., 0], 255 * levels) <= 1
    assert (int(loaded.min()), int(loaded.max())) == (0, 255)


def test_twelve_bits_compressed_have_the_mean_that_imagemagick_gives() -> None:
    assert Image(FILES / "twelve.tif").load().mean() == pytest.approx(120, abs=1)


@pytest.mark.parametrize(
    "data",
    [
        tiff(packed(RAMP, 10), 10, BLACK_IS_ZERO),
        tiff(np.stack([RAMP] * 3, axis=-1).astype("<f4").tobytes(), 32, RGB, FLOAT, 3),
        tiff(RAMP.astype("<f8").tobytes(), 64, BLACK_IS_ZERO, FLOAT),
    ],
)
def test_a_depth_that_cannot_be_read_is_unsupported_and_not_called_broken(data: bytes) -> None:
    with pytest.raises(MediaUnsupported, match=r"that Pillow does not read .*; convert it to 8 or 16 bits$"):
        Image(data).load()
