"""`Image.load(min_side=…)`: JPEGs at a smaller scale. What is left out must not show once they are resized."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import multimodal
from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaTooLarge
from multimodal.core.items import Image
from multimodal.core.limits import limits

MEAN, MOST = 1.0, 4.0  # levels of 255 by which a picture shrunk to min_side may differ; measured: 0.4 and 2


def photo(height: int, width: int, seed: int = 0) -> PIL.Image.Image:
    """Soft shapes under a fine grain, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 40 + 1, width // 40 + 1, 3), dtype=np.uint8)
    soft = np.asarray(PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.Resampling.BICUBIC))
    return PIL.Image.fromarray((soft + rng.normal(0, 6, soft.shape)).clip(0, 255).astype(np.uint8))


def jpeg(image: PIL.Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **({"quality": 90} | options))
    return buffer.getvalue()


def shrunk(pixels: NDArray[np.uint8], side: int, how: PIL.Image.Resampling) -> NDArray[np.float64]:
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return np.asarray(PIL.Image.fromarray(pixels).resize(size, how)).astype(np.float64)


def cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("how", [PIL.Image.Resampling.BICUBIC, PIL.Image.Resampling.BILINEAR])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 50}])
@pytest.mark.parametrize("side", [32, 64, 100])
def test_after_the_resize_to_min_side_nobody_can_tell(
    side: int, options: dict[str, object], how: PIL.Image.Resampling
) -> None:
    data = jpeg(photo(400, 600), **options)
    exact, fast = Image(data).load(), Image(data).load(min_side=side)
    assert fast.shape[0] < exact.shape[0]
    a, b = shrunk(exact, side, how), shrunk(fast, side, how)
    assert np.abs(a - b).mean() < MEAN
    assert np.abs(a - b).max() < MOST
    assert cosine(a, b) > 0.9999


@settings(max_examples=15)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 200))
def test_the_shorter_side_stays_at_least_twice_min_side_or_the_image_whole(
    height: int, width: int, side: int
) -> None:
    data = jpeg(PIL.Image.new("RGB", (width, height)))
    fast = Image(data).load(min_side=side).shape
    scales = [8, 4, 2, 1]
    scale = next((n for n in scales if min(height, width) // n >= 2 * side), 1)
    assert fast == (-(-height // scale), -(-width // scale), 3)


def test_an_image_already_small_comes_whole_and_bit_for_bit() -> None:
    data = jpeg(photo(120, 90))
    assert (Image(data).load(min_side=64) == Image(data).load()).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000"])
def test_other_formats_are_decoded_as_before(kind: str) -> None:
    buffer = io.BytesIO()
    photo(120, 160).save(buffer, kind)
    data = buffer.getvalue()
    assert (Image(data).load(min_side=8) == Image(data).load()).all()


def test_arrays_and_opened_images_come_whole_and_are_not_changed(tmp_path: Path) -> None:
    pixels = np.asarray(photo(120, 160))
    assert (Image(pixels).load(min_side=8) == pixels).all()
    path = tmp_path / "x.jpg"
    path.write_bytes(jpeg(photo(120, 160)))
    with PIL.Image.open(path) as opened:
        assert Image(opened).load(min_side=8).shape == (120, 160, 3)
        assert opened.size == (160, 120)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_smaller_image_is_upright_too(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = jpeg(photo(160, 320), exif=exif.tobytes())
    exact, fast = Image(data).load(), Image(data).load(min_side=20)
    assert fast.shape == (exact.shape[0] // 4, exact.shape[1] // 4, 3)
    how = PIL.Image.Resampling.BICUBIC
    assert np.abs(shrunk(exact, 20, how) - shrunk(fast, 20, how)).max() < MOST


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_are_shrunk_as_well(mode: str) -> None:
    data = jpeg(photo(160, 320).convert(mode))
    exact, fast = Image(data).load(), Image(data).load(min_side=20)
    assert fast.shape == (40, 80, 3)
    how = PIL.Image.Resampling.BICUBIC
    assert np.abs(shrunk(exact, 20, how) - shrunk(fast, 20, how)).max() < MOST


def test_the_first_of_several_jpegs_in_one_file_is_shrunk() -> None:
    buffer = io.BytesIO()
    photo(160, 320).save(buffer, "MPO", save_all=True, append_images=[photo(160, 320, seed=1)])
    assert Image(buffer.getvalue()).load(min_side=20).shape == (40, 80, 3)


def test_a_truncated_jpeg_still_fails_and_is_named_by_its_own_size() -> None:
    data = jpeg(photo(400, 600))
    with pytest.raises(
        MediaCorrupt,
        match=r"is a JPEG image of 600 x 400 pixels that cannot be decoded \(image file is trunc",
    ):
        Image(data[: len(data) // 2]).load(min_side=20)


def test_limits_hold_for_the_whole_image() -> None:
    with (
        limits(max_pixels=400 * 600 - 1),
        pytest.raises(MediaTooLarge, match=r": 600 x 400 pixels, more than"),
    ):
        Image(jpeg(photo(400, 600))).load(min_side=20)


@pytest.mark.parametrize("side", [0, -1, 1.5, True, "64"])
def test_a_min_side_that_is_no_length_is_refused(side: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        Image(jpeg(photo(16, 16))).load(min_side=side)  # type: ignore[arg-type]
    assert str(caught.value) == f"min_side must be a whole number of pixels of at least 1, got {side!r}"


def test_the_starter_decodes_fast_only_when_requested_and_its_vectors_hardly_move(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requests: list[int | None] = []
    original = Image.load

    def spied(self: Image, min_side: int | None = None) -> NDArray[np.uint8]:
        requests.append(min_side)
        return original(self, min_side)

    monkeypatch.setattr(Image, "load", spied)
    images = [Image(jpeg(photo(600, 800, seed))) for seed in range(4)]
    exact = multimodal.load("starter", device="cpu").encode(images)
    fast = multimodal.load("starter", device="cpu", decode="fast").encode(images)
    assert requests == [None] * 4 + [64] * 4
    assert (exact * fast).sum(axis=1).min() > 0.995
    assert not np.array_equal(exact, fast)
