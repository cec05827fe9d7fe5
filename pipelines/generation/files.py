"""Pictures and sounds as files that say how they were made: PNG with text chunks, WAV with an INFO list.

PNG, section 11.3.3 of its specification: `Software` and `Description` are keywords it names; `multimodal` holds all
of it as JSON. WAV: a LIST chunk of type INFO with ISFT (software), INAM (title) and ICMT (comment), which holds the
JSON.
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

from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaNotFound, MediaUnsupported

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

KEY = "multimodal"
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
MAX_INFO = (
    1 << 20
)  # bytes of metadata that are read: a prompt is far below, and a file can come from anywhere
MAX_WAV = 2**32 - 1


def check_suffix(path: str | os.PathLike[str], suffix: str) -> Path:
    """The path. Raises InvalidInput if it does not end as what is in it does."""
    found = Path(path).expanduser()
    if found.suffix.lower() != suffix:
        what, other = ("picture", ".image.save()") if suffix == ".png" else ("sound", "soundfile.write()")
        raise InvalidInput(
            f"a {what} is saved as {suffix}, which holds how it was made, got {str(path)!r}; write "
            f"{found.with_suffix(suffix).name!r}, or {other} for another format without that"
        )
    return found


def png_bytes(image: PIL.Image.Image, metadata: dict[str, Any] | None) -> bytes:
    """A PNG, with the metadata unless it is None."""
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
    """A 16-bit WAV; what is beyond -1 to 1 is clipped. samples: (n,) or (n, channels)."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples.clip(-1, 1), rate_hz, format="WAV", subtype="PCM_16")
    sound = buffer.getvalue()
    entries = [("ISFT", f"multimodal {metadata['version']}"), ("ICMT", json.dumps(metadata))]
    if metadata["prompt"]:
        entries.insert(1, ("INAM", metadata["prompt"]))
    listed = b"INFO" + b"".join(_chunk(name.encode(), text.encode() + b"\0") for name, text in entries)
    whole = sound[8:] + _chunk(b"LIST", listed)
    if len(whole) > MAX_WAV:
        raise InvalidInput(f"{len(whole):,} bytes of sound do not fit into a WAV; make it shorter")
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """How a file was made, as `Generation.metadata` had it.

    Raises MediaNotFound; MediaUnsupported for a file that is neither PNG nor WAV or says nothing of it, MediaCorrupt.
    """
    file = Path(path).expanduser()
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
            if head.startswith(PNG_HEAD):
                text = _from_png(file)
            elif head[:4] == b"RIFF" and head[8:] == b"WAVE":
                text = _from_wav(stream)
            else:
                raise MediaUnsupported(f"{path}: neither a PNG nor a WAV, which alone say how they were made")
    except FileNotFoundError as error:
        raise MediaNotFound(f"{path}: no such file") from error
    if text is None:
        raise MediaUnsupported(f"{path}: says nothing of how it was made; multimodal did not save it")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise MediaCorrupt(f"{path}: what it says of how it was made is damaged ({error})") from error
    if not isinstance(found, dict):
        raise MediaCorrupt(f"{path}: what it says of how it was made is damaged (no JSON object)")
    return found


def write_whole(path: Path, content: bytes) -> None:
    """All or nothing: whoever looks, sees the old file or the new one, and a run that is stopped leaves neither
    half."""
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"the folder {str(path.absolute().parent)!r} does not exist; make it first")
    with _scratch(path) as new:
        new.write_bytes(content)
        new.replace(path)


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.absolute().parent) as folder:
        yield Path(folder) / path.name


def _from_png(file: Path) -> str | None:
    import PIL.Image

    try:
        with PIL.Image.open(file) as image:
            image.load()  # text may also stand behind the pixels
            text = getattr(image, "text", {}).get(KEY)
    except (OSError, SyntaxError, ValueError) as error:
        raise MediaCorrupt(f"{file}: a broken PNG ({error}); copy it again") from error
    return None if text is None else str(text)


def _from_wav(stream: BinaryIO) -> str | None:
    """The comment among the chunks of a WAV, read past the sound without loading it."""
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
