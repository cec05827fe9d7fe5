"""Driver: the process that decides what is added, hands it to workers, and alone writes to the index.

It holds the lock, lists the source, looks records up, and keeps each id in at most one unit that is under way. Workers
return fragments with the outcomes of their documents. Every few seconds the driver commits the fragments, and only then
counts the outcomes and stores the failures: a commit is the one checkpoint there is. When a worker dies, what it
reported is committed, and the rest of its units is done again.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from multimodal.core.cluster.pool import Event, Failed, Finished, Lost, Part, WorkerPool
from multimodal.core.errors import IndexStateError
from multimodal.index.ingest.commit import REVISIONS_PER_COMMIT, Revision, write_revisions
from multimodal.index.ingest.config import IngestConfig
from multimodal.index.ingest.document import Document, failure_of, stat_document
from multimodal.index.ingest.engines import fragments
from multimodal.index.ingest.engines.contents import Contents
from multimodal.index.ingest.engines.units import (
    FIRST_RECORDS,
    GROWTH,
    MOST_RECORDS,
    Claim,
    Count,
    Deferred,
    Hashed,
    Outcome,
    Resolve,
    Skip,
    Unit,
    Warned,
    Written,
    weight,
)
from multimodal.index.ingest.jobs import record_id
from multimodal.index.ingest.lookup import memory_size
from multimodal.index.ingest.progress import JobProgress
from multimodal.index.ingest.sources.record import ContainerRead, Shard, SourceOutput, SourceRecord
from multimodal.index.ingest.workers import Inbox, Workers, resolve
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.table import IndexedDocument, ItemTable

COMMIT_S = 5.0  # between two commits, each of which takes 15 ms and adds a version of the table
COMPACT_EVERY = 32  # commits
POLL_S = 0.05  # while the source is being read
IDLE_S = 0.5
MAX_LOSSES = 2  # of a worker by a unit, after which the unit is divided to find out which record it is


class Batch(NamedTuple):
    """What was read of the source, in its order; whether that is all of it; the error that ended it."""

    outputs: list[SourceOutput | Document]
    is_last: bool
    error: Exception | None = None


@dataclass
class _UnitState:
    """A unit that is under way. ids: those that no other unit may have meanwhile. settled: ids with an outcome.
    deferred: records that its worker may not add now. n_losses: how many workers have died at work on it."""

    unit: Unit
    ids: set[str]
    settled: set[str] = field(default_factory=set)
    deferred: list[tuple[str, SourceRecord]] = field(default_factory=list)
    n_losses: int = 0


class Driver:
    """Runs one job. The caller holds the lock of the index.

    contents: of documents that are new or changed; where it is active, no record may be a Shard.

    Attributes:
        deferred: Records, with their ids, which are in a unit under way; they are looked up when that has its outcome.
        seen_ids: Every id that came of a member of a container, if the caller sets it to a set.
        incomplete: Tables and archives with rows or members that could not be read.
    """

    def __init__(
        self,
        records: Iterator[SourceOutput],
        table: ItemTable,
        progress: JobProgress,
        config: IngestConfig,
        pool: WorkerPool,
        contents: Contents | None = None,
    ) -> None:
        self.records, self.table, self.progress, self.config, self.pool = (
            records,
            table,
            progress,
            config,
            pool,
        )
        self.contents = contents or Contents(table, {}, dedupe=False)
        self.seen_ids: set[str] | None = None
        self.incomplete: set[str] = set()
        self.revisions: list[Revision] = []
        self.inbox: Inbox = Inbox()
        self.source_worker = Workers(1, self.inbox, "source")
        self.has_ended = False
        self.error: Exception | None = None  # of the source or a unit, raised when the rest is written
        self.taken: set[str] = set()  # ids in units that wait or are under way
        self.open_unit = Unit([], {})
        self.open_weight = 0
        self.unhashed: list[SourceRecord] = []
        self.queue: deque[_UnitState] = deque()
        self.under_way: dict[int, _UnitState] = {}
        self.n_units = 0
        self.deferred: list[tuple[str, SourceRecord]] = []
        self.written: list[tuple[int, Written]] = []
        self.finished: list[_UnitState] = []
        self.n_commits = 0
        self.commit_s = min(COMMIT_S, config.commit_interval_s)
        self.last_commit = time.monotonic()

    def run(self) -> None:
        """Runs to the end. An error of the source or of a unit is raised after the other units in progress are
        written. After Ctrl-C, what workers have returned is written."""
        try:
            while self.step():
                pass
        except IndexStateError:
            raise
        except BaseException:
            self.commit()
            raise
        finally:
            self.source_worker.stop()
        if self.table.vectors.has_codes:
            self.table.encode_rows()  # what workers wrote before the principal components were known
        self.progress.notify()
        if self.error is not None:
            raise self.error

    def step(self) -> bool:
        """Does what there is to do -> whether there may be more."""
        while not self.inbox.empty():
            resolve(self.inbox.get())
        if self._wants_records():
            self.source_worker.submit(self._read, self._admit)
        while self.queue and self.pool.room > 0:
            self._submit(self.queue.popleft())
        is_reading = bool(self.source_worker.busy)
        until_commit = max(0.0, self.commit_s + self.last_commit - time.monotonic())
        wait_s = POLL_S if is_reading else min(IDLE_S, until_commit) if self.written else IDLE_S
        if self.pool.n_units or self.queue:
            self._handle(self.pool.wait(wait_s))
        elif is_reading:
            resolve(self.inbox.get())
        is_idle = not (self.pool.n_units or self.queue or self.source_worker.busy)
        has_outcomes = bool(self.written or self.finished or self.revisions)
        if time.monotonic() - self.last_commit >= self.commit_s or (is_idle and has_outcomes):
            self.commit()
        if is_idle and self.deferred:
            self._admit(Batch(self._take_deferred(), self.has_ended))
        work = self.pool.n_units or self.queue or self.source_worker.busy or self.written or self.deferred
        return bool(work or self.revisions) or not self.has_ended

    # --- the source

    def _wants_records(self) -> bool:
        if self.has_ended or self.source_worker.busy or self.error is not None:
            self.has_ended = self.has_ended or self.error is not None
            return False
        return len(self.queue) < self.pool.size.n + self.pool.room

    def _unit_records(self) -> int:
        """How many records the next unit has."""
        return min(MOST_RECORDS, FIRST_RECORDS << (self.n_units // (GROWTH * self.pool.size.n)))

    def _read(self) -> Batch:
        """Reads records for the next unit. Runs in a thread of its own."""
        config, limit, n_bytes, start = self.config, self._unit_records(), 0, time.monotonic()
        outputs: list[SourceOutput | Document] = []
        try:
            for output in self.records:
                outputs.append(_stat(output))
                n_bytes += memory_size(output.value) if isinstance(output, SourceRecord) else 0
                is_late = time.monotonic() - start >= config.lookup_wait_s
                if len(outputs) >= limit or n_bytes >= config.lookup_bytes or is_late:
                    return Batch(outputs, is_last=False)
        except Exception as error:
            return Batch(outputs, is_last=True, error=error)
        return Batch(outputs, is_last=True)

    def _waiting(self) -> set[str]:
        """The ids of deferred records, which come before any other record of the same id."""
        of_units = [pair for state in self.under_way.values() for pair in state.deferred]
        return {id_ for id_, _ in [*self.deferred, *of_units]}

    def _take_deferred(self) -> list[SourceOutput | Document]:
        deferred, self.deferred = self.deferred, []
        return [_stat(record) for _, record in deferred]

    def _admit(self, batch: Batch) -> None:
        """Adds records to units, in their order; those that the index has are finished here."""
        waiting = self._waiting()
        documents: list[Document] = []
        for output in batch.outputs:
            if isinstance(output, FailureRecord):
                self.progress.fail(output)
            elif isinstance(output, ContainerRead):
                self._container_read(output)
            else:
                record = output.record if isinstance(output, Document) else output
                id_ = output.id if isinstance(output, Document) else _id(record)
                if self.seen_ids is not None and record.container is not None:
                    self.seen_ids.add(id_)
                if id_ in self.taken or id_ in waiting:
                    self.deferred.append((id_, record))
                    waiting.add(id_)
                    continue
                self.taken.add(id_)
                if isinstance(output, Document):
                    documents.append(output)
                else:
                    self._add(record, id_)
        stored = self.table.documents([document.id for document in documents]) if documents else {}
        for document in documents:
            document.stored = stored.get(document.id)
            self._add_or_finish(document)
        self.has_ended = self.has_ended or batch.is_last
        self.error = self.error or batch.error
        if self.unhashed:
            self.queue.append(_UnitState(Unit(self.unhashed, {}, hash_only=True), set()))
            self.unhashed = []
        self._close_unit()

    def _container_read(self, read: ContainerRead) -> None:
        self.progress.container_read(read)
        if not read.is_complete:
            self.incomplete.add(read.container)

    def _add_or_finish(self, document: Document) -> None:
        place = document.record.place
        if place is not None and place != document.id:
            self.progress.failure_log.resolve(place)
        if document.is_unchanged:
            self.progress.count(document.id, "unchanged")
            self.progress.advance()
            self.taken.remove(document.id)
            return
        if self.contents.is_active and not document.has_same_state:
            self.contents.push(document)
            self.unhashed.append(_portable(document))
        else:
            self._add_document(document)

    def _add_document(self, document: Document) -> None:
        self.open_unit.known[document.id] = document.stored
        self._add(_portable(document), document.id)

    def _decide(self, hashes: dict[str, str | None]) -> None:
        """Adds documents whose content is new, in the order of the source; the others are finished here."""
        for document, same in self.contents.receive(hashes):
            if isinstance(same, IndexedDocument):
                document.stored = same
                self.revisions.append(Revision(same.provenance.source, document, "moved"))
            elif same is not None:
                self.progress.count(document.id, "duplicates")
                self.progress.advance()
                self.taken.remove(document.id)
            else:
                self._add_document(document)
        self._close_unit()

    def _add(self, record: SourceRecord, id_: str) -> None:
        self.open_unit.records.append(record)
        self.open_unit.known.setdefault(id_, None)
        self.open_weight += weight(record)
        if self.open_weight >= self._unit_records():
            self._close_unit()

    def _close_unit(self) -> None:
        if self.open_unit.records:
            self.queue.append(_UnitState(self.open_unit, set(self.open_unit.known)))
            self.open_unit, self.open_weight = Unit([], {}), 0

    # --- units

    def _submit(self, state: _UnitState) -> None:
        self.n_units += 1
        self.under_way[self.n_units] = state
        self.pool.submit(self.n_units, state.unit)

    def _handle(self, events: list[Event]) -> None:
        lost: list[Lost] = []
        for event in events:
            if isinstance(event, Part):
                self._receive(event.number, event.value)
            elif isinstance(event, Finished):
                self._finish(event.number)
            elif isinstance(event, Failed):
                self._finish(event.number)
                self.error = self.error or event.error
            else:
                lost.append(event)
        if lost:
            self.commit()  # what these units have returned, so that it is not done again
            for event in lost:
                self._repeat(self.under_way.pop(event.number), event)

    def _finish(self, number: int) -> None:
        state = self.under_way.pop(number)
        self.deferred += state.deferred
        if not state.unit.hash_only:
            self.finished.append(state)

    def _receive(self, number: int, message: object) -> None:
        if isinstance(message, Written):
            self.written.append((number, message))
        elif isinstance(message, Hashed):
            self.under_way[number].settled.update(message.contents)
            self._decide(message.contents)
        elif isinstance(message, Claim):
            self.pool.answer(number, self._claim(number, message.ids))
        elif isinstance(message, Deferred):
            self.under_way[number].deferred += [(record_id(record), record) for record in message.records]
        elif isinstance(message, Warned):
            warnings.warn(message.message, message.category, stacklevel=2)

    def _claim(self, number: int, ids: list[str]) -> set[str]:
        """Gives ids to a unit -> those that it cannot have."""
        waiting = self._waiting()
        refused = {id_ for id_ in ids if id_ in self.taken or id_ in waiting}
        granted = set(ids) - refused
        self.taken |= granted
        self.under_way[number].ids |= granted
        return refused

    def _repeat(self, state: _UnitState, lost: Lost) -> None:
        """Puts the rest of a unit back. A unit by which several workers died is divided; a single record is a
        failure."""
        unit = state.unit
        state.n_losses += lost.was_running
        rest = [record for record in unit.records if _id(record) not in state.settled]
        # The worker that reads a table again defers the others again.
        self.deferred += [(id_, record) for id_, record in state.deferred if id_ in state.settled]
        self._release(state)
        if state.n_losses < MAX_LOSSES:
            self._requeue(rest, state)
        elif len(rest) > 1:
            middle = len(rest) // 2
            for half in (rest[middle:], rest[:middle]):
                self._requeue(half, state, n_losses=MAX_LOSSES - 1 if len(half) > 1 else 0)
        else:
            for record in rest:
                self.progress.fail(_crash(record))
                if unit.hash_only:
                    self.contents.drop(_id(record))
                    self.taken.discard(_id(record))
                    self._decide({})

    def _requeue(self, records: list[SourceRecord], state: _UnitState, n_losses: int | None = None) -> None:
        known = {id_: state.unit.known.get(id_) for id_ in map(_id, records)}
        if records:
            unit = state.unit._replace(
                records=records, known=known, settled=state.unit.settled | state.settled
            )
            ids: set[str] = set() if unit.hash_only else set(known)
            again = _UnitState(unit, ids, n_losses=state.n_losses if n_losses is None else n_losses)
            self.taken |= again.ids
            self.queue.appendleft(again)

    def _release(self, state: _UnitState) -> None:
        self.taken -= state.ids

    # --- commits

    def commit(self) -> None:
        """Makes what workers have returned part of the index, and counts its outcomes."""
        written, self.written = self.written, []
        finished, self.finished = self.finished, []
        self.last_commit = time.monotonic()
        try:
            fragments.commit(
                self.table,
                [fragment for _, part in written for fragment in part.fragments],
                [source for _, part in written for source in part.replaces],
                [id_ for _, part in written for id_ in part.replaces_rows],
            )
            self._keep_samples(written)
            for number, part in written:
                self._settle(self.under_way.get(number), part.outcomes)
            self._revise()
            self.progress.failure_log.write()
        except (OSError, RuntimeError) as error:
            raise IndexStateError(
                f"cannot write to the index at {str(self.table.path)!r} ({error}); earlier commits are kept: free "
                "space or repair the folder, then repeat the call to resume"
            ) from error
        for state in finished:
            self._release(state)
        if written:
            self.n_commits += 1
            if self.n_commits % COMPACT_EVERY == 0:
                self.table.maintain()
        if self.deferred and (written or finished):
            self._admit(Batch(self._take_deferred(), self.has_ended))

    def _keep_samples(self, written: list[tuple[int, Written]]) -> None:
        """What ItemTable.upsert does beside writing, for an index that stores codes."""
        for _, part in written:
            for vectors in part.samples:
                self.table.vectors.keep_sample(vectors)
        if written and self.table.vectors.is_unfitted:
            self.table.encode_rows()

    def _revise(self) -> None:
        """Gives the rows of files that moved their new ids."""
        revisions, self.revisions = self.revisions, []
        for start in range(0, len(revisions), REVISIONS_PER_COMMIT):
            write_revisions(self.table, revisions[start : start + REVISIONS_PER_COMMIT])
        for _, document, outcome in revisions:
            self.progress.count(document.id, outcome)
            self.progress.advance()
            self.taken.remove(document.id)

    def _settle(self, state: _UnitState | None, outcomes: list[Outcome]) -> None:
        """Counts the outcomes of documents. Their ids are free again."""
        for outcome in outcomes:
            if isinstance(outcome, Resolve):
                self.progress.failure_log.resolve(outcome.key)
                continue
            if isinstance(outcome, ContainerRead):
                self._container_read(outcome)
                continue
            if isinstance(outcome, Count):
                self.progress.count(outcome.key, outcome.outcome)
                self.progress.advance()
            elif isinstance(outcome, Skip):
                self.progress.skip(outcome.key, outcome.kind)
                self.progress.advance()
            else:
                self.progress.fail(outcome)
            self.contents.settle(outcome.key)
            if state is not None:
                state.settled.add(outcome.key)
                state.ids.discard(outcome.key)
                self.taken.discard(outcome.key)


def _stat(output: SourceOutput) -> SourceOutput | Document:
    """A record as a document, with its id and the state of its file; a table or archive, and a failure, as it is."""
    if isinstance(output, SourceRecord) and not isinstance(output.value, Shard):
        return stat_document(output)
    return output


def _portable(document: Document) -> SourceRecord:
    """The record of a document, with an absolute path: a worker may have another working directory."""
    record = document.record
    is_portable = record.value is document.path or not isinstance(record.value, Path)
    return record if is_portable else record._replace(value=document.path)


def _id(record: SourceRecord) -> str:
    """The id of a record; of a table or archive one that no document has."""
    if isinstance(record.value, Shard):
        return f"{record.value.path}#\0"
    output = stat_document(record)
    return output.id if isinstance(output, Document) else output.key


def _crash(record: SourceRecord) -> FailureRecord:
    reason = (
        f"{record.name}: the process of the worker ended while this was read or encoded, more than once; it may need "
        "more memory than the machine has, or break a decoder"
    )
    return failure_of(record, "encode", IndexStateError(reason))
