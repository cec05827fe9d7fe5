"""Files on an object store, or in a repository of a hub, as source records.

Size and version of an object stand for size and time of a local file. Credentials and endpoint are those of the
environment. Tables and archives on a store are not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.core.remote import files
from multimodal.core.remote.files import RemoteFile
from multimodal.core.remote.path import RemotePath
from multimodal.index.ingest.sources.record import SourceOptions, SourceRecord
from multimodal.index.results import Metadata
from multimodal.index.storage.creation import TABLE_NAME

CONTAINER_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".tar", ".tar.gz", ".tgz", ".zip")


def records(
    address: RemotePath, id_: str | None, metadata: Metadata | None, options: SourceOptions
) -> Iterator[SourceRecord]:
    """Yields the files below an address in order of name, or the one file that it names.

    Hidden files, indexes and what is not selected are left out. Raises MediaNotFound, StorageError, InvalidInput.
    """
    listed = files.list_files(address)
    if not listed:
        yield _single(address, id_, metadata, options)
        return
    if id_ is not None:
        raise InvalidInput(
            f"{str(address)!r} holds several documents, which have their own ids: leave out ids"
        )
    indexes = {
        file.path.url.partition(f"/{TABLE_NAME}.lance/")[0] + "/"
        for file in listed
        if f"/{TABLE_NAME}.lance/" in file.path.url
    }
    for file in listed:
        below = file.path.url.removeprefix(f"{address.url}/")
        is_hidden = any(part.startswith(".") for part in below.split("/"))
        if is_hidden or not options.selection.takes(below, is_folder=False):
            continue
        if not any(file.path.url.startswith(index) for index in indexes):
            yield _record(file, metadata, options, is_listed=True)


def present(folder: RemotePath) -> set[str]:
    """The addresses of all files below a folder. Raises StorageError."""
    return {file.path.url for file in files.list_files(folder)}


def _single(
    address: RemotePath, id_: str | None, metadata: Metadata | None, options: SourceOptions
) -> SourceRecord:
    file = files.stat(address)
    if file is None:
        raise MediaNotFound(f"{address}: no such folder or file; check the address")
    if address.name.lower().endswith(CONTAINER_SUFFIXES):
        raise InvalidInput(
            f"{address}: tables and archives on an object store are not read; copy it to a disk, or unpack it there"
        )
    return _record(file, metadata, options)._replace(id=id_)


def _record(
    file: RemoteFile, metadata: Metadata | None, options: SourceOptions, *, is_listed: bool = False
) -> SourceRecord:
    state = (file.size, file.version)
    return SourceRecord(
        file, file.path.url, None, metadata, file_state=state, split_text=True, encoding=options.encoding,
        is_listed=is_listed,
    )  # fmt: skip
