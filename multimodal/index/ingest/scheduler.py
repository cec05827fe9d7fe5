"""One job: entries -> rows, through stages that run at the same time.

A thread draws entries from the source and asks the index what it has of them (blocks.py). Others open files, decode and
prepare (things.py, prepare.py). This loop, in the thread of the caller, runs the model on whatever batch is ready
first, so a slow file holds up nobody but itself, and hands finished things to a thread that writes (writer.py). The
loop alone decides and counts (intake.py, outlet.py). What lies between two stages is bounded, in number and in bytes,
so memory does not grow with the files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from multimodal.core.encoder import Encoder
from multimodal.core.errors import IndexStateError
from multimodal.core.space import Space
from multimodal.index.ingest.admission import Intake, Twins
from multimodal.index.ingest.batching import BATCH_BYTES
from multimodal.index.ingest.commit import Outlet
from multimodal.index.ingest.encode import Broken, Prepared, forward, prepare
from multimodal.index.ingest.lookup import Blocks
from multimodal.index.ingest.progress import Tally
from multimodal.index.ingest.sources.record import Source
from multimodal.index.ingest.workers import Inbox, Workers, settle
from multimodal.index.storage.table import IndexedDocument, ItemTable

DECODED_BYTES = 2 * BATCH_BYTES  # in all batches that are being prepared
WRITES_AHEAD = 2
MAX_THREADS = 16


@dataclass(frozen=True)
class Options:
    """How a job runs. threads: that decode; None for as many as there are cores. dedupe: leave out what the index has
    under another name. vanished: files that are gone, by content; one of the same content takes the place of each."""

    batch_size: int = 32
    threads: int | None = None
    dedupe: bool = False
    vanished: dict[str, list[IndexedDocument]] = field(default_factory=dict)


class Job:
    """Takes entries into a store. The caller holds the lock of the index."""

    def __init__(
        self, entries: Iterator[Source], store: ItemTable, space: Space, tally: Tally, options: Options
    ) -> None:
        self.space, self.tally = space, tally
        self.inbox: Inbox = Inbox()
        self.walker = Workers(1, self.inbox, "walk")
        self.workers = Workers(options.threads or min(MAX_THREADS, _cores()), self.inbox, "prepare")
        self.writer = Workers(1, self.inbox, "write")
        self.outlet = Outlet(store, tally, self.writer)
        owners = _owners(store) if options.dedupe else None
        self.intake = Intake(Blocks(entries, store), space, self.outlet, self.walker, self.workers,
                             Twins(options.vanished, owners), options.batch_size)  # fmt: skip
        self.n_preparing = self.n_decoding = 0  # batches, and the bytes they decode to

    def run(self) -> None:
        """Everything, to the end. What the source raises ends the job, as do Ctrl-C and an index that cannot be
        written; what is finished by then is kept."""
        try:
            while self.fill():
                settle(self.inbox.get())
            self.outlet.write_ledger()
            self.tally.tell()
        except IndexStateError:  # nothing more can be written
            raise
        except BaseException:
            self.abandon()
            raise
        finally:
            for workers in (self.walker, self.workers, self.writer):
                workers.stop()
            self.writer.join()  # while the index is still locked

    def fill(self) -> bool:
        """Gives every thread what there is for it to do -> whether anything is under way."""
        if self.writer.busy <= WRITES_AHEAD:
            self.prepare()
            self.intake.fill()
            if not self.workers.busy:  # nothing more comes for now: what there is must do for a batch
                self.intake.flush()
                self.prepare()
        over = self.intake.is_empty and not self.workers.busy
        self.outlet.write(all_of_it=over)
        if over and self.outlet.again and not self.writer.busy:
            self.intake.take_again()
        return bool(self.walker.busy or self.workers.busy or self.writer.busy)

    def prepare(self) -> None:
        batches = self.intake.batches
        while batches and self.n_preparing <= self.workers.n + 1:
            n_bytes = sum(part.decoded for part in batches[0])
            if self.n_decoding and self.n_decoding + n_bytes > DECODED_BYTES:
                return
            self.n_decoding += n_bytes
            self.n_preparing += 1
            parts = batches.popleft()
            encoder = self.space.encoder_for(parts[0].item.modality)
            self.workers.submit(partial(prepare, encoder, parts), partial(self.encode, encoder, n_bytes))

    def encode(self, encoder: Encoder, n_bytes: int, prepared: Prepared) -> None:
        """Runs the model. Meanwhile the threads go on with what they were given."""
        self.n_decoding -= n_bytes
        self.n_preparing -= 1
        self.drop(prepared.broken)
        for batch, parts in prepared.batches:
            good, broken = forward(encoder, batch, parts)
            self.drop(broken)
            for part, vector in good:
                self.intake.land(part)
                thing = part.thing
                if not thing.over:
                    thing.rows.append(part.row)
                    thing.vectors.append(vector)
                    if thing.drawn and not thing.waiting:
                        self.outlet.finish(thing)

    def drop(self, broken: list[Broken]) -> None:
        for part, stage, error in broken:
            self.intake.land(part)
            self.intake.twins.forget(part.thing)
            failed = part.thing.failed(stage, error)
            if part.row.start_s is not None:
                failed = replace(failed, reason=f"{failed.reason} (from second {part.row.start_s:g})")
            self.outlet.fail(part.thing, failed)

    def abandon(self) -> None:
        """Something ended the job early: what is finished is written still."""
        self.walker.stop()
        self.workers.stop()
        self.outlet.write()
        self.writer.join()
        while not self.inbox.empty():
            done = self.inbox.get()
            if done.by is self.writer:
                settle(done)
        self.outlet.write_ledger()


def _owners(store: ItemTable) -> dict[str, str]:
    return {origin.content: origin.source for _, origin in store.provenances() if origin.content}


def _cores() -> int:
    """Those this process may use, where the system tells."""
    ours = getattr(os, "sched_getaffinity", None)
    return len(ours(0)) if ours is not None else os.cpu_count() or 1
