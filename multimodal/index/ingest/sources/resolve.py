"""Resolves the argument of `Index.add` to source records: a folder, file, pattern, table, archive,
data set, data frame or iterable of items or rows."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.core.items import as_item
from multimodal.core.media.inputs import is_audio_mapping, samples_and_rate
from multimodal.core.media.path_like import warn_path_like
from multimodal.core.media.registry import is_item
from multimodal.core.remote.files import RemoteFile
from multimodal.core.remote.path import AnyPath, RemotePath, is_remote_source
from multimodal.index.ingest.sources import archives, frames, hf_datasets, remote, rows, tables, zips
from multimodal.index.ingest.sources.folders import (
    absolute,
    count_files,
    exists,
    expand_pattern,
    walk,
)
from multimodal.index.ingest.sources.names import check_ids, printable
from multimodal.index.ingest.sources.record import Shard, SourceOptions, SourceOutput, SourceRecord
from multimodal.index.ingest.sources.selection import EVERYTHING
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.filters import check_metadata

TABLE = "the table"  # of rows in memory, in messages


def records(
    source: object, ids: Sequence[str] | str | None, options: SourceOptions
) -> Iterator[SourceOutput]:
    """Yields everything in `source`; folders that cannot be listed as failures.

    Raises at once what Index.add says of its arguments.
    """
    if is_remote_source(source):
        source = RemotePath(str(source))
    if isinstance(source, RemotePath):
        return _from_values([source], ids, options)
    if isinstance(source, str | os.PathLike):
        paths = _paths(source)
        if ids is not None and (len(paths) > 1 or is_container(paths[0])):
            kind = "a folder" if paths[0].is_dir() else "several documents"
            raise InvalidInput(
                f"{str(paths[0])!r} is {kind}, and files are identified by their paths: leave out ids"
            )
        return _from_values(paths, ids, options)
    if hf_datasets.is_dataset(source):
        _refuse_ids(ids, "a data set")
        return hf_datasets.records(source, options)
    if frames.is_frame(source):
        _refuse_ids(ids, "a table")
        return rows.records(frames.frame_rows(source), options, TABLE)
    first, values = _peek(_iterable(source))
    if rows.is_row(first) or frames.is_frame(first):
        _refuse_ids(ids, "rows")
        return rows.records(_rows(values), options, TABLE)
    if isinstance(source, Set) and ids is not None:
        raise InvalidInput("ids are given for a set, which has no order; pass a list")
    return _from_values(values, ids, options)


def length(source: object, options: SourceOptions) -> int | None:
    """How many documents a source has; None if it would have to be read to know."""
    if is_remote_source(source) or isinstance(source, RemotePath):
        return None
    if isinstance(source, str | os.PathLike):
        source = _paths(source)
    if not isinstance(source, Sequence):
        n_rows = getattr(source, "num_rows", None)  # of a data set
        return (
            n_rows if isinstance(n_rows, int) else frames.n_rows(source) if frames.is_frame(source) else None
        )
    total = 0
    for value in source:
        if frames.is_frame(value) or isinstance(value, RemotePath):
            return None
        if not isinstance(value, Path) or not is_container(path := value.expanduser()):
            total += 1
        elif path.is_dir():
            total += count_files(path, options.skip, options.selection)
        elif (rows := tables.n_rows(path)) is not None:
            total += rows
        else:
            return None
    return total


def is_container(path: Path) -> bool:
    """Whether a path holds several documents: a folder, a table or an archive."""
    try:
        return path.is_dir() or tables.is_table(path) or archives.is_archive(path) or zips.is_zip(path)
    except OSError:  # in a folder without permission: reported when it is read
        return False


def is_container_name(path: RemotePath) -> bool:
    """Whether a file on an object store is a table or an archive, by its name."""
    return tables.is_table(path) or archives.is_archive(path) or zips.is_zip(path)


def members(path: AnyPath, metadata: Metadata | None, options: SourceOptions) -> Iterator[SourceOutput]:
    """Yields what is in a folder, a table or an archive, with the metadata given for that."""
    if isinstance(path, Path) and path.is_dir():
        for file in walk(path, options.skip, options.selection):
            if isinstance(file, FailureRecord):
                yield file
                continue
            is_plain = not file.name.lower().endswith(zips.SUFFIXES)
            if not is_plain and zips.is_zip(file):
                yield from members_or_shard(file, metadata, replace(options, selection=EVERYTHING))
                continue
            record = SourceRecord(
                file, printable(file), None, metadata, encoding=options.encoding, is_listed=True
            )
            if is_plain:
                yield record
            else:
                yield from _with_attachments(record, options)
        return
    yield from members_or_shard(absolute(path) if isinstance(path, Path) else path, metadata, options)


def members_or_shard(
    path: AnyPath, metadata: Metadata | None, options: SourceOptions, n_bytes: int | None = None
) -> Iterator[SourceOutput]:
    """Yields what is in a table, an archive or a message, or one record that stands for all of it.

    n_bytes: the size of an object, as it was listed.
    """
    if options.as_shards:
        shard = Shard(path, metadata, replace(options, as_shards=False), n_bytes)
        yield SourceRecord(shard, printable(path), None, metadata, str(path))
    elif zips.is_zip(path):
        yield from zips.records(path, metadata, options.selection, options.encoding)
    elif zips.is_mail(path):
        yield from zips.attachments(path, metadata)
    else:
        read = tables.records if tables.is_table(path) else archives.records
        yield from read(path, metadata, options)


def _with_attachments(record: SourceRecord, options: SourceOptions) -> Iterator[SourceOutput]:
    """A file, and if it is an e-mail message its attachments."""
    yield record
    if isinstance(record.value, RemoteFile) and zips.is_mail(record.value.path):
        yield from members_or_shard(record.value.path, record.metadata, options, record.value.size)
    if isinstance(record.value, Path) and zips.is_mail(path := record.value.expanduser()):
        yield from members_or_shard(absolute(path), record.metadata, options)


def expand(source_records: Iterator[SourceRecord], options: SourceOptions) -> Iterator[SourceOutput]:
    """Replaces each folder, table or archive among the records by its members."""
    for record in source_records:
        if isinstance(record.value, RemotePath):
            for file in remote.records(record.value, record.id, record.metadata, options):
                yield from _remote_members(file, options)
            continue
        if isinstance(record.value, Path) and "\0" not in str(record.value):
            path = record.value.expanduser()
            if is_container(path):
                if record.id is not None:
                    raise InvalidInput(
                        f"{str(path)!r} holds several documents, which have their own ids: leave out ids"
                    )
                yield from members(path, record.metadata, options)
                continue
            yield from _with_attachments(
                record._replace(encoding=record.encoding or options.encoding), options
            )
            continue
        yield record


def _remote_members(record: SourceRecord, options: SourceOptions) -> Iterator[SourceOutput]:
    """An object, or what is in it: as in folders on a disk, zip archives are read, and tables and tars where they are
    named."""
    file = record.value
    if not isinstance(file, RemoteFile):
        return
    is_container = zips.is_zip(file.path) if record.is_listed else is_container_name(file.path)
    if not is_container:
        yield from _with_attachments(record, options)
        return
    if record.id is not None:
        raise InvalidInput(
            f"{record.name!r} holds several documents, which have their own ids: leave out ids"
        )
    of_members = replace(options, selection=EVERYTHING) if record.is_listed else options
    yield from members_or_shard(file.path, record.metadata, of_members, file.size)


def _paths(source: str | os.PathLike[str]) -> list[Path]:
    """A path by itself, or what a pattern matches. Raises MediaNotFound."""
    path = Path(source).expanduser()
    if exists(path):
        return [path]
    matches = expand_pattern(str(path))
    if matches:
        return matches
    reason = "nothing matches this pattern" if matches is not None else "no such folder or file"
    raise MediaNotFound(
        f"{path}: {reason}; check the path (to add a text, put it in a list: [{str(source)!r}])"
    )


def _refuse_ids(ids: object, kind: str) -> None:
    if ids is not None:
        raise InvalidInput(
            f"ids are given for {kind}: name the column that holds them, columns={{'id': ...}}"
        )


def _iterable(source: object) -> Iterable[object]:
    """The items in `source`; a single item becomes a list. Raises InvalidInput at once for what is neither."""
    if is_item(source) or _is_pair(source):
        return [source]
    if (cells := frames.column_values(source)) is not None:
        return cells
    is_array = isinstance(source, bytes | bytearray) or hasattr(type(source), "shape")
    is_audio = is_audio_mapping(source) or samples_and_rate(source) is not None
    if is_array or is_audio or not isinstance(source, Iterable):
        return [as_item(source)]
    frames.check_iterable(source)
    return source


def _peek(source: Iterable[object]) -> tuple[object, Iterable[object]]:
    """The first item, or None, and all items. A sequence stays one, so that it can be checked before work begins."""
    if isinstance(source, Sequence):
        return (source[0] if len(source) else None), source
    items = iter(source)
    first = list(itertools.islice(items, 1))
    return (first[0] if first else None), itertools.chain(first, items)


def _rows(source: Iterable[object]) -> Iterator[object]:
    """The rows in an iterable of rows and tables. Media as Hugging Face stores them are a row of one column."""
    for value in source:
        if frames.is_frame(value):
            yield from frames.frame_rows(value)
        else:
            yield (
                {"media": value} if isinstance(value, Mapping) and set(value) == {"bytes", "path"} else value
            )


def _is_pair(value: object) -> bool:
    """Whether a value is (item, metadata). A mapping that holds audio is an item, not metadata."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return isinstance(value[1], Mapping) and not {"array", "sampling_rate"} <= set(value[1])


def _from_values(
    source: Iterable[Any], ids: Sequence[str] | str | None, options: SourceOptions
) -> Iterator[SourceOutput]:
    unique_ids = None if ids is None else _check_unique(check_ids(ids))
    if isinstance(source, Sequence):
        if len(source) == 0:
            raise InvalidInput("the list of items to add is empty; give at least one")
        if unique_ids is not None and len(unique_ids) != len(source):
            raise InvalidInput(f"{len(unique_ids)} ids given for {len(source)} items; give one for each")
        for _ in _pairs(source, unique_ids, options.metadata):  # raises for any mistake before work begins
            pass
        warn_path_like(value for value in source if isinstance(value, str))  # in the caller's thread
    return expand(_pairs(source, unique_ids, options.metadata), options)


def _check_unique(ids: list[str]) -> list[str]:
    repeated = [id_ for id_, n in Counter(ids).items() if n > 1]
    if repeated:
        raise InvalidInput(f"the id {repeated[0]!r} is given twice; each item needs its own")
    return ids


def _pairs(
    source: Iterable[object], ids: list[str] | None, metadata: Metadata | None
) -> Iterator[SourceRecord]:
    position = -1
    for position, value in enumerate(source):
        own_metadata: Any = None
        if isinstance(value, tuple) and len(value) == 2 and (_is_pair(value) or value[1] is None):
            value, own_metadata = value
        if ids is not None and position >= len(ids):
            raise InvalidInput(f"{len(ids)} ids given for more items than that; give one for each")
        uri = value.uri if is_item(value) else value if isinstance(value, Path | RemotePath) else None
        name = f"item {position}" if uri is None else printable(uri)
        merged = metadata if own_metadata is None else (metadata or {}) | check_metadata(own_metadata)
        yield SourceRecord(value, name, ids[position] if ids else None, merged)
    if ids is not None and position + 1 != len(ids):
        raise InvalidInput(f"{len(ids)} ids given for {position + 1} items; give one for each")
