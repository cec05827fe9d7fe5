"""Tar archives, as WebDataset has them: members of one key are one sample, read one after another and never unpacked.

`a/0001.jpg`, `a/0001.txt` and `a/0001.json` share the key `a/0001`. Each picture, sound and video of a sample is one
thing; its texts and the values of its JSON are metadata of these. In a sample without any of them each text is a thing.
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
from multimodal.core.media import sniff
from multimodal.index.ingest.sources.folders import shown
from multimodal.index.ingest.sources.record import Blob, Entry, about
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)
TEXTS = ("txt", "text", "caption", "cls")
JSON = "json"
KEY = "key"  # the metadata that holds the key of a sample

Sample = dict[str, Blob | FailureRecord]  # by what follows the key: "jpg", "seg.png"


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, by its name."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def entries(path: Path, metadata: Metadata | None) -> Iterator[Entry | FailureRecord]:
    """What is in an archive, sample by sample. An archive that breaks off gives what came before, and a failure."""
    n_members = 0
    try:
        status = path.stat()
        file = (status.st_size, status.st_mtime_ns)
        for key, sample in _samples(path):
            n_members += len(sample)
            yield from _things(path, key, sample, metadata, file)
    except BROKEN as error:
        reason = (
            f"{shown(path)}: cannot be read on after {n_members:,} members ({str(error) or type(error).__name__}); "
            "copy or download the archive again"
        )
        yield FailureRecord(str(path), shown(path), "read", reason, None, str(path), None, None, metadata)


class _Member(tarfile.TarInfo):
    """A header. `tarfile` takes whatever it cannot read for the end of the archive; here only the end is the end."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error


def _samples(path: Path) -> Iterator[tuple[str, Sample]]:
    """(key, what has it). If the archive breaks off, the last sample is what there is of it."""
    key, sample = "", Sample()
    try:
        for of_key, kind, member in _members(path):
            if of_key != key and sample:
                yield key, sample
                sample = Sample()
            key = of_key
            sample[kind] = member
    except BROKEN:
        if sample:
            yield key, sample
        raise
    if sample:
        yield key, sample


def _members(path: Path) -> Iterator[tuple[str, str, Blob | FailureRecord]]:
    with tarfile.open(path, "r|*", tarinfo=_Member) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # else every header ever read is kept
            folder, slash, name = member.name.rpartition("/")
            stem, _, kind = name.partition(".")
            if member.isfile() and stem:  # hidden files have none
                yield folder + slash + stem, kind.lower(), _read(path, tar, member)


def _read(path: Path, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Blob | FailureRecord:
    uri = f"{path}#{member.name}"
    try:
        get_limits().check_bytes(member.size, shown(uri))
    except MediaError as error:
        return FailureRecord(uri, shown(uri), "read", str(error), None, str(path))
    content = tar.extractfile(member)
    return Blob(b"" if content is None else content.read(), uri)


def _things(
    path: Path, key: str, sample: Sample, metadata: Metadata | None, file: tuple[int, int]
) -> Iterator[Entry | FailureRecord]:
    texts, media_of, values = {}, {}, {}
    for kind, member in sample.items():
        if isinstance(member, FailureRecord):
            yield member
        elif kind in TEXTS:
            texts[kind] = member
        elif kind == JSON:
            values = _values(member)
        elif _is_media(kind, member):
            media_of[kind] = member
    words = {kind: member.data.decode("utf-8", errors="replace").strip() for kind, member in texts.items()}
    shared = (metadata or {}) | {KEY: key} | about(values, [])
    if media_of:
        shared |= about({("caption" if kind != "cls" else kind): text for kind, text in words.items()}, [])
        for member in media_of.values():
            yield Entry(member, shown(member.uri), None, shared, str(path), None, file)
        return
    for kind, member in texts.items():
        yield Entry(
            Text(words[kind], uri=member.uri),
            shown(member.uri),
            None,
            shared,
            str(path),
            None,
            file,
            cut=True,
        )


def _values(member: Blob) -> dict[str, Any]:
    try:
        found = json.loads(member.data)
    except ValueError:  # broken notes beside a picture do not make the picture worse
        return {}
    return {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}


def _is_media(kind: str, member: Blob) -> bool:
    """By its name, so that a broken picture is a failure; or by its content, whatever it is called."""
    guessed = mimetypes.guess_type(f"x.{kind}")[0] or ""
    if guessed.startswith(("image/", "audio/", "video/")):
        return True
    try:
        sniff.sniff(member.data)
    except (MediaError, ImportError):
        return False
    return True
