"""Zip archives and attachments of e-mail: read as folders, member by member, and never unpacked to disk.

An archive is refused, or read in part, beyond limits on its members and on what they decompress to; see safe_zip.py.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from multimodal.core.errors import MediaError
from multimodal.core.limits import get_limits
from multimodal.core.remote import files
from multimodal.core.remote.opened import SEEK_BYTES, file_state, open_binary
from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.index.ingest.documents import mail, safe_zip
from multimodal.index.ingest.sources.names import printable
from multimodal.index.ingest.sources.record import Blob, ContainerRead, SourceOutput, SourceRecord
from multimodal.index.ingest.sources.selection import EVERYTHING, Selection
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

ZIP_SUFFIX = ".zip"
MAIL_SUFFIX = ".eml"
SUFFIXES = (ZIP_SUFFIX, MAIL_SUFFIX)
MAX_DEPTH = 4  # of archives within archives
SYSTEM_FOLDER = "__MACOSX"  # holds resource forks of the other members


def is_zip(path: AnyPath) -> bool:
    """Whether a file is a zip archive, by its name. One on an object store is not looked for."""
    return path.suffix.lower() == ZIP_SUFFIX and (isinstance(path, RemotePath) or path.is_file())


def is_mail(path: AnyPath) -> bool:
    """Whether a file is an e-mail message, by its name. One on an object store is not looked for."""
    return path.suffix.lower() == MAIL_SUFFIX and (isinstance(path, RemotePath) or path.is_file())


def records(
    path: AnyPath,
    metadata: Metadata | None,
    selection: Selection = EVERYTHING,
    encoding: str | None = None,
) -> Iterator[SourceOutput]:
    """Yields the members of an archive, without hidden ones. A member that cannot be read is one failure.

    What is read is what a member decompresses to, not what its header says. An archive within the archive is read as
    a folder of it; its members are `a.zip#in/b.zip#c.txt`.
    """
    try:
        state = file_state(path)
        reader = _Reader(path, selection)
        with open_binary(path, SEEK_BYTES) as file, zipfile.ZipFile(file) as archive:
            for member in reader.members(archive, str(path)):
                if isinstance(member, FailureRecord):
                    yield member
                else:
                    yield _record(path, member, metadata, state)._replace(encoding=encoding)
        is_complete = not reader.failed and selection is EVERYTHING
        yield ContainerRead(str(path), None, frozenset(reader.failed), is_complete)
    except (MediaError, *safe_zip.READ_ERRORS) as error:
        reason = str(error) if isinstance(error, MediaError) else str(safe_zip.broken(printable(path), error))
        yield FailureRecord(
            str(path), printable(path), "read", reason, container=str(path), metadata=metadata
        )


class _Reader:
    """Reads the members of an archive and of the archives in it.

    The limit on bytes is one for all levels, since an archive of archives multiplies what it decompresses to.

    failed: keys of the members that cannot be read.
    """

    def __init__(self, path: AnyPath, selection: Selection) -> None:
        self.path, self.selection = path, selection
        self.total_bytes = 0
        self.failed: set[str] = set()

    def members(
        self, archive: zipfile.ZipFile, uri: str, within: str = "", depth: int = 1
    ) -> Iterator[Blob | FailureRecord]:
        """Yields members in the order of their names.

        Args:
            archive: The archive, open.
            uri: Where it is, for the ids of its members.
            within: Its path in the outermost archive, which patterns apply to.
            depth: 1 for the outermost archive.
        """
        safe_zip.check_members(archive, printable(uri))
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if info.is_dir() or _is_hidden(info.filename):
                continue
            name = f"{within}{info.filename}"
            if not self.selection.takes(name, is_folder=False):
                continue
            self.total_bytes += info.file_size
            get_limits().check_bytes(self.total_bytes, f"{printable(self.path)} (its members, decompressed)")
            member = self._read(archive, info, uri)
            if isinstance(member, Blob) and name.lower().endswith(ZIP_SUFFIX):
                yield from self._nested(member, f"{name}/", depth + 1)
            else:
                yield member

    def _nested(self, member: Blob, within: str, depth: int) -> Iterator[Blob | FailureRecord]:
        name = printable(member.uri)
        if depth > MAX_DEPTH:
            yield self._failure(
                member.uri, f"{name}: is a zip archive {depth} levels deep, more than {MAX_DEPTH}; unpack it"
            )
            return
        try:
            with zipfile.ZipFile(io.BytesIO(member.data)) as archive:
                yield from self.members(archive, member.uri, within, depth)
        except safe_zip.READ_ERRORS as error:
            yield self._failure(member.uri, str(safe_zip.broken(name, error)))

    def _read(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, within: str) -> Blob | FailureRecord:
        uri = f"{within}#{info.filename}"
        name = printable(uri)
        if safe_zip.is_outside(info.filename):
            reason = (
                f"{name}: the name of this member leads out of the archive, so it is not read; "
                "repack the archive"
            )
        elif info.flag_bits & safe_zip.IS_ENCRYPTED:
            reason = f"{name}: is encrypted with a password; unpack the archive and add the folder"
        else:
            try:
                safe_zip.check_ratio(info, printable(within))
                return Blob(archive.read(info), uri)
            except MediaError as error:
                reason = str(error)
            except safe_zip.READ_ERRORS as error:
                reason = f"{name}: cannot be read ({str(error) or type(error).__name__}); repack the archive"
        return self._failure(uri, reason)

    def _failure(self, uri: str, reason: str) -> FailureRecord:
        self.failed.add(uri)
        return FailureRecord(uri, printable(uri), "read", reason, None, str(self.path))


def attachments(path: AnyPath, metadata: Metadata | None) -> Iterator[SourceOutput]:
    """Yields the attachments of a message; none if the message cannot be read, which is a failure of the message."""
    try:
        state = file_state(path)
        for name, content in mail.attachments(path if isinstance(path, Path) else files.read(path)):
            yield _record(path, Blob(content, f"{path}#{name}"), metadata, state)
        yield ContainerRead(str(path))
    except Exception:  # reported when the message itself is read
        return


def _record(path: AnyPath, blob: Blob, metadata: Metadata | None, state: tuple[int, int]) -> SourceRecord:
    return SourceRecord(
        blob,
        printable(blob.uri),
        None,
        metadata,
        str(path),
        None,
        state,
        split_text=True,
        is_listed=True,
    )


def _is_hidden(member: str) -> bool:
    parts = PurePosixPath(member).parts
    return SYSTEM_FOLDER in parts[:1] or any(part.startswith(".") and part != ".." for part in parts)
