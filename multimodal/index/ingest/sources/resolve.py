"""Whatever is given to `Index.add` -> entries, one by one.

Knows what a source may be (folder, file, pattern, table, archive, data set, list), not what is in a file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.core.items import as_item
from multimodal.index.ingest.sources import archives, hf_datasets, tables
from multimodal.index.ingest.sources.folders import absolute, check_unicode, is_there, matches, shown, walk
from multimodal.index.ingest.sources.record import Entry, Source, WasRead
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.filters import check_metadata

Columns = Mapping[str, str]


@dataclass(frozen=True)
class Given:
    """What goes for all of a source: metadata (None: what is known already stays), the roles of columns in tables, and
    a folder to leave out (the index itself)."""

    metadata: Metadata | None = None
    columns: Columns | None = None
    skip: Path | None = None


def entries(source: object, ids: Sequence[str] | str | None, given: Given) -> Iterator[Source]:
    """Everything in `source`, one by one; the parts of a folder that cannot be listed as failures.

    Raises at once what Index.add says of its arguments.
    """
    if isinstance(source, str | os.PathLike):
        paths = _named(source)
        if ids is not None and (len(paths) > 1 or is_many(paths[0])):
            what = "a folder" if paths[0].is_dir() else "many things"
            raise InvalidInput(
                f"{str(paths[0])!r} is {what}, whose files are known by their paths: leave out ids"
            )
        return _of_values(paths, ids, given)
    if hf_datasets.is_dataset(source):
        if ids is not None:
            raise InvalidInput(
                "ids are given for a data set: name the column that holds them, columns={'id': ...}"
            )
        return hf_datasets.entries(source, given.metadata, given.columns)
    return _of_values(_iterable(source), ids, given)


def length(source: object, given: Given) -> int | None:
    """How many things there are in a source, or None if only going through it would tell."""
    from multimodal.index.ingest.sources.folders import count_files

    if isinstance(source, str | os.PathLike):
        source = _named(source)
    if not isinstance(source, Sequence):
        n = getattr(source, "num_rows", None)  # of a data set
        return n if isinstance(n, int) else None
    total = 0
    for one in source:
        if not isinstance(one, Path) or not is_many(path := one.expanduser()):
            total += 1
        elif path.is_dir():
            total += count_files(path, given.skip)
        elif (rows := tables.n_rows(path)) is not None:
            total += rows
        else:
            return None
    return total


def _named(source: str | os.PathLike[str]) -> list[Path]:
    """A path alone, or what a pattern matches. Raises MediaNotFound."""
    path = Path(source).expanduser()
    if is_there(path):
        return [path]
    found = matches(str(path))
    if found:
        return found
    what = "nothing matches this pattern" if found is not None else "no such folder or file"
    raise MediaNotFound(
        f"{path}: {what}; check the path (to add a text, give it in a list: [{str(source)!r}])"
    )


def is_many(path: Path) -> bool:
    """Whether a path is of something that holds things: a folder, a table or an archive."""
    try:
        return path.is_dir() or tables.is_manifest(path) or archives.is_archive(path)
    except OSError:  # it lies in a folder without permission: what is wrong is told when it is read
        return False


def inside(path: Path, metadata: Metadata | None, given: Given) -> Iterator[Source]:
    """What is in a folder, a table or an archive, with the metadata of that."""
    if path.is_dir():
        for one in walk(path, given.skip):
            yield one if isinstance(one, FailureRecord) else Entry(one, shown(one), None, metadata)
        return
    path = absolute(path)
    if tables.is_manifest(path):
        found = tables.entries(path, metadata, given.columns)
    else:
        found = archives.entries(path, metadata)
    whole = True
    for entry in found:
        whole = whole and not (isinstance(entry, FailureRecord) and entry.key == str(path))
        yield entry
    if whole:
        yield WasRead(str(path))


def _iterable(source: object) -> Iterable[object]:
    """The things in `source`. A thing alone becomes a list of one; raises InvalidInput at once if it is none."""
    import numpy as np

    if _is_pair(source):
        return [source]
    if isinstance(source, Iterable) and not isinstance(source, Mapping | bytes | bytearray | np.ndarray):
        return source
    return [as_item(source)]


def _is_pair(value: object) -> bool:
    """(item, metadata). A mapping that holds sound is an item, not metadata."""
    if not isinstance(value, tuple) or len(value) != 2:
        return False
    return isinstance(value[1], Mapping) and not {"array", "sampling_rate"} <= set(value[1])


def _of_values(source: Iterable[Any], ids: Sequence[str] | str | None, given: Given) -> Iterator[Source]:
    known = _check_ids(ids)
    if isinstance(source, Sequence):
        if len(source) == 0:
            raise InvalidInput("the list of things to add is empty; give at least one")
        if known is not None and len(known) != len(source):
            raise InvalidInput(f"{len(known)} ids given for {len(source)} things; give one for each")
        for _ in _pairs(source, known, given.metadata):  # so that a mistake anywhere raises before all work
            pass
    return expanded(_pairs(source, known, given.metadata), given)


def expanded(some: Iterator[Entry], given: Given) -> Iterator[Source]:
    """Entries, and in the place of a folder, table or archive what is in it."""
    for entry in some:
        if isinstance(entry.value, Path) and "\0" not in str(entry.value):
            path = entry.value.expanduser()
            if is_many(path):
                if entry.id is not None:
                    raise InvalidInput(
                        f"{str(path)!r} holds many things, which are known by their own names: leave out ids"
                    )
                yield from inside(path, entry.metadata, given)
                continue
        yield entry


def _check_ids(ids: Sequence[str] | str | None) -> list[str] | None:
    if ids is None:
        return None
    known = check_ids(ids)
    twice = [one for one, n in Counter(known).items() if n > 1]
    if twice:
        raise InvalidInput(f"the id {twice[0]!r} is given twice; each thing needs its own")
    return known


def check_ids(ids: Sequence[str] | str) -> list[str]:
    """One id or several -> a list. Raises InvalidInput for an empty list, an empty id, or one that is no str."""
    given: list[object] = [ids] if isinstance(ids, str) else list(ids)
    if not given:
        raise InvalidInput("the list of ids is empty; give at least one")
    known = []
    for one in given:
        if not isinstance(one, str) or not one:
            raise InvalidInput(
                f"an id must be a str with at least one character, got {one!r}; a number as str(number)"
            )
        check_unicode(one, "the id")
        known.append(one)
    return known


def _pairs(source: Iterable[object], ids: list[str] | None, metadata: Metadata | None) -> Iterator[Entry]:
    position = -1
    for position, value in enumerate(source):
        own: Any = None
        if isinstance(value, tuple) and len(value) == 2 and (_is_pair(value) or value[1] is None):
            value, own = value
        if ids is not None and position >= len(ids):
            raise InvalidInput(f"{len(ids)} ids given for more things than that; give one for each")
        named = value if isinstance(value, Path) else getattr(value, "uri", None)
        name = f"item {position}" if named is None else shown(named)
        about = metadata if own is None else (metadata or {}) | check_metadata(own)
        yield Entry(value, name, ids[position] if ids else None, about)
    if ids is not None and position + 1 != len(ids):
        raise InvalidInput(f"{len(ids)} ids given for {position + 1} things; give one for each")
