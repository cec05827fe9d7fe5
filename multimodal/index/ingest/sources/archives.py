"""Tar archives in the layout of WebDataset, read member by member and never unpacked.

Members with one key form a sample: `a/0001.jpg`, `a/0001.txt` and `a/0001.json` share the key `a/0001`. Each image,
audio and video of a sample is a document; its texts and the values of its JSON are their metadata. In a sample without
media each text is a document.
"""

from __future__ import annotations

import json
import lzma
import mimetypes
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from multimodal.core.errors import MediaError
from multimodal.core.items import Text
from multimodal.core.limits import get_limits
from multimodal.core.media import registry
from multimodal.index.ingest.sources.folders import printable
from multimodal.index.ingest.sources.record import Blob, FileState, SourceRecord, row_metadata
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
READ_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)
TEXT_TYPES = ("txt", "text", "caption", "cls")
JSON = "json"
KEY = "key"  # the metadata key that holds the key of the sample

Sample = dict[str, Blob | FailureRecord]  # by what follows the key: "jpg", "seg.png"


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, by its name."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def records(path: Path, metadata: Metadata | None) -> Iterator[SourceRecord | FailureRecord]:
    """Yields the documents of an archive. A truncated archive yields what came before, and a failure."""
    n_members = 0
    try:
        status = path.stat()
        state = (status.st_size, status.st_mtime_ns)
        for key, sample in _samples(path):
            n_members += len(sample)
            yield from _documents(path, key, sample, metadata, state)
    except READ_ERRORS as error:
        reason = (
            f"{printable(path)}: cannot be read beyond {n_members:,} members ({str(error) or type(error).__name__}); "
            "copy or download the archive again"
        )
        yield FailureRecord(
            str(path), printable(path), "read", reason, container=str(path), metadata=metadata
        )


class _Member(tarfile.TarInfo):
    """A header. `tarfile` takes an unreadable header for the end of the archive; here it is an error."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _samples(path: Path) -> Iterator[tuple[str, Sample]]:
    """Yields (key, members). If the archive is truncated, the last sample holds the members before that."""
    key, sample = "", Sample()
    try:
        for member_key, suffix, member in _members(path):
            if member_key != key and sample:
                yield key, sample
                sample = Sample()
            key = member_key
            sample[suffix] = member
    except READ_ERRORS:
        if sample:
            yield key, sample
        raise
    if sample:
        yield key, sample


def _members(path: Path) -> Iterator[tuple[str, str, Blob | FailureRecord]]:
    with tarfile.open(path, "r|*", tarinfo=_Member) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # otherwise every header is kept in memory
            folder, slash, name = member.name.rpartition("/")
            stem, _, suffix = name.partition(".")
            if member.isfile() and stem:  # hidden files have no stem
                yield folder + slash + stem, suffix.lower(), _read(path, tar, member)


def _read(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Blob | FailureRecord:
    uri = f"{path}#{member.name}"
    try:
        get_limits().check_bytes(member.size, printable(uri))
    except MediaError as error:
        return FailureRecord(uri, printable(uri), "read", str(error), None, str(path))
    content = tar.extractfile(member)
    return Blob(b"" if content is None else content.read(), uri)


def _documents(
    path: Path, key: str, sample: Sample, metadata: Metadata | None, state: FileState
) -> Iterator[SourceRecord | FailureRecord]:
    texts, media, values = {}, {}, {}
    for suffix, member in sample.items():
        if isinstance(member, FailureRecord):
            yield member
        elif suffix in TEXT_TYPES:
            texts[suffix] = member
        elif suffix == JSON:
            values = _json_values(member)
        elif _is_media(suffix, member):
            media[suffix] = member
    decoded = {
        suffix: member.data.decode("utf-8", errors="replace").strip() for suffix, member in texts.items()
    }
    shared = (metadata or {}) | {KEY: key} | row_metadata(values, [])
    if media:
        captions = {("caption" if suffix != "cls" else suffix): text for suffix, text in decoded.items()}
        shared |= row_metadata(captions, [])
        for member in media.values():
            yield SourceRecord(member, printable(member.uri), None, shared, str(path), None, state)
        return
    for suffix, member in texts.items():
        text = Text(decoded[suffix], uri=member.uri)
        yield SourceRecord(text, printable(member.uri), None, shared, str(path), None, state, split_text=True)


def _json_values(member: Blob) -> dict[str, Any]:
    try:
        values = json.loads(member.data)
    except ValueError:  # broken metadata must not cost the sample its media
        return {}
    return {str(name): value for name, value in values.items()} if isinstance(values, dict) else {}


def _is_media(suffix: str, member: Blob) -> bool:
    """By the name, so that a broken image is a failure; otherwise by the content."""
    guessed = mimetypes.guess_type(f"x.{suffix}")[0] or ""
    if guessed.startswith(("image/", "audio/", "video/")):
        return True
    try:
        registry.identify(member.data)
    except (MediaError, ImportError):
        return False
    return True
