"""Pictures: anything Pillow opens -> RGB uint8 (h, w, 3), upright, transparent parts over white.

The size is read from the header and checked against the limits before a pixel is decoded.
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import PIL.Image
from PIL import ImageFile

from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaUnsupported, MissingExtra
from multimodal.core.limits import get_limits
from multimodal.core.media.inputs import check_count
from multimodal.core.media.sniff import HEAD_BYTES, UNKNOWN, Source, opened, signature, unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

WHITE = (255, 255, 255)
THUMBNAIL_SIDE = 512
DRAFT_MARGIN = 2  # below twice the size needed, what the decoder left out begins to show after the resize
JPEGS = {"JPEG", "MPO"}  # MPO: several JPEGs in one file, as phones write them; the first is the picture
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

# Formats that Pillow names but that are not for untrusted files: EPS and WMF run a program of the system, the others
# only read a header, so that opening succeeds and decoding never can.
NOT_PICTURES = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}

# What Pillow and its plugins raise on broken files (warnings, where these are made errors).
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
    """See Image.load."""
    if min_side is not None:
        check_count(min_side, "min_side", of=" of pixels")
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, PIL.Image.Image):
        return _decode(
            source, "<PIL image>"
        )  # never at a smaller scale: that would change the caller's own picture
    with opened(source) as (file, name), _open(file, name) as image:
        return _decode(image, name, min_side)


def picture_size(source: Source) -> tuple[int, int]:
    """(width, height) as the header tells, before any turning; nothing is decoded. Raises as `decode_image` does."""
    with opened(source) as (file, name), _open(file, name) as image:
        return image.size


def can_open(file: BinaryIO) -> bool:
    """Whether Pillow recognises the header (also of formats that have no clear first bytes)."""
    file.seek(0)
    image, _ = _identify(file, file.read(HEAD_BYTES))
    return image is not None


def thumbnail_png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG of at most THUMBNAIL_SIDE pixels a side, for notebooks."""
    image = PIL.Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _open(file: BinaryIO, name: str) -> PIL.Image.Image:
    """Header only."""
    head = file.read(HEAD_BYTES)
    found = signature(head)
    if found.decoder == "heif":
        return _open_heif(file, name)
    if found.decoder not in ("pillow", UNKNOWN.decoder):
        raise unsupported(name, head, "a picture")
    image, reason = _identify(file, head)
    if image is not None:
        return image
    if found.decoder == "pillow":
        raise MediaCorrupt(
            f"{name}: begins like a picture, but its header is broken ({reason}); copy or download it again"
        )
    raise unsupported(name, head, "a picture")


def _identify(file: BinaryIO, head: bytes) -> tuple[PIL.Image.Image | None, str]:
    """What `PIL.Image.open` does, less its own limit on pixels (a global, and not adjustable for one call)."""
    reason = "no format recognised it"
    tried: set[str] = set(NOT_PICTURES)
    for load_plugins in (PIL.Image.preinit, PIL.Image.init):
        load_plugins()
        for kind in [one for one in PIL.Image.ID if one not in tried]:
            tried.add(kind)
            open_it, accepts = PIL.Image.OPEN[kind]
            try:
                verdict = True if accepts is None else accepts(head[:16])
                if isinstance(verdict, str):
                    reason = verdict
                elif verdict:
                    file.seek(0)
                    return open_it(file, ""), ""  # type: ignore[arg-type]
            except DECODE_ERRORS as error:
                if (
                    accepts is not None
                ):  # what has no first bytes tries everything, and its failure says nothing
                    reason = f"{kind}: {error}"
    return None, reason


def _open_heif(file: BinaryIO, name: str) -> PIL.Image.Image:
    try:
        import pillow_heif
    except ImportError as error:
        raise MissingExtra(f"{name}: reading HEIC pictures", package="pillow-heif", extra="heic") from error
    file.seek(0)
    try:
        image: ImageFile.ImageFile = pillow_heif.HeifImageFile(file, "")
    except DECODE_ERRORS as error:
        raise MediaCorrupt(
            f"{name}: begins like a HEIC picture, but its header is broken ({error}); "
            "copy or download it again"
        ) from error
    return image


def _decode(image: PIL.Image.Image, name: str, min_side: int | None = None) -> NDArray[np.uint8]:
    width, height = image.size
    get_limits().check_pixels(width, height, name)
    get_limits().check_bytes(width * height * 3, f"{name} (decoded)")
    if width == 0 or height == 0:
        raise MediaCorrupt(f"{name}: a picture of {width} x {height} pixels shows nothing")
    try:
        if min_side is not None and image.format in JPEGS:
            # The decoder leaves out the finest waves of each block: 1/2, 1/4 or 1/8 of the size at a fraction of the
            # work. It takes the smallest scale at which both sides are still as long as asked for.
            image.draft(None, (min_side * DRAFT_MARGIN, min_side * DRAFT_MARGIN))
        image.load()
        rgb = _to_rgb(image, name)
        turn = TRANSPOSE_FOR.get(_orientation(image))
        return np.array(rgb if turn is None else rgb.transpose(turn), dtype=np.uint8)
    except (MediaCorrupt, MediaUnsupported):
        raise
    except DECODE_ERRORS as error:
        raise MediaCorrupt(
            f"{name}: is a {image.format or 'PIL'} picture of {width} x {height} pixels that cannot be "
            f"decoded ({error}); copy or download it again"
        ) from error


def _orientation(image: PIL.Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DECODE_ERRORS:  # a broken EXIF block says nothing about the pixels, and every viewer ignores it
        return 1


def _to_rgb(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image, name)
    if image.mode == "LAB":
        from PIL import ImageCms

        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
        return image.convert("RGB") if converted is None else converted
    if image.has_transparency_data:
        if image.mode in ("La", "RGBa"):  # alpha already multiplied in
            image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
        return _over_white(image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")  # a needless copy costs more than decoding


def _over_white(image: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, (*WHITE, 255)), image).convert("RGB")


def _from_deep_grey(image: PIL.Image.Image, name: str) -> PIL.Image.Image:
    """Greyscale of 16 or 32 bits or floats; Pillow's own conversion would clip at 255 instead of scaling."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not (np.isfinite(low) and np.isfinite(high)):
            raise MediaCorrupt(f"{name}: its pixels are floats that hold NaN or infinity; clean them first")
        full = 1.0 if high <= 1 else 255.0
    else:
        full = 65_535.0
    if low < 0 or high > full:
        raise MediaUnsupported(
            f"{name}: its pixels reach from {low:g} to {high:g}, which has no agreed black and white (16-bit: 0 to "
            "65,535; floats: 0 to 1 or 0 to 255); scale it and pass a uint8 array"
        )
    grey = np.round(values.astype(np.float64) * (255.0 / full)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # PNG: one level of grey that means "nothing here"
        grey = np.where(values == transparent, np.uint8(255), grey)
    return PIL.Image.fromarray(grey).convert("RGB")


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    shape = array.shape
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and shape[2] not in (1, 3, 4)):
        cure = (
            "scale it to 0-255 and .astype(np.uint8)"
            if array.dtype != np.uint8
            else "transpose it if channels lead"
        )
        raise InvalidInput(
            f"a picture as an array must be uint8 of shape (h, w), (h, w, 3) or (h, w, 4), got {array.dtype} {shape}; "
            f"{cure}"
        )
    if 0 in shape:
        raise InvalidInput(f"a picture must have at least one pixel, got an array of shape {shape}")
    get_limits().check_pixels(shape[1], shape[0], "<array>")
    if array.ndim == 2 or shape[2] == 1:
        return np.repeat(array.reshape(*shape[:2], 1), 3, axis=2)
    if shape[2] == 4:
        return np.array(_over_white(PIL.Image.fromarray(np.ascontiguousarray(array))))
    return np.array(array)
