"""IndexWorker: encodes units of records on a machine of the cluster.

It runs the same Job as a single machine does. In the place of the table the job has a FragmentTable, which reads the
index and writes fragments; in the place of its progress an OutcomeLog. What both collect goes to the driver in parts,
each of which is complete: the outcomes in it hold when its fragments are in the index.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.cluster.connection import WorkerSize
from multimodal.core.cluster.pool import Inbox
from multimodal.core.errors import MultimodalWarning
from multimodal.core.limits import Limits, limits
from multimodal.core.remote.access import StoreAccess
from multimodal.core.remote.path import AnyPath
from multimodal.core.space import Space
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.document import OpenedDocument, stat_document
from multimodal.index.ingest.engines.decoders import Decoders, RemoteDecoder
from multimodal.index.ingest.engines.fragments import FragmentWriter
from multimodal.index.ingest.engines.units import (
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
)
from multimodal.index.ingest.jobs import record_id
from multimodal.index.ingest.lookup import memory_size
from multimodal.index.ingest.reading import open_document
from multimodal.index.ingest.scheduler import Job
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import ContainerRead, Shard, SourceOutput, SourceRecord
from multimodal.index.opening import load_space, matching_space
from multimodal.index.storage import schema
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import IndexedDocument, ItemTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLAIM_RECORDS, CLAIM_BYTES, CLAIM_WAIT_S = 512, 8 << 20, 0.5  # of a table or archive, looked at together


class WorkerSettings(NamedTuple):
    """What each worker of a job is built from.

    space: that of the index, or a part of which is; None for the one that the index names. runtime: options of `load`
    for that. size: what the worker has. access: how the driver reaches object stores.
    """

    path: AnyPath
    space: Space | None
    runtime: dict[str, Any]
    size: WorkerSize
    options: JobOptions
    limits: Limits
    access: StoreAccess


class IndexWorker:
    """Encodes units. One per process."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.table = ItemTable.open(settings.access.take_over(settings.path))
        space = _load_space(settings, self.table)
        if settings.space is not None and settings.size.n_gpus:
            space = space.to("auto")
        self.space = matching_space(self.table, space)
        self.options, self.n_spare_decoders = settings.options, settings.size.max_decoders
        self.decoders = _decoders(settings)
        if self.decoders is not None:
            self.decoders.serve(self.space)
            self.options = replace(self.options, threads=self.decoders.n_threads)
        self.writer = FragmentWriter(self.table)
        self.sampler = Sampler(self.table)

    def run(self, unit: Unit, inbox: Inbox) -> Iterator[Any]:
        """Yields Written, Claim, Deferred and Warned, or Hashed."""
        if unit.hash_only:
            yield self._hash(unit)
            return
        outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        thread = threading.Thread(target=self._run_job, args=(unit, inbox, outbox), daemon=True)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", MultimodalWarning)
            thread.start()
            while (message := outbox.get()) is not None and not isinstance(message, BaseException):
                yield message
            thread.join()
        self._add_decoders()
        for warning in caught:
            if issubclass(warning.category, MultimodalWarning):
                yield Warned(warning.category, str(warning.message))
        if isinstance(message, BaseException):
            raise message

    def _add_decoders(self) -> None:
        """Starts the decoders that the times of the units so far call for, and that there are cores for."""
        if self.decoders is None or not self.n_spare_decoders:
            return
        n = min(self.decoders.n_missing(self.settings.size.n_threads), self.n_spare_decoders)
        if n:
            self.n_spare_decoders -= n
            self.decoders.add(_start_decoders(self.settings, n))
            self.options = replace(self.options, threads=self.decoders.n_threads)

    def _hash(self, unit: Unit) -> Hashed:
        """The contents of documents, as the job itself finds them. It warns of them later."""
        options = self.options

        def content_of(record: SourceRecord) -> tuple[str, str | None]:
            document = stat_document(record)
            if isinstance(document, FailureRecord):
                return document.key, None
            opened = open_document(document, self.space, options.config, pages=options.pages, defer=True)
            return document.id, document.content_hash if isinstance(opened, OpenedDocument) else None

        with (
            self._limits(),
            warnings.catch_warnings(),
            ThreadPoolExecutor(options.threads or 1, "multimodal-hash") as pool,
        ):
            warnings.simplefilter("ignore", MultimodalWarning)
            return Hashed(dict(pool.map(content_of, unit.records)))

    def _limits(self) -> contextlib.AbstractContextManager[Limits]:
        given = self.settings.limits
        return limits(max_pixels=given.max_pixels, max_seconds=given.max_seconds, max_bytes=given.max_bytes)

    def _run_job(self, unit: Unit, inbox: Inbox, outbox: queue.SimpleQueue[Any]) -> None:
        """Puts the messages of a unit, and None or an error at the end. Runs in a thread."""

        def ask(claim: Claim) -> set[str]:
            outbox.put(claim)
            answer: set[str] = inbox.get()
            return answer

        table = FragmentTable(self.table, self.writer, unit.known, self.sampler)
        log = OutcomeLog(table, outbox.put)
        records = _Records(unit, ask, outbox.put)
        with self._limits():
            try:
                Job(iter(records), table, self.space, log, self.options).run()  # type: ignore[arg-type]
                log.write()
            except BaseException as error:
                outbox.put(error)
            else:
                outbox.put(None)


def _load_space(settings: WorkerSettings, table: ItemTable) -> Space:
    if settings.space is not None:
        return settings.space
    default = {"device": "auto"} if settings.size.n_gpus else {}
    return load_space(table, **(default | settings.runtime))


def _decoders(settings: WorkerSettings) -> Decoders | None:
    size = settings.size
    if not (size.n_decoders or size.max_decoders):
        return None
    return Decoders(_start_decoders(settings, size.n_decoders), settings.options.threads or size.n_threads)


def _start_decoders(settings: WorkerSettings, n: int) -> list[RemoteDecoder]:
    size = settings.size
    of_decoder = settings._replace(size=size._replace(n_gpus=0), runtime=settings.runtime | {"device": "cpu"})
    build = partial(_space_of_decoder, of_decoder)
    return [RemoteDecoder(build, size.n_cpus, size.n_threads, settings.limits) for _ in range(n)]


def _space_of_decoder(settings: WorkerSettings) -> Space:
    return _load_space(settings, ItemTable.open(settings.access.take_over(settings.path)))


class Sampler:
    """The first vectors that a worker encodes, of an index that keeps some beside its int8 codes."""

    def __init__(self, table: ItemTable) -> None:
        self._n = table.vectors.n_sample_rows_wanted

    def take(self, vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Those of vectors (n, dim) that the index may keep."""
        some = vectors[: self._n]
        self._n -= len(some)
        return (some.copy(),) if len(some) else ()


class FragmentTable:
    """What a Job sees as the table of the index: it reads the index, and what it writes are fragments."""

    def __init__(
        self,
        table: ItemTable,
        writer: FragmentWriter,
        known: dict[str, IndexedDocument | None],
        sampler: Sampler,
    ) -> None:
        self._table, self._writer, self._known, self._sampler = table, writer, known, sampler
        self.path, self.index_metadata = table.path, table.index_metadata
        self.fetch_rows = table.fetch_rows
        self.has_scattered_ids = False  # the driver looks up what is not in a table or an archive
        self._lock = threading.Lock()
        self._waiting: list[
            tuple[set[str], Written]
        ] = []  # with the documents of which no outcome is counted yet

    def documents(self, sources: Sequence[str]) -> dict[str, IndexedDocument]:
        """See ItemTable.documents. What the driver has looked up is not looked up again."""
        unknown = [source for source in sources if source not in self._known]
        documents = self._table.documents(unknown) if unknown else {}
        for source in sources:
            if (indexed := self._known.get(source)) is not None:
                documents[source] = indexed
        return documents

    def count(self, condition: str | None = None) -> int:
        """See ItemTable.count."""
        return self._table.count(condition)

    def upsert(
        self,
        rows: Sequence[Row],
        provenances: Sequence[Provenance],
        vectors: NDArray[np.float32],
        *,
        replacing: Sequence[str] = (),
        are_new: bool = False,
        one_row_each: bool = False,
    ) -> None:
        """See ItemTable.upsert. The rows are in the index when the driver has committed them."""
        ids = [row.id for row in rows]
        schema.check_distinct(ids)
        sources = {provenance.source for provenance in provenances}
        replaces = [] if are_new else sorted(sources.union(replacing))
        replaces_rows = ids if self._table.has_other_rows(ids, provenances) else []
        data = schema.to_arrow(rows, provenances, vectors, self.index_metadata, self._table.vectors)
        written = Written(self._writer.write(data), replaces, replaces_rows, [], self._sampler.take(vectors))
        with self._lock:
            self._waiting.append((sources, written))

    def index_ids(self) -> None:
        """Does nothing: the driver maintains the table."""

    def compact(self) -> None:
        """Does nothing: the driver maintains the table."""

    def counted(self, source: str) -> None:
        """The outcome of a document is counted."""
        with self._lock:
            for sources, _ in self._waiting:
                sources.discard(source)

    def take(self) -> list[Written]:
        """Removes and returns what was written of documents whose outcomes are all counted."""
        with self._lock:
            done = [written for sources, written in self._waiting if not sources]
            self._waiting = [pair for pair in self._waiting if pair[0]]
        return done


class OutcomeLog:
    """What a Job sees as its progress and as its failure log: it collects the outcomes of a unit for the driver."""

    def __init__(self, table: FragmentTable, put: Callable[[Written], None]) -> None:
        self._table, self._put = table, put
        self._outcomes: list[Outcome] = []
        self.failure_log = self

    def count(self, key: str, outcome: str) -> None:
        """See JobProgress."""
        self._outcomes.append(Count(key, outcome))
        self._table.counted(key)

    def skip(self, key: str, kind: str) -> None:
        """See JobProgress."""
        self._outcomes.append(Skip(key, kind))

    def fail(self, failure: FailureRecord) -> None:
        """See JobProgress."""
        self._outcomes.append(failure)

    def container_read(self, read: ContainerRead) -> None:
        """See JobProgress."""
        self._outcomes.append(read)

    def resolve(self, key: str) -> None:
        """See FailureLog."""
        self._outcomes.append(Resolve(key))

    def advance(self, n: int = 1) -> None:
        """Does nothing: the driver counts what is done by its outcomes."""

    def notify(self) -> None:
        """Does nothing: the driver reports progress."""

    def write(self) -> None:
        """Hands the driver what is complete. Called by the job after each write, and at its end."""
        written = self._table.take()
        if not written and not self._outcomes:
            return
        outcomes, self._outcomes = self._outcomes, []
        self._put(
            Written(
                [fragment for part in written for fragment in part.fragments],
                [source for part in written for source in part.replaces],
                [id_ for part in written for id_ in part.replaces_rows],
                outcomes,
                tuple(vectors for part in written for vectors in part.samples),
            )
        )


class _Records:
    """The records of a unit, with its tables and archives expanded. Those without an id of their own claim theirs."""

    def __init__(self, unit: Unit, ask: Callable[[Claim], set[str]], put: Callable[[Deferred], None]) -> None:
        self._unit, self._ask, self._put = unit, ask, put

    def __iter__(self) -> Iterator[SourceOutput]:
        for record in self._unit.records:
            if not isinstance(record.value, Shard):
                yield record
                continue
            path, metadata, options, _ = record.value
            for batch in _batches(resolve.members_or_shard(path, metadata, options)):
                yield from self._claimed(f"{path}#", batch)

    def _claimed(self, prefix: str, batch: list[SourceOutput]) -> Iterator[SourceOutput]:
        """The records of a batch that may be added now. Ids that begin with the name of the table are its own."""
        ids = {
            position: record_id(record)
            for position, record in enumerate(batch)
            if isinstance(record, SourceRecord)
        }
        shared = {id_ for id_ in ids.values() if not id_.startswith(prefix)} - self._unit.settled
        refused = self._ask(Claim(sorted(shared))) if shared else set()
        deferred: list[SourceRecord] = []
        for position, record in enumerate(batch):
            id_ = ids.get(position) or (record.key if isinstance(record, FailureRecord) else "")
            if id_ in self._unit.settled:
                continue
            if id_ in refused and isinstance(record, SourceRecord):
                deferred.append(record)
                continue
            if id_ in shared:
                refused.add(id_)  # another row of this batch with the same id comes after this one
            yield record
        if deferred:
            self._put(Deferred(deferred))


def _batches(records: Iterator[SourceOutput]) -> Iterator[list[SourceOutput]]:
    """Records in lists; what precedes an error of the source comes before it."""
    batch: list[SourceOutput] = []
    n_bytes, start = 0, time.monotonic()
    try:
        for record in records:
            batch.append(record)
            n_bytes += memory_size(record.value) if isinstance(record, SourceRecord) else 0
            is_late = time.monotonic() - start >= CLAIM_WAIT_S
            if len(batch) >= CLAIM_RECORDS or n_bytes >= CLAIM_BYTES or is_late:
                yield batch
                batch, n_bytes, start = [], 0, time.monotonic()
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
