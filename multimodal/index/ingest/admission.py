"""From the source to batches: what is new is opened, in threads, and cut into parts; what is known ends here."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

from multimodal.core.space import Space
from multimodal.index.ingest.batching import Batcher
from multimodal.index.ingest.chunk import Part
from multimodal.index.ingest.commit import Outlet
from multimodal.index.ingest.document import Opened, Thing, draw, open_thing
from multimodal.index.ingest.lookup import LARGEST, Block, Blocks, Looked
from multimodal.index.ingest.sources.record import Source, WasRead
from multimodal.index.ingest.workers import Workers
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.table import IndexedDocument

OPENED_TOGETHER = 8
AHEAD = 128  # parts that wait for the model, for each picture in a batch: more than are sorted together
HELD_BYTES = 256 << 20  # in memory for them


class Twins:
    """Content that the index has, or will have, under another name. vanished: of files that are gone; a file with the
    same content takes the place of each. owners: the id of each content, if duplicates are left out, or None."""

    def __init__(self, vanished: dict[str, list[IndexedDocument]], owners: dict[str, str] | None) -> None:
        self.vanished, self.owners = vanished, owners
        self.wanted = bool(vanished) or owners is not None
        self.taken: list[IndexedDocument] = []  # files that are gone, and whose place another one took

    def of(self, thing: Thing) -> IndexedDocument | str | None:
        """A file that is gone, the id that has the content already, or None; then the content is this thing's."""
        content = thing.content or ""
        if gone := self.vanished.get(content):
            self.taken.append(gone.pop(0))
            return self.taken[-1]
        if self.owners is None:
            return None
        owner = self.owners.setdefault(content, thing.id)
        return None if owner == thing.id else owner

    def forget(self, thing: Thing) -> None:
        """A thing failed: its content is nobody's."""
        if self.owners is not None and self.owners.get(thing.content or "") == thing.id:
            del self.owners[thing.content or ""]


class Intake:
    """Belongs to the loop; `walker` (one thread) draws from the source, `workers` open."""

    def __init__(
        self,
        blocks: Blocks,
        space: Space,
        outlet: Outlet,
        walker: Workers,
        workers: Workers,
        twins: Twins,
        size: int,
    ) -> None:
        self.blocks, self.space, self.outlet, self.twins = blocks, space, outlet, twins
        self.walker, self.workers = walker, workers
        self.ended = False  # whether the source has no more
        self.todo: deque[Looked] = deque()  # looked at
        self.opening: dict[
            str, tuple[Thing, Opened | FailureRecord] | None
        ] = {}  # by id, in the order of the source
        self.streams: deque[Opened] = deque()  # things of which more parts can be drawn
        self.batchers = {modality: Batcher(modality, size) for modality in space.modalities}
        self.batches: deque[list[Part]] = deque()  # full, and not being prepared yet
        self.ahead = AHEAD * size
        self.n_parts = self.n_held = 0  # drawn, and not encoded yet

    @property
    def is_empty(self) -> bool:
        """Whether nothing is on its way here."""
        waiting = (
            self.todo or self.opening or self.streams or self.batches or any(map(len, self.batchers.values()))
        )
        return not waiting and not self.walker.busy

    @property
    def has_room(self) -> bool:
        return self.n_parts + len(self.opening) < self.ahead and self.n_held < HELD_BYTES

    def fill(self) -> None:
        """Gives the threads what there is for them to do."""
        while self.todo and self.has_room and not self.workers.is_crowded:
            self.open_some()
        while self.streams and self.has_room and not self.workers.is_crowded:
            opened = self.streams.popleft()
            if opened.more is not None and not opened.thing.over:
                self.workers.submit(
                    partial(draw, opened.thing, opened.more), partial(self.accept, opened.thing)
                )
        crowded = len(self.todo) >= LARGEST or len(self.outlet.again) >= LARGEST
        if not self.ended and not self.walker.busy and not crowded:
            self.walker.submit(self.blocks.next, self.take)

    def flush(self) -> None:
        """Everything that is drawn becomes batches, full or not."""
        for one in self.batchers.values():
            self.batches.extend(one.flush())

    def take_again(self) -> None:
        """What had to wait comes once more, looked at anew."""
        again: list[Source] = [*self.outlet.again]
        self.outlet.again = []
        self.outlet.landed.clear()
        self.walker.submit(lambda: Block(self.blocks.look(again), self.ended), self.take)

    def take(self, block: Block) -> None:
        if block.error is not None:
            raise block.error
        self.ended = block.last
        self.todo.extend(block.things)

    def open_some(self) -> None:
        some: list[Thing] = []
        while self.todo and len(some) < OPENED_TOGETHER:
            thing = self.todo.popleft()
            if isinstance(thing, FailureRecord):
                self.outlet.tally.fail(thing)
            elif isinstance(thing, WasRead):
                self.outlet.tally.ledger.settle(thing.container)
            elif self.outlet.begin(thing):
                if thing.has_same_state or thing.has_same_content:
                    self.outlet.keep(thing)
                else:
                    some.append(thing)
        if some:
            self.opening |= dict.fromkeys(thing.id for thing in some)
            self.workers.submit(partial(_open, some, self.space, self.twins.wanted), self.take_opened)

    def take_opened(self, some: Sequence[tuple[Thing, Opened | FailureRecord]]) -> None:
        if not self.twins.wanted:
            for thing, found in some:
                del self.opening[thing.id]
                self.accept(thing, found)
            return
        # Which of two files with one content is the first must not depend on the threads.
        self.opening |= {thing.id: (thing, found) for thing, found in some}
        while self.opening and (first := next(iter(self.opening.values()))) is not None:
            del self.opening[first[0].id]
            self.accept(*first)

    def accept(self, thing: Thing, found: Opened | FailureRecord) -> None:
        """A thing is open: its parts, if it has any that are new, go on their way."""
        if isinstance(found, FailureRecord):
            self.twins.forget(thing)
            self.outlet.fail(thing, found)
        elif found.parts is None:
            self.outlet.keep(thing)
        elif (
            not found.parts
            and self.twins.wanted
            and not thing.waiting
            and (twin := self.twins.of(thing)) is not None
        ):
            if isinstance(twin, IndexedDocument):
                thing.known = twin
                self.outlet.rename(twin.provenance.source, thing, "moved")
            else:
                self.outlet.end(thing, "duplicates")
        else:
            self.take_parts(found)

    def take_parts(self, opened: Opened) -> None:
        thing = opened.thing
        thing.drawn = opened.more is None
        if opened.more is not None:
            self.streams.append(opened)
        for part in opened.parts or ():
            thing.waiting += 1
            self.n_parts += 1
            self.n_held += part.held
            self.batches.extend(self.batchers[part.item.modality].push(part))

    def land(self, part: Part) -> None:
        """A part is encoded, or never will be."""
        part.thing.waiting -= 1
        self.n_parts -= 1
        self.n_held -= part.held


def _open(things: Sequence[Thing], space: Space, wait: bool) -> list[tuple[Thing, Opened | FailureRecord]]:
    return [(thing, open_thing(thing, space, wait=wait)) for thing in things]
