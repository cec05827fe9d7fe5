"""The layout of audio files: where the first stream ends, what follows it, and where joined streams begin.

libsndfile reads one stream and stops. Metadata may follow it, or a second stream of a file that was made with `cat`,
or audio that the header does not count because the recorder was killed. Nothing is decoded here.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from multimodal.core.media.sniff import HEAD_BYTES, signature
from multimodal.core.modality import Modality

SCAN_BYTES = 1 << 20
OGG_PAGE = re.compile(rb"OggS\0(.)", re.DOTALL)
OGG_FIRST_PAGE = 2  # the flag of the page with which a stream begins
FLAC_START = re.compile(rb"fLaC[\0\x80]\0\0\x22")  # followed by a STREAMINFO block of 34 bytes
ID3_HEADER = 10
TAG_V1 = 128  # ID3v1, at the end of a file
APE_HEADER = 32
LYRICS_END = (b"LYRICS200", b"LYRICSEND")


class ChunkFormat(NamedTuple):
    """Bytes of a chunk's name and of its length, and how chunks are aligned."""

    id_bytes: int
    size_bytes: int
    byteorder: str
    alignment: int
    counts_header: bool = False


CHUNK_FORMATS = {
    b"RIFF": ChunkFormat(4, 4, "little", 2),
    b"RF64": ChunkFormat(4, 4, "little", 2),
    b"BW64": ChunkFormat(4, 4, "little", 2),
    b"RIFX": ChunkFormat(4, 4, "big", 2),
    b"FORM": ChunkFormat(4, 4, "big", 2),
    b"caff": ChunkFormat(4, 8, "big", 1),
    b"riff": ChunkFormat(16, 8, "little", 8, counts_header=True),  # Wave64
}
AUDIO_CHUNKS = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"caff", b"data", b"SSND")

# FFmpeg's demuxer for the files that libsndfile is asked to read first
DEMUXERS = {
    b"OggS": "ogg", b"fLaC": "flac", b"RIFF": "wav", b"RIFX": "wav", b"RF64": "wav", b"BW64": "wav",
    b"riff": "w64", b"FORM": "aiff", b"caff": "caf", b".snd": "au",
}  # fmt: skip
# The length in samples that these demuxers give is exact: the last packet of the others holds padding.
EXACT_DEMUXERS = frozenset({"flac", "wav", "w64", "aiff", "caf", "au"})


def demuxer_of(head: bytes) -> str:
    """FFmpeg's demuxer of a file that starts like this, after any ID3 tag; "" if unknown."""
    known = signature(head)
    if known.decoder.startswith("av:"):
        return known.decoder.removeprefix("av:")
    if known.decoder != "soundfile":
        return ""
    return DEMUXERS.get(head[:4], "mp3")


def after_id3(file: BinaryIO, start: int = 0) -> tuple[int, bytes]:
    """Skips any ID3v2 tags from `start` on -> the offset after them and the HEAD_BYTES bytes there."""
    file.seek(start)
    head = file.read(HEAD_BYTES)
    while head[:3] == b"ID3" and len(head) > ID3_HEADER:
        start += _id3_bytes(head)
        file.seek(start)
        head = file.read(HEAD_BYTES)
    return start, head


def ogg_streams(file: BinaryIO, start: int) -> list[int]:
    """The offsets at which the streams of an Ogg file begin that were joined end to end; [start] for one stream.

    Streams that are multiplexed begin together, so only a first page after another kind of page begins a new part.
    """
    starts, in_header = [start], True
    for offset, flags in _matches(file, OGG_PAGE, start):
        is_first_page = bool(flags[0] & OGG_FIRST_PAGE)
        if is_first_page and not in_header:
            starts.append(offset)
        in_header = is_first_page
    return starts


def after_audio(file: BinaryIO, head: bytes, position: int) -> tuple[int | None, int]:
    """What follows the stream that a decoder has read.

    Args:
        file: the file, or a section of one.
        head: its first bytes, after any ID3 tag.
        position: the offset at which the decoder stopped reading.

    Returns:
        The offset at which another stream begins, or None; and the number of bytes that are neither that nor metadata.
    """
    size = file.seek(0, io.SEEK_END)
    if head[:4] == b"fLaC":  # libFLAC reads ahead, so the next stream may begin before `position`
        first = next((offset for offset, _ in _matches(file, FLAC_START, HEAD_BYTES)), None)
        if first is not None:
            return first, 0
    if position >= size:
        return None, 0
    chunk_format = CHUNK_FORMATS.get(head[:4])
    if chunk_format is not None:
        starts = {position + -position % chunk_format.alignment, position}
        if any(_are_chunks(file, start, size, chunk_format) for start in starts):
            return None, 0
    return _after_tags(file, position, size)


def data_end(file: BinaryIO, head: bytes) -> int | None:
    """The offset at which the samples of a WAV or AIFF file end by its header; None if that is not stated."""
    chunk_format = CHUNK_FORMATS.get(head[:4])
    if chunk_format is None or chunk_format.id_bytes != 4 or head[:4] == b"caff":
        return None
    size, start = file.seek(0, io.SEEK_END), 12
    while start + 8 <= size:
        file.seek(start)
        data = file.read(8)
        n_bytes = int.from_bytes(data[4:], chunk_format.byteorder)  # type: ignore[arg-type]
        start += 8 + n_bytes
        if data[:4] in (b"data", b"SSND"):
            return start if n_bytes and start < size else None
        start += start % 2
    return None


class FileSection(io.RawIOBase):
    """A part of a file as a file of its own, from `start` to `end`. Moves the position of the underlying file."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self.file, self.start, self.n_bytes = file, start, end - start
        self.position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position in the section."""
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves the position, as `io.IOBase.seek` does."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.n_bytes}[whence]
        self.position = max(0, origin + offset)
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills the buffer with the next bytes of the section."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self.n_bytes - self.position))
        self.file.seek(self.start + self.position)
        data = self.file.read(wanted)
        view[: len(data)] = data
        self.position += len(data)
        return len(data)


def _matches(file: BinaryIO, pattern: re.Pattern[bytes], start: int) -> Iterator[tuple[int, bytes]]:
    """(offset, first group or whole match) of a pattern of at most 8 bytes, from `start` on."""
    overlap = 7
    offset, kept = start, b""
    file.seek(start)
    while block := file.read(SCAN_BYTES):
        data = kept + block
        for match in pattern.finditer(data):
            # A match within the part that is scanned again was given already
            if match.end() > len(kept):
                yield offset - len(kept) + match.start(), match.group(match.lastindex or 0)
        kept = data[-overlap:]
        offset += len(block)
        file.seek(offset)  # the consumer may have moved it


def _are_chunks(file: BinaryIO, start: int, size: int, chunk_format: ChunkFormat) -> bool:
    """Whether everything from `start` to the end is whole chunks of metadata."""
    header = chunk_format.id_bytes + chunk_format.size_bytes
    while start < size:
        file.seek(start)
        data = file.read(header)
        chunk_id, length = data[: chunk_format.id_bytes], data[chunk_format.id_bytes :]
        n_bytes = int.from_bytes(length, chunk_format.byteorder)  # type: ignore[arg-type]
        body = n_bytes - header * chunk_format.counts_header
        if len(data) < header or not chunk_id[:4].isascii() or chunk_id[:4] in AUDIO_CHUNKS or body < 0:
            return False
        if not chunk_id[:4].decode("ascii").isprintable() or start + header + body > size:
            return False
        start += header + body
        start += -start % chunk_format.alignment
    return True


def _after_tags(file: BinaryIO, position: int, size: int) -> tuple[int | None, int]:
    """Skips tags and zeros from `position` on; see `after_audio`."""
    start = position
    while position < size:
        _, head = after_id3(file, position)
        if signature(head).modality is Modality.AUDIO:
            return position, 0
        file.seek(position)
        n_bytes = _tag_bytes(file.read(SCAN_BYTES))
        if n_bytes == 0:
            return None, size - start
        position += n_bytes
    return None, 0


def _tag_bytes(data: bytes) -> int:
    """The length of the tag, or of the zeros, with which `data` begins; 0 for anything else."""
    zeros = len(data) - len(data.lstrip(b"\0"))
    if zeros:
        return zeros
    if data[:3] == b"ID3":
        return _id3_bytes(data)
    if data[:3] == b"TAG":
        return TAG_V1 if data[3:4] != b"+" else 227
    if data[:8] == b"APETAGEX":
        return APE_HEADER + int.from_bytes(data[12:16], "little")
    if data[:11] == b"LYRICSBEGIN":
        ends = [data.find(end) + len(end) for end in LYRICS_END if end in data]
        return min(ends, default=0)
    footer = data.find(b"APETAGEX")  # a tag without a header ends with this
    if footer >= 0 and int.from_bytes(data[footer + 12 : footer + 16], "little") == footer + APE_HEADER:
        return footer + APE_HEADER
    return 0


def _id3_bytes(head: bytes) -> int:
    """The length of an ID3v2 tag: 28 bits, seven in each byte, without the header and the optional footer."""
    bits = 0
    for byte in head[6:ID3_HEADER]:
        bits = bits << 7 | byte & 0x7F
    has_footer = len(head) > 5 and bool(head[5] & 0x10)
    return ID3_HEADER * (1 + has_footer) + bits
