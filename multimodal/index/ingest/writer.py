"""What is finished -> the index, in chunks. A chunk is one transaction, and has all rows of each thing in it: whenever
a job is stopped, each thing is in the index as a whole or not at all.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.errors import IndexStateError
from multimodal.index.ingest.document import Thing
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.schema import Row
from multimodal.index.storage.table import ItemTable

if TYPE_CHECKING:
    pass

CHUNK_ROWS = 2048
CHUNK_CHARS = 16_000_000  # of text, which is stored with its row
CHUNK_S = 10.0  # where the model is slow: no more work than this is lost when a job is killed


class Chunk:
    """The finished things that are not written yet."""

    def __init__(self) -> None:
        self._things: list[Thing] = []
        self._rows = self._chars = 0
        self._began = 0.0

    def push(self, thing: Thing) -> None:
        if not self._things:
            self._began = time.monotonic()
        self._things.append(thing)
        self._rows += len(thing.rows)
        self._chars += sum(len(row.text or "") for row in thing.rows)

    @property
    def is_full(self) -> bool:
        if not self._things:
            return False
        late = time.monotonic() - self._began >= CHUNK_S
        return late or self._rows >= CHUNK_ROWS or self._chars >= CHUNK_CHARS

    def take(self) -> list[Thing]:
        """The things, once and for all."""
        things, self._things = self._things, []
        self._rows = self._chars = 0
        return things


class Written(NamedTuple):
    """What a write did: the things that are in the index now, and those that could not be stored."""

    things: list[Thing]
    failed: list[tuple[Thing, FailureRecord]]


def write(store: ItemTable, things: list[Thing]) -> Written:
    """Writes finished things in one transaction.

    Should one of them be impossible to store, it is found and left out. Raises IndexStateError if nothing can be
    written at all: a full disk, a folder that is gone.
    """
    try:
        _write(store, things)
    except (TypeError, ValueError) as error:  # before anything reached the disk
        if len(things) == 1:
            return Written([], [(things[0], things[0].failed("write", error))])
        middle = len(things) // 2
        first, second = write(store, things[:middle]), write(store, things[middle:])
        return Written(first.things + second.things, first.failed + second.failed)
    except (OSError, RuntimeError) as error:
        raise unwritable(store, error) from error
    return Written(things, [])


def _write(store: ItemTable, things: list[Thing]) -> None:
    import numpy as np

    rows = [row._replace(metadata=thing.metadata) for thing in things for row in thing.rows]
    origins = [thing.provenance for thing in things for _ in thing.rows]
    vectors = np.stack([vector for thing in things for vector in thing.vectors])
    replacing = [
        one.id for one in things if one.known is not None and (one.known.n_rows > 1 or len(one.rows) > 1)
    ]
    store.upsert(rows, origins, vectors, replacing=replacing)


def revise(store: ItemTable, things: list[tuple[str, Thing]]) -> None:
    """Gives rows that are there another name, state or metadata, and leaves their vectors: [(the id the thing has in
    the index, what it is now)]. One transaction. Raises IndexStateError if nothing can be written."""
    now = dict(things)
    try:
        rows, origins, vectors = store.fetch_rows(is_in("source", list(now), "things"))
        new_rows, new_origins = [], []
        for row, origin in zip(rows, origins, strict=True):
            thing = now[origin.source]
            new_rows.append(_renamed(row, origin.source, thing))
            new_origins.append(thing.provenance._replace(content=thing.content or origin.content))
        if new_rows:
            moved = [id_ for old, thing in things if old != thing.id for id_ in (old, thing.id)]
            store.upsert(new_rows, new_origins, vectors, replacing=moved)
    except (OSError, RuntimeError) as error:
        raise unwritable(store, error) from error


def _renamed(row: Row, source: str, thing: Thing) -> Row:
    id_ = thing.id + row.id.removeprefix(source)
    return row._replace(id=id_, uri=thing.uri, metadata=thing.metadata)


def give_back_memory() -> None:
    """Gives the system back what was freed: LanceDB reads in many threads, and glibc keeps for each what it freed."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def unwritable(store: ItemTable, error: Exception) -> IndexStateError:
    return IndexStateError(
        f"cannot write to the index at {str(store.path)!r} ({error}); what was written before is kept: make room or "
        "mend the folder, then do the same again to go on"
    )
