"""Opens zip archives within limits, and reads XML without entities: an archive of some kilobytes may hold petabytes."""

from __future__ import annotations

import contextlib
import lzma
import xml.etree.ElementTree as ET
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Protocol

from multimodal.core.errors import MediaCorrupt, MediaTooLarge
from multimodal.core.limits import get_limits
from multimodal.core.media import sniff
from multimodal.index.ingest.documents.part import Source

MAX_MEMBERS = 100_000
MAX_RATIO = 200  # of decompressed to compressed bytes; XML reaches 50
SMALL_BYTES = 10 << 20  # below it, a member may be compressed as far as it goes
MAX_DOCUMENT_BYTES = 1 << 30  # of all members of one document, decompressed
READ_BYTES = 1 << 16
# What zipfile raises on broken archives (NotImplementedError: a compression it does not know; RuntimeError: a password)
READ_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, IndexError),
    *(NotImplementedError, RuntimeError, UnicodeDecodeError),
)
IS_ENCRYPTED = 0x1  # flag bit of a member


@contextlib.contextmanager
def open_document(source: Source) -> Iterator[tuple[zipfile.ZipFile, str]]:
    """Opens a document that is a zip archive -> (archive, name for messages).

    Raises:
        MediaCorrupt: It is no valid archive.
        MediaTooLarge: It has too many members, or decompresses to too much.
    """
    with sniff.open_source(source) as (file, name):
        try:
            archive = zipfile.ZipFile(file)
        except READ_ERRORS as error:
            raise broken(name, error) from error
        with archive:
            check_members(archive, name)
            total = sum(info.file_size for info in archive.infolist())
            for info in archive.infolist():
                check_ratio(info, name)
            if total > min(MAX_DOCUMENT_BYTES, get_limits().max_bytes):
                raise MediaTooLarge(
                    f"{name}: its members decompress to {total:,} bytes, more than the limit of "
                    f"{min(MAX_DOCUMENT_BYTES, get_limits().max_bytes):,}; split the document"
                )
            try:
                yield archive, name
            except READ_ERRORS as error:
                if isinstance(error, MediaCorrupt | MediaTooLarge):
                    raise
                raise broken(name, error) from error


def check_members(archive: zipfile.ZipFile, name: str) -> None:
    """Raises MediaTooLarge if an archive has more than MAX_MEMBERS members."""
    if len(archive.infolist()) > MAX_MEMBERS:
        raise MediaTooLarge(
            f"{name}: holds {len(archive.infolist()):,} members, more than the limit of {MAX_MEMBERS:,}; unpack it"
        )


def check_ratio(info: zipfile.ZipInfo, name: str) -> None:
    """Raises MediaTooLarge if a member is compressed more than MAX_RATIO times, as archive bombs are."""
    if info.file_size > SMALL_BYTES and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise MediaTooLarge(
            f"{name}: the member {info.filename!r} decompresses from {info.compress_size:,} to {info.file_size:,} "
            f"bytes, more than {MAX_RATIO} times, as in an archive bomb; unpack it yourself if you trust it"
        )


def is_outside(member: str) -> bool:
    """Whether the name of a member leads out of the archive, as "../x" and "/x" do."""
    path = PurePosixPath(member.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or (len(member) > 1 and member[1] == ":")


def read_member(archive: zipfile.ZipFile, member: str, name: str, max_bytes: int) -> bytes:
    """The content of a member. Raises MediaCorrupt if it is missing, MediaTooLarge if it is larger than `max_bytes`."""
    try:
        info = archive.getinfo(member)
    except KeyError as error:
        raise MediaCorrupt(
            f"{name}: lacks {member!r}, which every such document has; save it again"
        ) from error
    if info.file_size > max_bytes:
        raise MediaTooLarge(
            f"{name}: {member!r} is {info.file_size:,} bytes, more than {max_bytes:,}; split it"
        )
    return archive.read(info)


def broken(name: str, error: Exception) -> MediaCorrupt:
    return MediaCorrupt(
        f"{name}: cannot be read as a zip archive ({str(error) or type(error).__name__}); copy or download it again"
    )


# --- XML --------------------------------------------------------------------------------------------


class Target(Protocol):
    """Receives the elements of an XML file in order, with names without their namespace."""

    def start(self, tag: str, attributes: dict[str, str]) -> None: ...
    def end(self, tag: str) -> None: ...
    def data(self, text: str) -> None: ...


class _Adapter:
    """Passes on events with local names; refuses a document type, since it may define entities."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.data = target.data

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._target.start(local(tag), attributes)

    def end(self, tag: str) -> None:
        self._target.end(local(tag))

    def doctype(self, name: str, public_id: str | None, system_id: str | None) -> None:
        raise ET.ParseError("it has a document type, which may define entities")

    def close(self) -> None: ...


def local(name: str) -> str:
    """A name without its namespace."""
    return name.rpartition("}")[2]


def attribute(attributes: dict[str, str], name: str) -> str:
    """An attribute by its local name; "" without it."""
    return next((value for key, value in attributes.items() if local(key) == name), "")


def feed_member(archive: zipfile.ZipFile, member: str, name: str, target: Target) -> None:
    """Reads a member of an archive as XML, block by block. Raises MediaCorrupt."""
    try:
        with archive.open(member) as file:
            feed(file, target)
    except KeyError as error:
        raise MediaCorrupt(
            f"{name}: lacks {member!r}, which every such document has; save it again"
        ) from error
    except ET.ParseError as error:
        raise MediaCorrupt(
            f"{name}: {member!r} is not valid XML ({error}); save the document again"
        ) from error


def feed(file: IO[bytes], target: Target) -> None:
    """Reads XML, block by block. Raises ET.ParseError."""
    parser = ET.XMLParser(target=_Adapter(target))
    while block := file.read(READ_BYTES):
        parser.feed(block)
    parser.close()
