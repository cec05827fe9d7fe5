"""Tar archives in the layout of WebDataset, read member by member and never unpacked.

Members with one key form a sample: `a/0001.jpg`, `a/0001.txt` and `a/0001.json` share the key `a/0001`. Each image,
audio and video of a sample is a document; its texts and the values of its JSON are their metadata. In a sample without
media each text is a document.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import mimetypes
import tarfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Self

from multimodal.core.errors import InvalidInput, MediaError
from multimodal.core.items import Text
from multimodal.core.limits import get_limits
from multimodal.core.media import registry
from multimodal.core.remote.opened import file_state, open_binary
from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.index.ingest.sources.encodings import decode_text
from multimodal.index.ingest.sources.names import printable
from multimodal.index.ingest.sources.record import (
    COPY,
    Blob,
    ContainerRead,
    FileState,
    SourceOptions,
    SourceOutput,
    SourceRecord,
    row_metadata,
)
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
READ_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError)
TEXT_TYPES = ("txt", "text", "caption", "cls")
JSON = "json"
KEY = "key"  # the metadata key that holds the key of the sample

Sample = dict[str, Blob | FailureRecord]  # by what follows the key: "jpg", "seg.png"


def is_archive(path: AnyPath) -> bool:
    """Whether a file is a tar archive, by its name. One on an object store is not looked for."""
    return path.name.lower().endswith(SUFFIXES) and (isinstance(path, RemotePath) or path.is_file())


def records(path: AnyPath, metadata: Metadata | None, options: SourceOptions) -> Iterator[SourceOutput]:
    """Yields the documents of an archive. A truncated archive yields what came before, and a failure."""
    archive, n_members = _Archive(path, metadata, options), 0
    try:
        for key, sample in archive.samples():
            n_members += len(sample)
            yield from archive.documents(key, sample)
    except READ_ERRORS as error:
        reason = (
            f"{printable(path)}: cannot be read beyond {n_members:,} members ({str(error) or type(error).__name__}); "
            "copy or download the archive again"
        )
        yield archive.failure(str(path), str(path), reason)
    else:
        yield ContainerRead(str(path), None, frozenset(archive.failed), archive.is_complete)


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


class _Header(NamedTuple):
    key: str
    suffix: str  # in lower case
    info: tarfile.TarInfo


class _Layout(NamedTuple):
    """What the headers of an archive say.

    scattered: keys of samples whose members are not next to each other. repeated: names that come several times, with
    how often.
    """

    scattered: set[str]
    repeated: Counter[str]


class _Archive:
    """An archive that is being read.

    It is read twice: for its headers, and for its members. A sample whose members are scattered is read a third time,
    for its texts, so that each of its media comes with all of them and no media is held in memory.

    failed: keys of the failures to read a member. is_complete: whether all members were read, or are known.
    """

    def __init__(self, path: AnyPath, metadata: Metadata | None, options: SourceOptions) -> None:
        self.path, self.metadata, self.encoding = path, metadata, options.encoding
        self.state: FileState | None = None
        self.failed: set[str] = set()
        self.is_complete = True
        self.copies: Counter[str] = Counter()  # of repeated names, read so far
        self.layout = _Layout(set(), Counter())
        self.side_members: dict[str, Sample] = {}  # texts and values of scattered samples
        self.with_media: set[str] = set()  # scattered samples that have media

    def samples(self) -> Iterator[tuple[str, Sample]]:
        """Yields (key, members). If the archive is truncated, the last sample holds the members before that."""
        self.state = file_state(self.path)
        self.layout = _layout(self.path)
        if self.layout.scattered:
            self._read_side_members()
        key, sample = "", Sample()
        try:
            for header, member in self._members():
                if header.key != key and sample:
                    yield key, sample
                    sample = Sample()
                key = header.key
                sample[self._unique(header, sample)] = member
        except READ_ERRORS:
            if sample:
                yield key, sample
            raise
        if sample:
            yield key, sample

    def _unique(self, header: _Header, sample: Sample) -> str:
        return header.suffix if header.suffix not in sample else f"{header.suffix}{COPY}{len(sample)}"

    def _members(self) -> Iterator[tuple[_Header, Blob | FailureRecord]]:
        with _open(self.path) as tar:
            for header in _headers(tar):
                name, total = header.info.name, self.layout.repeated[header.info.name]
                self.copies[name] += total > 1
                if self.copies[name] < total:
                    yield header, self._repeated(name, self.copies[name], total)
                else:
                    yield header, self._read(tar, header.info)

    def _read_side_members(self) -> None:
        with contextlib.suppress(*READ_ERRORS), _open(self.path) as tar:
            for header in _headers(tar):
                if header.key not in self.layout.scattered:
                    continue
                if header.suffix.rpartition(".")[2] in (*TEXT_TYPES, JSON):
                    self.side_members.setdefault(header.key, {})[header.suffix] = self._read(tar, header.info)
                elif _is_media(header.suffix, self._read(tar, header.info)):
                    self.with_media.add(header.key)

    def _read(self, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Blob | FailureRecord:
        uri = f"{self.path}#{info.name}"
        try:
            get_limits().check_bytes(info.size, printable(uri))
        except MediaError as error:
            self.is_complete = False
            return self.failure(uri, uri, str(error))
        content = tar.extractfile(info)
        return Blob(b"" if content is None else content.read(), uri)

    def _repeated(self, name: str, copy: int, total: int) -> FailureRecord:
        uri = f"{self.path}#{name}"
        reason = (
            f"{printable(uri)}: the archive holds {total} members of this name; the last one is used, as when the "
            "archive is unpacked. Rename the others to add them"
        )
        return self.failure(f"{self.path}{COPY}{copy}#{name}", uri, reason)

    def failure(self, key: str, uri: str, reason: str) -> FailureRecord:
        """A failure to read a member or the archive."""
        self.failed.add(key)
        return FailureRecord(
            key,
            printable(uri),
            "read",
            reason,
            container=str(self.path),
            metadata=self.metadata,
            encoding=self.encoding,
        )

    def documents(self, key: str, sample: Sample) -> Iterator[SourceOutput]:
        """Yields the documents of a sample, and then a failure for each of its members that cannot be read."""
        is_scattered = key in self.layout.scattered
        failures = [member for member in sample.values() if isinstance(member, FailureRecord)]
        members = {suffix: member for suffix, member in sample.items() if isinstance(member, Blob)}
        media = {suffix: member for suffix, member in members.items() if _is_media(suffix, member)}
        has_media = bool(media) or key in self.with_media
        if is_scattered:
            side_members = self.side_members.get(key, {})
            members = {
                suffix: member for suffix, member in side_members.items() if isinstance(member, Blob)
            } | media
        texts: dict[str, str] = {}
        values: dict[str, dict[str, Any]] = {}
        for suffix, member in members.items():
            kind = suffix.rpartition(".")[2]
            try:
                if kind in TEXT_TYPES:
                    texts[suffix] = decode_text(member.data, printable(member.uri), self.encoding).strip()
                elif kind == JSON:
                    values[suffix] = _json_values(member, self.encoding)
            except InvalidInput as error:
                if suffix in sample:  # of a scattered sample: once, where it stands
                    failures.append(self.failure(f"{self.path}#{key}", member.uri, str(error)))
        described = media if has_media else {suffix: members[suffix] for suffix in texts if suffix in sample}
        for suffix, member in described.items():
            try:
                side = _side_metadata(suffix, texts if has_media else {}, values, media)
            except InvalidInput as error:
                failures.append(self.failure(member.uri, member.uri, f"{printable(member.uri)}: {error}"))
                continue
            value = member if has_media else Text(texts[suffix], uri=member.uri)
            yield self._record(value, (self.metadata or {}) | {KEY: key} | side, key)
        yield from failures

    def _record(self, value: Blob | Text, metadata: Metadata, key: str) -> SourceRecord:
        return SourceRecord(
            value,
            printable(value.uri),
            None,
            metadata,
            str(self.path),
            None,
            self.state,
            split_text=isinstance(value, Text),
            place=f"{self.path}#{key}",
            encoding=self.encoding,
        )


@contextlib.contextmanager
def _open(path: AnyPath, mode: str = "r|*") -> Iterator[tarfile.TarFile]:
    with (
        open_binary(path) as file,
        tarfile.open(fileobj=file, mode=mode, tarinfo=_Member) as tar,  # type: ignore[call-overload]
    ):
        yield tar


def _headers(tar: tarfile.TarFile) -> Iterator[_Header]:
    """Yields the headers of files, without hidden ones."""
    for info in tar:
        tar.members = []  # type: ignore[attr-defined]  # otherwise every header is kept in memory
        folder, slash, name = info.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        if info.isfile() and stem:  # hidden files have no stem
            yield _Header(folder + slash + stem, suffix.lower(), info)


def _layout(path: AnyPath) -> _Layout:
    """Reads the headers. Those beyond an error, which is reported when the members are read, are left out."""
    scattered: set[str] = set()
    names: set[int] = set()  # as hashes: an archive may have a million members
    keys: set[int] = set()
    repeated: Counter[str] = Counter()
    current = None
    with contextlib.suppress(*READ_ERRORS), _open(path, "r:*") as tar:
        for header in _headers(tar):
            if header.key != current and hash(header.key) in keys:
                scattered.add(header.key)
            current = header.key
            keys.add(hash(current))
            if hash(header.info.name) in names:
                repeated[header.info.name] += 1 if header.info.name in repeated else 2
            names.add(hash(header.info.name))
    return _Layout(scattered, repeated)


def _side_metadata(
    suffix: str, texts: Mapping[str, str], values: Mapping[str, dict[str, Any]], media: Collection[str]
) -> Metadata:
    """The texts and values of a sample that describe one of its media.

    A name with several dots is one for a part of the sample: "seg.txt" describes "seg.png", if that is there, and is
    otherwise a text called "seg" that describes all media.
    """
    parts = {name.rpartition(".")[0] for name in media} - {""}
    own = suffix.rpartition(".")[0]
    captions: dict[str, Any] = {}
    for name, text in texts.items():
        part, _, kind = name.rpartition(".")
        if part not in parts:
            captions[part or ("cls" if kind == "cls" else "caption")] = text
    shared = _merged(value for name, value in values.items() if name.rpartition(".")[0] not in parts)
    if own:
        for name, text in texts.items():
            part, _, kind = name.rpartition(".")
            if part == own:
                captions["cls" if kind == "cls" else "caption"] = text
        shared |= _merged(value for name, value in values.items() if name.rpartition(".")[0] == own)
    return row_metadata(shared, []) | row_metadata(captions, [])


def _merged(values: Iterable[dict[str, Any]]) -> dict[str, Any]:
    return {name: cell for value in values for name, cell in value.items()}


def _json_values(member: Blob, encoding: str | None) -> dict[str, Any]:
    """The values of a JSON object; of another JSON value none. Raises InvalidInput."""
    text = decode_text(member.data, printable(member.uri), encoding)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{printable(member.uri)}: not valid JSON ({error}); correct it, and add the archive again"
        ) from error
    return {str(name): value for name, value in values.items()} if isinstance(values, dict) else {}


def _is_media(suffix: str, member: Blob | FailureRecord) -> bool:
    """By the name, so that a broken image is a failure; otherwise by the content."""
    kind = suffix.rpartition(".")[2]
    if kind in (*TEXT_TYPES, JSON):
        return False
    guessed = mimetypes.guess_type(f"x.{suffix}")[0] or ""
    if guessed.startswith(("image/", "audio/", "video/")):
        return True
    try:
        return isinstance(member, Blob) and bool(registry.identify(member.data))
    except (MediaError, ImportError):
        return False
