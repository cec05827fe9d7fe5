"""Images: anything Pillow opens -> RGB uint8 (h, w, 3), upright, transparent parts over white.

The size in the header is checked against the limits before a pixel is decoded.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import PIL.Image
from PIL import ImageFile

from multimodal.core.checks import whole_number
from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaUnsupported, MissingExtra
from multimodal.core.limits import get_limits
from multimodal.core.media import image_depth
from multimodal.core.media.sniff import HEAD_BYTES, UNKNOWN, Source, open_source, signature, unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHITE = (255, 255, 255)
DRAFT_MARGIN = 2  # below twice the needed size, what the decoder left out shows after the resize
JPEGS = {"JPEG", "MPO"}  # MPO: several JPEGs in one file, as phones write them; the first is decoded
ORIENTATION_TAG = 0x0112  # EXIF
TRANSPOSE_FOR = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}

UNKNOWN_PIXELS = (
    "unknown pixel mode"  # Pillow's words for a TIFF such as of 10 bits, or of three floats a pixel
)

# Formats of Pillow that are refused: EPS and WMF run an external program, which untrusted files must not; of the others
# Pillow reads only the header and cannot decode them.
REFUSED_FORMATS = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}

# What Pillow and its plugins raise on broken files (UserWarning where warnings are errors)
DECODE_ERRORS = (
    *(
        OSError,
        SyntaxError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        EOFError,
        OverflowError,
        AttributeError,
    ),
    *(
        NotImplementedError,
        RuntimeError,
        UserWarning,
        struct.error,
        zlib.error,
        PIL.Image.DecompressionBombError,
    ),
)


def decode_image(
    source: Source | PIL.Image.Image | NDArray[Any], min_side: int | None = None
) -> NDArray[np.uint8]:
    """Implements Image.load."""
    if isinstance(source, np.ndarray):
        _check_min_side(min_side)
        return _from_array(source)
    return np.array(decode_pil(source, min_side), dtype=np.uint8)


def decode_pil(
    source: Source | PIL.Image.Image | NDArray[Any], min_side: int | None = None
) -> PIL.Image.Image:
    """Decodes as `decode_image` does, to a PIL image.

    For preprocessing by Pillow: an array made of a decoded JPEG and an image made of that array cost as much as its
    resize to 224 pixels (measured).

    Returns:
        An upright image of mode RGB, to be read only: it can be the caller's own.
    """
    _check_min_side(min_side)
    if isinstance(source, np.ndarray):
        return PIL.Image.fromarray(_from_array(source))
    if isinstance(source, PIL.Image.Image):
        return _decode(source, "<PIL image>")  # without min_side: a draft would change the caller's own image
    with open_source(source) as (file, name), _open(file, name) as image:
        return _decode(image, name, min_side)


def _check_min_side(min_side: int | None) -> None:
    if min_side is not None:
        whole_number(min_side, "min_side", of=" of pixels")


def image_size(source: Source) -> tuple[int, int]:
    """(width, height) in the header, before any rotation; nothing is decoded. Raises as `decode_image` does."""
    with open_source(source) as (file, name), _open(file, name) as image:
        return image.size


def pixel_count(source: Source | PIL.Image.Image | NDArray[Any]) -> int:
    """Width times height of the source of an Image, from its header. Raises as `decode_image` does."""
    if isinstance(source, np.ndarray):
        return int(np.prod(source.shape[:2]))
    width, height = source.size if isinstance(source, PIL.Image.Image) else image_size(source)
    return width * height


def can_open(file: BinaryIO) -> bool:
    """Whether Pillow recognises the header, also of formats without distinctive first bytes."""
    file.seek(0)
    image, _ = _identify(file, file.read(HEAD_BYTES))
    return image is not None


def _open(file: BinaryIO, name: str) -> PIL.Image.Image:
    """Opens an image and reads its header only."""
    head = file.read(HEAD_BYTES)
    decoder = signature(head).decoder
    if decoder == "heif":
        return _open_heif(file, name)
    if decoder not in ("pillow", UNKNOWN.decoder):
        raise unsupported(name, head, "an image")
    image, reason = _identify(file, head)
    if image is not None:
        return image
    if UNKNOWN_PIXELS in reason:
        raise MediaUnsupported(
            f"{name}: is an image with a depth, channels or photometric tag that Pillow does not read ({reason}); "
            "convert it to 8 or 16 bits"
        )
    if decoder == "pillow":
        raise MediaCorrupt(
            f"{name}: starts like an image but its header is broken ({reason}); copy or download it again"
        )
    raise unsupported(name, head, "an image")


def _identify(file: BinaryIO, head: bytes) -> tuple[PIL.Image.Image | None, str]:
    """`PIL.Image.open` without its limit on pixels, which is global and cannot be set for one call."""
    reason = "no format recognised it"
    tried: set[str] = set(REFUSED_FORMATS)
    for load_plugins in (PIL.Image.preinit, PIL.Image.init):
        load_plugins()
        for format in [known for known in PIL.Image.ID if known not in tried]:
            tried.add(format)
            open_format, accepts = PIL.Image.OPEN[format]
            try:
                verdict = True if accepts is None else accepts(head[:16])
                if isinstance(verdict, str):
                    reason = verdict
                elif verdict:
                    file.seek(0)
                    return open_format(file, ""), ""  # type: ignore[arg-type]
            except DECODE_ERRORS as error:
                if (
                    accepts is not None
                ):  # a format without first bytes tries every file: its failure says nothing
                    reason = f"{format}: {error}"
    return None, reason


def _open_heif(file: BinaryIO, name: str) -> PIL.Image.Image:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingExtra(f"{name}: reading HEIC images", package="pillow-heif", extra="heic") from error
    file.seek(0)
    try:
        image: ImageFile.ImageFile = pillow_heif.HeifImageFile(file, "")
    except DECODE_ERRORS as error:
        raise MediaCorrupt(
            f"{name}: starts like a HEIC image but its header is broken ({error}); copy or download it again"
        ) from error
    return image


def _decode(image: PIL.Image.Image, name: str, min_side: int | None = None) -> PIL.Image.Image:
    width, height = image.size
    get_limits().check_pixels(width, height, name)
    get_limits().check_bytes(width * height * 3, f"{name} (decoded)")
    if width == 0 or height == 0:
        raise MediaCorrupt(f"{name}: an image of {width} x {height} pixels has no content; export it again")
    try:
        if min_side is not None and image.format in JPEGS:
            # The decoder skips the highest frequencies of each block: 1/2, 1/4 or 1/8 of the size at a fraction of the
            # work. It uses the smallest scale at which both sides are at least this long.
            image.draft(None, (min_side * DRAFT_MARGIN, min_side * DRAFT_MARGIN))
        image.load()
        rgb = _to_rgb(image, name)
        turn = TRANSPOSE_FOR.get(_orientation(image))
        if turn is None:
            return rgb
        turned = rgb.transpose(turn)
        turned.info.clear()  # it still states the orientation, by which preprocessing would turn the image again
        return turned
    except (MediaCorrupt, MediaUnsupported):
        raise
    except DECODE_ERRORS as error:
        raise MediaCorrupt(
            f"{name}: is a {image.format or 'PIL'} image of {width} x {height} pixels that cannot be "
            f"decoded ({error}); copy or download it again"
        ) from error


def _orientation(image: PIL.Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DECODE_ERRORS:  # the pixels are fine, and every viewer ignores a broken EXIF block
        return 1


def _to_rgb(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    if image_depth.is_deep_grey(image):
        return image_depth.to_rgb(image, name)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        return image.convert("RGB") if converted is None else converted
    if image.has_transparency_data:
        if image.mode in ("La", "RGBa"):  # premultiplied alpha
            image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")  # a copy costs more than decoding


def _over_white(image: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, (*WHITE, 255)), image).convert("RGB")


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    shape = array.shape
    if array.dtype.kind == "f" and array.size:
        array = _from_unit_floats(array)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        cure = (
            "scale it to 0-255 and .astype(np.uint8)"
            if array.dtype != np.uint8
            else "transpose it if channels lead"
        )
        raise InvalidInput(
            "an image as an array must be uint8, or floats in 0 to 1, of shape (h, w), (h, w, 3) or (h, w, 4), got "
            f"{array.dtype} {shape}; {cure}"
        )
    if 0 in shape:
        raise InvalidInput(f"an image must have at least one pixel, got an array of shape {shape}")
    get_limits().check_pixels(shape[1], shape[0], "<array>")
    if array.ndim == 2 or shape[2] == 1:
        return np.repeat(array.reshape(*shape[:2], 1), 3, axis=2)
    if shape[2] == 4:
        return np.array(_over_white(PIL.Image.fromarray(np.ascontiguousarray(array))))
    return np.array(array)


def _from_unit_floats(array: NDArray[Any]) -> NDArray[np.uint8]:
    """Floats in 0 to 1 -> uint8. Raises InvalidInput for others, whose black and white are unknown."""
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # so that NaN is refused too
        raise InvalidInput(
            f"an image of floats must lie in 0 to 1, got {low:g} to {high:g} ({array.dtype} {array.shape}); undo its "
            "normalisation, or scale it to 0-255 and .astype(np.uint8)"
        )
    return np.round(array.astype(np.float32) * 255).astype(np.uint8)
