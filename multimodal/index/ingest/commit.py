"""How things end: written, kept as they are, given another name, left out, or failed; each of them once."""

from __future__ import annotations

from functools import partial

from multimodal.index.ingest.document import Thing
from multimodal.index.ingest.progress import Tally
from multimodal.index.ingest.sources.record import Entry
from multimodal.index.ingest.workers import Workers
from multimodal.index.ingest.writer import Chunk, Written, give_back_memory, revise, unwritable, write
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.table import ItemTable

REVISED_TOGETHER = 256
TIDY_EVERY = 128  # writes: each leaves a small file, and lists all of them
LANDED = 4096  # more than are looked at, and not opened yet, at any time


class Outlet:
    """Belongs to the loop; only the writing itself is done in `writer`, a thread."""

    def __init__(self, store: ItemTable, tally: Tally, writer: Workers) -> None:
        self.store, self.tally, self.writer = store, tally, writer
        self.chunk = Chunk()  # finished, and not written yet
        self.stale: list[tuple[str, Thing, str]] = []  # whose rows only need another name, state or metadata
        self.flying: set[str] = set()  # ids of all that has begun and not ended
        self.landed: dict[str, None] = {}  # ids that ended lately, in order: what was known of them is old
        self.again: list[Entry] = []  # that came while their id was flying, or changed while they were read
        self.changed: set[str] = set()  # ids that did so once
        self.n_writes = 0
        self.seen: set[str] | None = None  # every id that came, for who asks

    def begin(self, thing: Thing) -> bool:
        """Whether a thing may go on its way now. If one of its id is on the way, it must wait until that has ended."""
        if self.seen is not None:
            self.seen.add(thing.id)
        if thing.id in self.flying or thing.id in self.landed:
            self.again.append(thing.entry)
            return False
        self.flying.add(thing.id)
        return True

    def keep(self, thing: Thing) -> None:
        """The index has a thing that began with this content. What else is new of it is written down later."""
        known = thing.known
        renewed = known is None or thing.metadata != known.row.metadata
        if not renewed and known is not None and thing.provenance[-2:] == known.provenance[-2:]:
            self.end(thing, "unchanged")
        else:
            self.rename(thing.id, thing, "updated" if renewed else "unchanged")

    def rename(self, old: str, thing: Thing, how: str) -> None:
        """The rows that the index has as `old` are those of a thing that began. It ends when that is written down."""
        self.stale.append((old, thing, how))

    def end(self, thing: Thing, how: str) -> None:
        """A thing that began ended, and nothing is to be written."""
        self.flying.remove(thing.id)
        self.tally.end(thing.id, how)
        self.tally.advance()

    def fail(self, thing: Thing, failed: FailureRecord) -> None:
        """A thing that began is out. If its file is not what it was, it gets a second chance with what it is then."""
        if thing.over:
            return
        thing.over = True
        thing.rows, thing.vectors = [], []
        self.flying.remove(thing.id)
        if thing.has_moved_on and thing.id not in self.changed:
            self.changed.add(thing.id)
            self.again.append(thing.entry)
        else:
            self.tally.fail(failed)

    def finish(self, thing: Thing) -> None:
        """All rows of a thing are there."""
        self.chunk.push(thing)
        self.tally.advance()
        if self.chunk.is_full:
            self.write()

    def write(self, *, all_of_it: bool = True) -> None:
        """Has what is finished written."""
        if (all_of_it or self.chunk.is_full) and (things := self.chunk.take()):
            self.writer.submit(partial(write, self.store, things), self._written)
        if self.stale and (all_of_it or len(self.stale) >= REVISED_TOGETHER):
            stale, self.stale = self.stale, []
            work = partial(revise, self.store, [(old, thing) for old, thing, _ in stale])
            self.writer.submit(work, lambda _: self._revised(stale))

    def _written(self, written: Written) -> None:
        self.n_writes += 1
        if self.n_writes % TIDY_EVERY == 0:
            self.writer.submit(self.store.compact, lambda _: None)
        self.writer.submit(give_back_memory, lambda _: None)
        for thing in written.things:
            self._land(thing)
            self.tally.end(thing.id, "added" if thing.known is None else "updated")
        for thing, failed in written.failed:
            self.fail(thing, failed)
        self.write_ledger()

    def _revised(self, stale: list[tuple[str, Thing, str]]) -> None:
        for _, thing, how in stale:
            self._land(thing)
            self.tally.end(thing.id, how)
            self.tally.advance()
        self.write_ledger()

    def _land(self, thing: Thing) -> None:
        self.flying.remove(thing.id)
        self.landed[thing.id] = None
        if len(self.landed) > LANDED:
            del self.landed[next(iter(self.landed))]

    def write_ledger(self) -> None:
        """Raises IndexStateError if it cannot be written."""
        try:
            self.tally.ledger.write()
        except OSError as error:
            raise unwritable(self.store, error) from error
