"""Entries -> things with an id and a state, and things -> the parts of them that an encoder takes.

Looking is quick and touches no content of a file: it tells what a thing would be called, so that the index can be asked
what it has of it. Opening reads it, for a hash of its content, and finds out what it is. Both are done in threads.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.errors import MediaError, MultimodalError
from multimodal.core.items import Audio, Image, Item, Text, Video, as_item
from multimodal.core.media import sniff
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index.ingest import video
from multimodal.index.ingest.chunk import Part, parts
from multimodal.index.ingest.hashing import content_hash, file_hash, file_item
from multimodal.index.ingest.sources.folders import absolute, check_unicode, shown
from multimodal.index.ingest.sources.record import Blob, Entry
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import IndexedDocument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DRAWN_BYTES = 16 << 20  # of a long sound, at a time

State = tuple[int, int]  # size and mtime_ns


@dataclass(eq=False)
class Thing:
    """One thing on its way into the index.

    path: of its file, if it is one; state: of that when it was looked at. known: what the index has of it. rows and
    vectors: of its parts that are encoded; waiting: how many are not; drawn: whether no more parts will come.
    """

    entry: Entry
    id: str
    uri: str | None
    path: Path | None = None
    state: State | None = None
    item: Item | None = None
    content: str | None = None
    known: IndexedDocument | None = None
    rows: list[Row] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    waiting: int = 0
    drawn: bool = False
    over: bool = False  # it failed, and whatever still comes of it is dropped

    @property
    def metadata(self) -> Metadata:
        """What its rows will have: as given, or else as they are known with."""
        if self.entry.metadata is not None:
            return self.entry.metadata
        return {} if self.known is None else self.known.row.metadata

    @property
    def provenance(self) -> Provenance:
        return Provenance(self.id, self.entry.container, self.content, *(self.state or (None, None)))

    @property
    def has_same_state(self) -> bool:
        """Whether the index has it with the same size and time."""
        return self.known is not None and self.state is not None and self.state == self.known.provenance[-2:]

    @property
    def has_same_content(self) -> bool:
        """Whether the index has it with the same content."""
        return (
            self.known is not None
            and self.content is not None
            and self.content == self.known.provenance.content
        )

    @property
    def has_moved_on(self) -> bool:
        """Whether its file is no longer what it was when it was looked at."""
        return self.path is not None and _state(self.path) != self.state

    def check_state(self) -> None:
        """Raises MediaError if its file is not what it was when it was looked at."""
        if self.has_moved_on:
            raise MediaError(
                f"{shown(self.path)}: changed while it was being read; add it again when it is complete"
            )

    def failed(self, stage: str, error: BaseException) -> FailureRecord:
        return failed(self.entry, stage, error, self.id)


class Opened(NamedTuple):
    """A thing with its first parts, and what draws the others, if there are more. parts is None if the index has the
    same content already."""

    thing: Thing
    parts: list[Part] | None
    more: Iterator[Part] | None


def failed(entry: Entry, stage: str, error: BaseException, key: str | None = None) -> FailureRecord:
    """What the ledger keeps of an entry that failed."""
    source = entry.value if isinstance(entry.value, Path) else getattr(entry.value, "source", None)
    path = str(absolute(source.expanduser())) if isinstance(source, Path) and not entry.container else None
    reason = str(error) if isinstance(error, MultimodalError) else f"{type(error).__name__}: {error}"
    key = key or entry.id or path or entry.name
    return FailureRecord(
        key, entry.name, stage, reason, path, entry.container, entry.columns, entry.id, entry.metadata
    )


def look(entry: Entry) -> Thing | FailureRecord:
    """What an entry will be called, and the state of its file; its content only if it has no other name."""
    try:
        return _look(entry)
    except Exception as error:  # a job of hours must not end by one file, whatever a codec raises
        return failed(entry, "read", error)


def _look(entry: Entry) -> Thing:
    value = entry.value
    if isinstance(value, Blob):
        thing = Thing(entry, entry.id or value.uri, value.uri, state=entry.file)
    elif isinstance(value, Path):
        thing = _of_file(entry, value, None)
    else:
        item = as_item(value)
        if isinstance(item, Text):
            item.load()  # an empty text is refused here
        elif isinstance(item.source, Path) and item.uri == str(item.source):
            return _of_file(entry, item.source, item)
        name, content = entry.id or item.uri, None
        if name is None:
            content = content_hash(item)
            name = f"{item.modality}:{content}"
        thing = Thing(entry, name, item.uri, None, entry.file, item, content)
    if thing.uri is not None:
        check_unicode(thing.uri, "the path")
    return thing


def _of_file(entry: Entry, given: Path, item: Item | None) -> Thing:
    path = absolute(given.expanduser())
    check_unicode(str(path), "the path")
    return Thing(entry, entry.id or str(path), str(path), path, _state(path), item)


def _state(path: Path) -> State | None:
    try:
        status = path.stat()
    except OSError:  # what is wrong with it is told when it is opened
        return None
    size, mtime_ns = status.st_size, status.st_mtime_ns
    for one in video.beside(path):
        with contextlib.suppress(OSError):
            about = one.stat()
            size, mtime_ns = size + about.st_size, max(mtime_ns, about.st_mtime_ns)
    return size, mtime_ns


def _hash(path: Path) -> str:
    return video.content(path, file_hash(path))


def open_thing(thing: Thing, space: Space, *, wait: bool = False) -> Opened | FailureRecord:
    """Reads a thing and draws its first parts.

    wait: draw none yet, since the index may turn out to have the same content under another name.
    """
    try:
        item = _item(thing)
        if isinstance(item, Video):
            video.check(space)
        else:
            space.encoder_for(item.modality)
        thing.content = thing.content or (content_hash(item) if thing.path is None else _hash(thing.path))
        thing.check_state()
    except Exception as error:  # as in look
        return thing.failed("read", error)
    if thing.has_same_content:
        return Opened(thing, None, None)
    found = parts(thing, item, space, cut_text=thing.entry.cut or thing.path is not None)
    return Opened(thing, [], found) if wait else draw(thing, found)


def draw(thing: Thing, stream: Iterator[Part]) -> Opened | FailureRecord:
    """The next parts of a thing: all there are, or as many as may be held at a time."""
    drawn: list[Part] = []
    held = 0
    try:
        for part in stream:
            drawn.append(part)
            held += part.held
            if held >= DRAWN_BYTES:
                return Opened(thing, drawn, stream)
        thing.check_state()
    except Exception as error:  # as in look
        return thing.failed("decode", error)
    return Opened(thing, drawn, None)


def _item(thing: Thing) -> Item:
    value = thing.entry.value
    if isinstance(value, Blob):
        kinds: dict[Modality, Callable[..., Item]]
        kinds = {Modality.IMAGE: Image, Modality.AUDIO: Audio, Modality.VIDEO: Video}
        return kinds[sniff.sniff(value.data)](value.data, uri=value.uri)
    if thing.item is not None:
        return thing.item
    return as_item(value) if thing.path is None else file_item(thing.path)
