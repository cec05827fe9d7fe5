"""Opens files safely and identifies their format by content, never by name.

Knows the first bytes of formats; `image`, `audio` and `video` decode them. Types that users add are in `registry`.
"""

from __future__ import annotations

import contextlib
import io
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from multimodal.core.errors import MediaCorrupt, MediaError, MediaNotFound, MediaUnsupported
from multimodal.core.limits import get_limits
from multimodal.core.modality import Modality

HEAD_BYTES = 512
NAMELESS = re.compile(r"^<[\d,]+ bytes>(?=: )")  # how a message begins about bytes without a name

Source = Path | bytes


class Signature(NamedTuple):
    """What the first bytes of a file say.

    Attributes:
        modality: None if only the container's tracks tell.
        decoder: "pillow", "heif", "soundfile", "av:<FFmpeg demuxer>", or "" for an unknown format.
    """

    modality: Modality | None
    decoder: str


UNKNOWN = Signature(None, "")

# The ISO media container (MP4 and its relatives) names its kind by "brands"
AVIF_BRANDS = {b"avif", b"avis"}
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
AUDIO_BRANDS = {b"M4A ", b"M4B ", b"M4P "}

QUICKTIME_ATOMS = {b"moov", b"mdat", b"wide"}
# (offset, period) of the sync byte "G" in an MPEG transport stream, from a TV or a camera
TRANSPORT_PACKETS = ((0, 188), (4, 192))

SIGNATURES: tuple[tuple[bytes, Signature], ...] = (
    (b"\xff\xd8\xff", Signature(Modality.IMAGE, "pillow")),  # JPEG
    (b"\x89PNG\r\n\x1a\n", Signature(Modality.IMAGE, "pillow")),
    (b"GIF87a", Signature(Modality.IMAGE, "pillow")),
    (b"GIF89a", Signature(Modality.IMAGE, "pillow")),
    (b"II*\0", Signature(Modality.IMAGE, "pillow")),  # TIFF, both byte orders, and BigTIFF
    (b"MM\0*", Signature(Modality.IMAGE, "pillow")),
    (b"II+\0", Signature(Modality.IMAGE, "pillow")),
    (b"MM\0+", Signature(Modality.IMAGE, "pillow")),
    (b"fLaC", Signature(Modality.AUDIO, "soundfile")),
    (b"OggS", Signature(Modality.AUDIO, "soundfile")),
    (b"ID3", Signature(Modality.AUDIO, "soundfile")),  # MP3 with a tag
    (b"RF64", Signature(Modality.AUDIO, "soundfile")),
    (b"BW64", Signature(Modality.AUDIO, "soundfile")),
    (b"riff\x2e\x91\xcf\x11", Signature(Modality.AUDIO, "soundfile")),  # Wave64
    (b"caff\0", Signature(Modality.AUDIO, "soundfile")),
    (b".snd", Signature(Modality.AUDIO, "soundfile")),  # AU
    (b"#!AMR", Signature(Modality.AUDIO, "av:amr")),
    (b"wvpk", Signature(Modality.AUDIO, "av:wv")),
    (b"MAC ", Signature(Modality.AUDIO, "av:ape")),
    (b"TTA1", Signature(Modality.AUDIO, "av:tta")),
    (b"\x1aE\xdf\xa3", Signature(None, "av:matroska")),  # also WebM
    (b"0&\xb2u\x8ef\xcf\x11", Signature(None, "av:asf")),  # WMA, WMV
    (b"FLV\1", Signature(None, "av:flv")),
    (b"\0\0\1\xba", Signature(None, "av:mpeg")),
)
FOUR_CC: dict[bytes, Signature] = {  # RIFF, RIFX and FORM (IFF) name their format at byte 8
    b"WAVE": Signature(Modality.AUDIO, "soundfile"),
    b"WEBP": Signature(Modality.IMAGE, "pillow"),
    b"AVI ": Signature(None, "av:avi"),
    b"AIFF": Signature(Modality.AUDIO, "soundfile"),
    b"AIFC": Signature(Modality.AUDIO, "soundfile"),
}


def signature(head: bytes) -> Signature:
    """The signature of a file. head: its first HEAD_BYTES bytes."""
    if head[:4] in (b"RIFF", b"RIFX", b"FORM"):
        return FOUR_CC.get(head[8:12], UNKNOWN)
    if head[4:8] == b"ftyp":
        return _brand(head)
    if head[:4] == b"OggS" and head[28:35] == b"\x80theora":
        return Signature(None, "av:ogg")
    if head[4:8] in QUICKTIME_ATOMS and head[0] < ord(" "):  # QuickTime files from before brands
        return Signature(None, "av:mov")
    if any(head[at::size][:3] == b"GGG" for at, size in TRANSPORT_PACKETS):
        return Signature(None, "av:mpegts")
    for start, known in SIGNATURES:
        if head.startswith(start):
            return known
    return _mpeg_frame(head)


def _brand(head: bytes) -> Signature:
    size = int.from_bytes(head[:4], "big")
    brands = {head[8:12]} | {head[at : at + 4] for at in range(16, min(size, len(head)), 4)}
    if brands & AVIF_BRANDS:
        return Signature(Modality.IMAGE, "pillow")
    if brands & HEIF_BRANDS:
        return Signature(Modality.IMAGE, "heif")
    return Signature(Modality.AUDIO if head[8:12] in AUDIO_BRANDS else None, "av:mov")


def _mpeg_frame(head: bytes) -> Signature:
    """MP3 and AAC without a header start with a frame: eleven or twelve set bits, then version and layer."""
    if len(head) < 4 or head[0] != 0xFF:
        return UNKNOWN
    if head[1] & 0xF6 == 0xF0:
        return Signature(Modality.AUDIO, "av:aac")
    layer, bitrate, rate = head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    # Layer I (3) is left out: such files are not in use, and UTF-16 text (FF FE) looks like one
    is_frame = head[1] & 0xE0 == 0xE0 and layer in (1, 2) and bitrate not in (0, 15) and rate != 3
    return Signature(Modality.AUDIO, "soundfile") if is_frame else UNKNOWN


def sniff(source: Source | str) -> Modality:
    """Identifies a file, or its bytes, by content.

    Only the header is read: a truncated image is identified as an image and fails when it is loaded.

    Returns:
        IMAGE, AUDIO or VIDEO.

    Raises:
        MediaNotFound: the path does not exist.
        MediaUnsupported: a directory, text, or an unknown format.
        MediaCorrupt: the file is empty.
        MediaTooLarge: it is larger than the limit.
        MissingExtra: only the container's tracks tell, and reading them needs PyAV.
    """
    from multimodal.core.media import ffmpeg, image

    source = Path(source) if isinstance(source, str) else source
    with open_source(source) as (file, name):
        head = file.read(HEAD_BYTES)
        known = signature(head)
        if known.modality is not None:
            return known.modality
        if known.decoder:
            return ffmpeg.modality_of_container(file, name, known.decoder)
        if image.can_open(file):
            return Modality.IMAGE
        raise unsupported(name, head, "an image, audio or a video")


@contextlib.contextmanager
def open_source(source: Source) -> Iterator[tuple[BinaryIO, str]]:
    """Opens a source as a seekable binary file -> (file, name for messages). Checks its size and kind first."""
    if isinstance(source, bytes):
        name = f"<{len(source):,} bytes>"  # see `with_name`
        _check_size(len(source), name)
        yield io.BytesIO(source), name
        return
    name = str(source)
    try:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):  # a named pipe would block forever, /dev/zero never end
            what = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise MediaUnsupported(f"{name}: is {what}, expected a file with an image, audio or a video")
        _check_size(status.st_size, name)
        file = source.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        where = "" if source.is_absolute() else f" (the working directory is {Path.cwd()})"
        raise MediaNotFound(f"{name}: no such file; check the path{where}") from error
    except OSError as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(
            f"{name}: cannot be read ({error.strerror}); check its permissions and name"
        ) from error
    with file:
        yield file, name


def with_name(message: str, name: str) -> str:
    """A message about bytes without a name, with the name that they have where they come from."""
    return NAMELESS.sub(lambda _: name, message, count=1)


def _check_size(n_bytes: int, name: str) -> None:
    if n_bytes == 0:
        raise MediaCorrupt(f"{name}: is empty (0 bytes); copy or download it again")
    get_limits().check_bytes(n_bytes, name)


def unsupported(name: str, head: bytes, expected: str) -> MediaUnsupported:
    """The error for a file of another kind than expected, naming its kind as far as the first bytes tell.

    expected: the kind with its article, such as "an image".
    """
    known = signature(head)
    if known.modality is not None:
        kind, cure = {
            Modality.IMAGE: ("an image", "use Image(...)"),
            Modality.AUDIO: ("audio", "use Audio(...)"),
        }[known.modality]
        return MediaUnsupported(f"{name}: holds {kind}, not {expected}; {cure}")
    if known.decoder:
        return MediaUnsupported(
            f"{name}: holds video or audio in a container, not {expected}; use Video(...) for its frames, "
            "Audio(...) for its audio"
        )
    if _looks_like_text(head):
        return MediaUnsupported(
            f"{name}: holds text, not {expected}; to encode the text pass Text(path.read_text())"
        )
    return MediaUnsupported(
        f"{name}: is not {expected} in a supported format (it starts with {head[:8].hex(' ')}); convert it first"
    )


def _looks_like_text(head: bytes) -> bool:
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    try:
        # The end of the head may split a multi-byte character
        text = head.decode("utf-8", errors="strict" if len(head) < HEAD_BYTES else "ignore")
    except UnicodeDecodeError:
        return False
    return len(text.encode()) > len(head) - 4 and all(c.isprintable() or c.isspace() for c in text)
