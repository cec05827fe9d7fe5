"""Image and audio files with generation metadata: PNG with text chunks, JPEG and WebP with EXIF, WAV with an INFO list.

PNG, section 11.3.3 of its specification: `Software` and `Description` are standard keywords; `multimodal` holds all
of the metadata as JSON. WAV: a LIST chunk of type INFO with ISFT (software), INAM (title) and ICMT (comment), which
holds the JSON. EXIF: `Software`, `ImageDescription`, and `UserComment` with the JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import PIL.Image

from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaNotFound, MediaUnsupported

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KEY = "multimodal"
PNG_HEAD, JPEG_HEAD = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
IMAGE_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}  # by suffix
LOSSY_QUALITY = 95
SOFTWARE, DESCRIPTION, EXIF, USER_COMMENT = 0x0131, 0x010E, 0x8769, 0x9286  # tags of EXIF
ASCII_COMMENT = b"ASCII\0\0\0"  # the encoding in front of a UserComment
MAX_INFO = 1 << 20  # bytes; larger metadata of untrusted files is not read
MAX_WAV = 2**32 - 1


def check_suffix(path: str | os.PathLike[str], suffix: str) -> Path:
    """The path, expanded. Raises InvalidInput unless its suffix is `suffix` or, for ".png", that of another image."""
    target = Path(path).expanduser()
    accepted = tuple(IMAGE_FORMATS) if suffix in IMAGE_FORMATS else (suffix,)
    if target.suffix.lower() not in accepted:
        what, other = ("image", ".image.save()") if suffix == ".png" else ("audio file", "soundfile.write()")
        raise InvalidInput(
            f"the {what} is saved as {', '.join(accepted)} with its metadata, got {str(path)!r}; write "
            f"{target.with_suffix(suffix).name!r}, or {other} for another format without that"
        )
    return target


def image_bytes(image: PIL.Image.Image, metadata: dict[str, Any], suffix: str) -> bytes:
    """The image as a file of the format of a suffix, with the metadata."""
    format_ = IMAGE_FORMATS[suffix.lower()]
    if format_ == "PNG":
        return png_bytes(image, metadata)
    exif = PIL.Image.Exif()
    exif[SOFTWARE] = f"multimodal {metadata['version']}"
    if metadata["prompt"]:
        exif[DESCRIPTION] = metadata["prompt"]
    exif.get_ifd(EXIF)[USER_COMMENT] = ASCII_COMMENT + json.dumps(metadata).encode("ascii")
    buffer = io.BytesIO()
    try:
        image.convert("RGB").save(buffer, format_, quality=LOSSY_QUALITY, exif=exif)
    except ValueError as error:
        raise InvalidInput(
            f"the metadata do not fit into a {format_} file ({error}); save it as .png"
        ) from error
    return buffer.getvalue()


def png_bytes(image: PIL.Image.Image, metadata: dict[str, Any] | None) -> bytes:
    """The image as a PNG file, with the metadata unless it is None."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if metadata is not None:
        info.add_text("Software", f"multimodal {metadata['version']}")
        if metadata["prompt"]:
            info.add_itxt("Description", metadata["prompt"])
        info.add_text(KEY, json.dumps(metadata))  # ASCII: every reader of tEXt takes it
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def wav_bytes(samples: NDArray[np.float32], rate_hz: int, metadata: dict[str, Any]) -> bytes:
    """Samples (n,) or (n, channels) as a 16-bit WAV file with the metadata; values beyond -1 to 1 are clipped."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples.clip(-1, 1), rate_hz, format="WAV", subtype="PCM_16")
    wav = buffer.getvalue()
    entries = [("ISFT", f"multimodal {metadata['version']}"), ("ICMT", json.dumps(metadata))]
    if metadata["prompt"]:
        entries.insert(1, ("INAM", metadata["prompt"]))
    listed = b"INFO" + b"".join(_chunk(name.encode(), text.encode() + b"\0") for name, text in entries)
    whole = wav[8:] + _chunk(b"LIST", listed)
    if len(whole) > MAX_WAV:
        raise InvalidInput(f"{len(whole):,} bytes of audio do not fit into a WAV; make it shorter")
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The metadata that `Generation.save` wrote into a file.

    Raises:
        MediaNotFound: No such file.
        MediaUnsupported: No PNG, JPEG, WebP or WAV, or a file without this metadata.
        MediaCorrupt: The file or its metadata is damaged.
    """
    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
            if head.startswith(PNG_HEAD):
                text = _from_png(file)
            elif head.startswith(JPEG_HEAD) or (head[:4] == b"RIFF" and head[8:] == b"WEBP"):
                text = _from_exif(file)
            elif head[:4] == b"RIFF" and head[8:] == b"WAVE":
                text = _from_wav(stream)
            else:
                raise MediaUnsupported(f"{path}: no PNG, JPEG, WebP or WAV; only these hold metadata")
    except FileNotFoundError as error:
        raise MediaNotFound(f"{path}: no such file") from error
    if text is None:
        raise MediaUnsupported(f"{path}: has no generation metadata; multimodal did not save it")
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise MediaCorrupt(f"{path}: its metadata is damaged ({error})") from error
    if not isinstance(metadata, dict):
        raise MediaCorrupt(f"{path}: its metadata is damaged (no JSON object)")
    return metadata


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file atomically: readers see the old file or the new one, and an interrupted write leaves no part."""
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"the folder {str(path.absolute().parent)!r} does not exist; create it first")
    with _scratch_file(path) as scratch:
        scratch.write_bytes(content)
        scratch.replace(path)


@contextlib.contextmanager
def _scratch_file(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.absolute().parent) as folder:
        yield Path(folder) / path.name


def _from_png(file: Path) -> str | None:
    try:
        with PIL.Image.open(file) as image:
            image.load()  # text chunks may follow the pixels
            text = getattr(image, "text", {}).get(KEY)
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaCorrupt(f"{file}: a broken PNG ({error}); copy it again") from error
    return None if text is None else str(text)


def _from_exif(file: Path) -> str | None:
    try:
        with PIL.Image.open(file) as image:
            image.load()
            comment = image.getexif().get_ifd(EXIF).get(USER_COMMENT)
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaCorrupt(f"{file}: a broken image ({error}); copy it again") from error
    if not isinstance(comment, bytes) or not comment.startswith(ASCII_COMMENT + b"{"):
        return None
    return comment.removeprefix(ASCII_COMMENT).decode("ascii", "replace")


def _from_wav(stream: BinaryIO) -> str | None:
    """The comment of a WAV; the audio chunk is skipped."""
    for name, size in _chunks(stream):
        begins = stream.tell()
        if name == b"LIST" and 4 <= size <= MAX_INFO:
            inside = io.BytesIO(stream.read(size))
            if inside.read(4) == b"INFO":
                for entry, length in _chunks(inside):
                    at = inside.tell()
                    if entry == b"ICMT":
                        return inside.read(length).rstrip(b"\0").decode("utf-8", "replace")
                    inside.seek(at + length + length % 2)
        stream.seek(begins + size + size % 2)
    return None


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    while len(head := stream.read(8)) == 8:
        yield head[:4], struct.unpack("<I", head[4:])[0]


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
