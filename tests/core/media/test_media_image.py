from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import ImageCms, PngImagePlugin

from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaUnsupported
from multimodal.core.items import Image
from multimodal.core.media import pillow, sniff
from multimodal.core.modality import Modality

# Smooth, so that lossy formats stay close; each corner of another colour, so that turning shows.
Y, X = np.mgrid[0:24, 0:32]
PHOTO = np.stack([X * 8, Y * 10, 255 - X * 4 - Y * 5], axis=2).clip(0, 255).astype(np.uint8)


def encoded(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def over_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.float64]:
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


def differ(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(float) - b.astype(float)).max())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX", "SGI", "JPEG2000"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    data = encoded(PIL.Image.fromarray(PHOTO), kind)
    assert sniff.sniff(data) is Modality.IMAGE
    assert differ(Image(data).load(), PHOTO) == 0


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_come_back_as_pillow_reads_them(kind: str) -> None:
    data = encoded(PIL.Image.fromarray(PHOTO), kind, quality=95)
    assert sniff.sniff(data) is Modality.IMAGE
    assert differ(Image(data).load(), np.asarray(PIL.Image.open(io.BytesIO(data)).convert("RGB"))) == 0
    assert differ(Image(data).load(), PHOTO) < 40


@settings(max_examples=12)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
def test_any_array_survives_png_and_the_array_itself_is_the_same_image(pixels: NDArray[np.uint8]) -> None:
    assert differ(Image(encoded(PIL.Image.fromarray(pixels), "PNG")).load(), pixels) == 0
    assert differ(Image(pixels).load(), pixels) == 0
    assert differ(Image(PIL.Image.fromarray(pixels)).load(), pixels) == 0


def test_a_path_its_bytes_and_the_opened_image_give_the_same_pixels(tmp_path: Path) -> None:
    data = encoded(PIL.Image.fromarray(PHOTO), "JPEG", exif=exif_with(6))
    path = tmp_path / "x"
    path.write_bytes(data)
    with PIL.Image.open(path) as opened:
        loaded = [Image(source).load() for source in (path, str(path), data, bytearray(data), opened)]
    assert all((item == loaded[0]).all() for item in loaded)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_composited_over_white(kind: str) -> None:
    alpha = (X * 8).clip(0, 255).astype(np.uint8)
    rgba = np.dstack([PHOTO, alpha])
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    data = encoded(PIL.Image.fromarray(rgba), kind, **options)
    assert differ(Image(data).load(), over_white(PHOTO, alpha)) <= 1
    assert differ(Image(rgba).load(), over_white(PHOTO, alpha)) <= 1


def test_grey_with_alpha_is_composited_over_white() -> None:
    grey, alpha = PHOTO[..., 0], PHOTO[..., 1]
    image = PIL.Image.merge("LA", [PIL.Image.fromarray(grey), PIL.Image.fromarray(alpha)])
    expected = over_white(np.repeat(grey[..., None], 3, axis=2), alpha)
    assert differ(Image(encoded(image, "PNG")).load(), expected) <= 1


@pytest.mark.parametrize("mode", ["RGBa", "La"])
def test_alpha_already_multiplied_in_is_taken_out_first(mode: str) -> None:
    straight = PIL.Image.new(
        "RGBA" if mode == "RGBa" else "LA", (2, 2), (200, 100, 50, 128)[: 4 if mode == "RGBa" else 2]
    )
    if mode == "La":
        straight.putalpha(128)
    assert differ(Image(straight.convert(mode)).load(), Image(straight).load()) <= 2


def test_a_colour_declared_transparent_shows_white() -> None:
    pixels = np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8)
    expected = np.array([[[255, 255, 255], [0, 0, 255]]], dtype=np.uint8)
    rgb = PIL.Image.fromarray(pixels)
    assert differ(Image(encoded(rgb, "PNG", transparency=(255, 0, 0))).load(), expected) == 0
    palette = rgb.quantize(2)
    red = palette.getpixel((0, 0))
    for kind in ("PNG", "GIF"):
        assert differ(Image(encoded(palette, kind, transparency=red)).load(), expected) == 0
    grey = PIL.Image.fromarray(np.array([[9, 80]], dtype=np.uint8))
    assert Image(encoded(grey, "PNG", transparency=9)).load()[0, :, 0].tolist() == [255, 80]


def test_a_palette_with_a_share_of_alpha_is_composited() -> None:
    palette = PIL.Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    palette.putpalette([255, 0, 0, 0, 0, 0])
    data = encoded(palette, "PNG", transparency=bytes([128, 255]))
    assert differ(Image(data).load(), np.array([[[255, 127, 127], [0, 0, 0]]])) <= 1


def test_a_palette_without_transparency_gives_its_colours() -> None:
    image = PIL.Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([1, 2, 3, 200, 100, 50])
    assert Image(encoded(image, "PNG")).load().tolist() == [[[1, 2, 3], [200, 100, 50]]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str) -> None:
    deep = np.linspace(0, 65_535, 24 * 32).reshape(24, 32).astype(np.uint16)
    loaded = Image(encoded(PIL.Image.fromarray(deep), kind)).load()
    assert differ(loaded, np.repeat(np.round(deep / 257)[..., None], 3, axis=2)) <= 1
    assert loaded.min() == 0 and loaded.max() == 255


def test_16_bit_grey_of_the_other_byte_order_is_the_same() -> None:
    deep = np.array([[0, 257, 65_535]], dtype=">u2")
    image = PIL.Image.frombytes("I;16B", (3, 1), deep.tobytes())
    assert Image(image).load()[0, :, 0].tolist() == [0, 1, 255]


def test_16_bit_grey_with_a_transparent_level_shows_white() -> None:
    deep = PIL.Image.fromarray(np.array([[1_000, 40_000]], dtype=np.uint16))
    assert Image(encoded(deep, "PNG", transparency=1_000)).load()[0, :, 0].tolist() == [255, 156]


def test_floats_are_read_as_0_to_1_or_0_to_255() -> None:
    unit = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    for values in (unit, unit * 255):
        assert Image(encoded(PIL.Image.fromarray(values), "TIFF")).load()[0, :, 0].tolist() == [0, 128, 255]


def test_numbers_without_an_agreed_white_are_refused_and_not_guessed() -> None:
    heights = PIL.Image.fromarray(np.array([[-11_000, 8_848]], dtype=np.int32))
    with pytest.raises(
        MediaUnsupported, match=r"its pixels range from -11000 to 8848, which has no standard black and white"
    ):
        Image(encoded(heights, "TIFF")).load()
    with pytest.raises(MediaCorrupt, match=r"its pixels hold NaN or infinity; replace them first$"):
        Image(PIL.Image.fromarray(np.array([[np.nan, 1]], dtype=np.float32))).load()


def test_bilevel_and_grey_images_become_rgb() -> None:
    bits = PIL.Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    assert Image(encoded(bits, "PNG")).load().tolist() == [[[0] * 3, [255] * 3]]
    assert Image(PHOTO[..., 0]).load()[..., 2].tolist() == PHOTO[..., 0].tolist()
    assert Image(PHOTO[..., :1]).load().shape == PHOTO.shape


def test_cmyk_is_not_inverted() -> None:
    red = PIL.Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):  # Pillow writes JPEG as Adobe does, inverted
        assert differ(Image(encoded(red, kind)).load(), np.full((16, 16, 3), (255, 0, 0))) <= 3


def test_lab_goes_through_its_colour_space() -> None:
    lab = ImageCms.profileToProfile(
        PIL.Image.fromarray(PHOTO),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert lab is not None
    inside = np.abs(Image(lab).load().astype(int) - PHOTO)
    assert np.median(inside) <= 2


@pytest.mark.parametrize("mode", ["YCbCr", "HSV"])
def test_other_colour_models_become_rgb(mode: str) -> None:
    image = PIL.Image.fromarray(PHOTO).convert(mode)
    assert differ(Image(image).load(), np.asarray(image.convert("RGB"))) == 0


def exif_with(orientation: int) -> bytes:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


UPRIGHT = {  # what the stored rows and columns are -> how to put them right, by numpy alone
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(PIL.Image.fromarray(PHOTO), kind, exif=exif_with(orientation), **options)
    assert differ(Image(data).load(), UPRIGHT[orientation](PHOTO)) == 0


def test_exif_orientation_of_a_16_bit_image_is_applied_too() -> None:
    deep = PIL.Image.fromarray(np.array([[0, 65_535]], dtype=np.uint16))
    assert Image(encoded(deep, "PNG", exif=exif_with(6))).load()[:, :, 0].tolist() == [[0], [255]]


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("is_open", [False, True])
def test_a_pil_image_for_preprocessing_is_upright_and_is_not_turned_again(
    is_open: bool, orientation: int
) -> None:
    data = encoded(PIL.Image.fromarray(PHOTO), "PNG", exif=exif_with(orientation))
    source = PIL.Image.open(io.BytesIO(data)) if is_open else data
    loaded = pillow.load_pil(Image(source))
    assert loaded.mode == "RGB"
    again = PIL.ImageOps.exif_transpose(loaded)  # what the image processors of transformers do
    assert differ(np.asarray(again), UPRIGHT[orientation](PHOTO)) == 0
    if isinstance(source, PIL.Image.Image):
        assert source.getexif().get(0x0112, 1) == orientation  # the caller's image keeps what it states


def test_a_subclass_with_its_own_decoder_gets_the_pil_image() -> None:
    class Negative(Image):
        __slots__ = ()

        def load(self, min_side: int | None = None) -> np.ndarray:
            return 255 - super().load(min_side)

    assert differ(np.asarray(pillow.load_pil(Negative(PHOTO))), 255 - PHOTO) == 0


def test_a_broken_exif_block_does_not_stop_preprocessing() -> None:
    data = encoded(PIL.Image.fromarray(PHOTO), "PNG", exif=b"Exif\0\0nonsense")
    for source in (data, PIL.Image.open(io.BytesIO(data))):
        PIL.ImageOps.exif_transpose(pillow.load_pil(Image(source)))


def test_a_broken_exif_block_does_not_cost_the_image() -> None:
    data = encoded(PIL.Image.fromarray(PHOTO), "PNG", exif=b"Exif\0\0nonsense")
    assert differ(Image(data).load(), PHOTO) == 0


def test_avif_orientation_is_applied() -> None:
    data = encoded(PIL.Image.fromarray(PHOTO), "AVIF", quality=95, exif=exif_with(6))
    assert differ(Image(data).load(), np.rot90(PHOTO, -1)) < 40


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_is_the_image(kind: str) -> None:
    first, second = (PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert differ(Image(data).load(), np.full((8, 8, 3), (255, 0, 0))) == 0


def test_heic_is_read_and_set_upright() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(PIL.Image.fromarray(PHOTO)).save(buffer, quality=95, exif=exif_with(6))
    data = buffer.getvalue()
    assert sniff.sniff(data) is Modality.IMAGE
    assert differ(Image(data).load(), np.rot90(PHOTO, -1)) < 40


def test_an_image_given_by_the_caller_is_not_changed() -> None:
    image = PIL.Image.fromarray(np.dstack([PHOTO, PHOTO[..., 0]]))
    before = image.tobytes()
    Image(image).load()[:] = 0
    assert image.mode == "RGBA" and image.tobytes() == before


def test_arrays_that_view_other_memory_are_read_right() -> None:
    assert (Image(PHOTO[::-1, ::2]).load() == PHOTO[::-1, ::2]).all()
    loaded = Image(PHOTO[::-1]).load()
    assert loaded.flags.c_contiguous and loaded.flags.writeable and loaded.base is None


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (PHOTO.astype(np.float32), r"floats must lie in 0 to 1, got 0 to 255 \(float32 \(24, 32, 3\)\)"),
        (PHOTO.transpose(2, 0, 1), r"got uint8 \(3, 24, 32\); transpose it if channels lead$"),
        (PHOTO[..., :2], r"got uint8 \(24, 32, 2\)"),
        (PHOTO[None], r"got uint8 \(1, 24, 32, 3\)"),
        (PHOTO[:0], r"an image must have at least one pixel, got an array of shape \(0, 32, 3\)$"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array: NDArray[np.generic], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        Image(array).load()


def test_formats_that_would_run_a_program_are_not_opened() -> None:
    data = encoded(PIL.Image.fromarray(PHOTO), "EPS")
    with pytest.raises(
        MediaUnsupported, match=r"holds text, not an image|is not an image in a supported format"
    ):
        Image(data).load()


def test_a_closed_image_says_so() -> None:
    image = PIL.Image.open(io.BytesIO(encoded(PIL.Image.fromarray(PHOTO), "PNG")))
    image.close()
    with pytest.raises(
        MediaCorrupt, match=r"^<PIL image>: is a PNG image of 32 x 24 pixels that cannot be decoded"
    ):
        Image(image).load()


def test_a_png_with_text_chunks_is_read() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "hello")
    assert differ(Image(encoded(PIL.Image.fromarray(PHOTO), "PNG", pnginfo=info)).load(), PHOTO) == 0
