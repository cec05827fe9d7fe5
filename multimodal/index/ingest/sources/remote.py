"""Files on an object store, or where else fsspec reads, as source records.

Size and version of an object stand for size and time of a local file. Credentials and endpoint are those of the
environment. Which of the files are tables and archives is decided by resolve.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.core.remote import files
from multimodal.core.remote.files import RemoteFile
from multimodal.core.remote.path import RemotePath
from multimodal.index.ingest.sources.record import SourceOptions, SourceRecord
from multimodal.index.ingest.sources.selection import compile_patterns
from multimodal.index.results import Metadata
from multimodal.index.storage.creation import TABLE_NAME

WILD = frozenset("*?[")
N_FIXED = 3  # parts of a URL before the folder: "s3:", "" and the bucket


def records(
    address: RemotePath, id_: str | None, metadata: Metadata | None, options: SourceOptions
) -> Iterator[SourceRecord]:
    """Yields the files below an address in order of name, the one file that it names, or those that match its pattern.

    The value of each is a RemoteFile; those in a folder are listed. Hidden files, indexes and what is not selected are
    left out. Raises MediaNotFound, StorageError, InvalidInput.
    """
    listed = files.list_sources(address)
    if listed:
        _refuse_id(address, id_)
        for file in _visible(address, listed):
            if options.selection.takes(_below(address, file), is_folder=False):
                yield _record(file, metadata, options, is_listed=True)
    elif (single := files.stat_source(address)) is not None:
        yield _record(single, metadata, options)._replace(id=id_)
    else:
        _refuse_id(address, id_)
        for file in _matching(address):
            yield _record(file, metadata, options)


def present(folder: RemotePath) -> set[str]:
    """The addresses of all files below a folder. Raises StorageError."""
    return {file.path.url for file in files.list_files(folder)}


def _matching(address: RemotePath) -> Iterator[RemoteFile]:
    """The files that match a pattern such as "s3://bucket/shards/*.tar". Raises MediaNotFound, StorageError."""
    parts = address.url.split("/")
    first = next((position for position, part in enumerate(parts) if WILD & set(part)), None)
    if first is None or first < N_FIXED:
        raise MediaNotFound(f"{address}: no such folder or file; check the address")
    folder = RemotePath("/".join(parts[:first]), address.storage_options)
    pattern = compile_patterns(["/" + "/".join(parts[first:])])
    matching = [
        file
        for file in _visible(folder, files.list_sources(folder))
        if pattern.match_file(_below(folder, file))
    ]
    if not matching:
        raise MediaNotFound(f"{address}: nothing matches this pattern; check the address")
    yield from matching


def _visible(folder: RemotePath, listed: Sequence[RemoteFile]) -> Iterator[RemoteFile]:
    """Files below a folder, without hidden ones and those of indexes."""
    indexes = {
        file.path.url.partition(f"/{TABLE_NAME}.lance/")[0] + "/"
        for file in listed
        if f"/{TABLE_NAME}.lance/" in file.path.url
    }
    for file in listed:
        is_hidden = any(part.startswith(".") for part in _below(folder, file).split("/"))
        if not is_hidden and not any(file.path.url.startswith(index) for index in indexes):
            yield file


def _below(folder: RemotePath, file: RemoteFile) -> str:
    return file.path.url.removeprefix(f"{folder.url}/")


def _refuse_id(address: RemotePath, id_: str | None) -> None:
    if id_ is not None:
        raise InvalidInput(
            f"{str(address)!r} holds several documents, which have their own ids: leave out ids"
        )


def _record(
    file: RemoteFile, metadata: Metadata | None, options: SourceOptions, *, is_listed: bool = False
) -> SourceRecord:
    state = (file.size, file.version)
    return SourceRecord(
        file, file.path.url, None, metadata, file_state=state, split_text=True, encoding=options.encoding,
        is_listed=is_listed,
    )  # fmt: skip
