"""Entries -> blocks of things that were looked at, with what the index has of each. Runs in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

from multimodal.index.ingest.document import Thing, look
from multimodal.index.ingest.sources.record import Blob, Entry, Source, WasRead
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.table import ItemTable

LARGEST, FIRST = 1024, 64  # entries asked about together; few at first, so that work begins at once
BLOCK_BYTES = 32 << 20  # of things that are in memory
BLOCK_S = 0.5  # to wait for a slow source before what came so far is taken up


Looked = Thing | FailureRecord | WasRead


class Block(NamedTuple):
    """What came, in the order of the source; whether that has ended; what it raised, if it did."""

    things: list[Looked]
    last: bool
    error: BaseException | None = None


class Blocks:
    """Draws entries from a source, as many at a time as are worth one question to the index."""

    def __init__(self, entries: Iterator[Source], store: ItemTable) -> None:
        self._entries, self._store = entries, store
        self._size = FIRST

    def next(self) -> Block:
        """The next block. What the source raises ends it, and the entries just before are dropped with it."""
        drawn: list[Source] = []
        n_bytes, began = 0, time.monotonic()
        try:
            for entry in self._entries:
                drawn.append(entry)
                n_bytes += memory(entry.value) if isinstance(entry, Entry) else 0
                late = time.monotonic() - began >= BLOCK_S
                if len(drawn) >= self._size or n_bytes >= BLOCK_BYTES or late:
                    self._size = min(2 * self._size, LARGEST)
                    return Block(self.look(drawn), last=False)
        except BaseException as error:
            return Block([], last=True, error=error)
        return Block(self.look(drawn), last=True)

    def look(self, drawn: list[Source]) -> list[Looked]:
        """Each entry as a thing, with what the index has of it."""
        things = [one if isinstance(one, FailureRecord | WasRead) else look(one) for one in drawn]
        known = self._store.documents([one.id for one in things if isinstance(one, Thing)])
        for one in things:
            if isinstance(one, Thing):
                one.known = known.get(one.id)
        return things


def memory(value: object) -> int:
    """About how many bytes of memory a value keeps; a file keeps none."""
    source = getattr(value, "source", value)
    if isinstance(source, dict):
        source = source.get("array")
    if isinstance(source, Blob):
        source = source.data
    if isinstance(source, bytes | str):
        return len(source)
    size = getattr(source, "size", 0)
    return int(getattr(source, "nbytes", 0)) or (3 * size[0] * size[1] if isinstance(size, tuple) else 0)
