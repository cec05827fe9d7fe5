"""Runs one job: source records to stored rows, in stages that overlap.

One thread reads the source and looks records up in the index (lookup.py). Others open files, decode and prepare
(reading.py, encode.py). This loop, in the caller's thread, runs the model on whatever batch is ready first, so a slow
file delays only itself, and hands finished documents to a thread that writes (commit.py). The loop alone decides and
counts (admission.py, commit.py). What waits between two stages is bounded in number and bytes, so memory does not grow
with the source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

from multimodal.core.encoder import Encoder
from multimodal.core.errors import IndexStateError
from multimodal.core.space import Space
from multimodal.index.ingest.admission import Admission, Deduplicator
from multimodal.index.ingest.commit import Committer
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.encode import FailedChunk, Prepared, forward, prepare
from multimodal.index.ingest.encoder_faults import EncoderFaults
from multimodal.index.ingest.lookup import Lookup
from multimodal.index.ingest.progress import JobProgress
from multimodal.index.ingest.sources.record import SourceOutput
from multimodal.index.ingest.workers import Inbox, Workers, resolve
from multimodal.index.storage.table import IndexedDocument, ItemTable

MAX_COMMITS_WAITING = 2
MAX_THREADS = 16


class Job:
    """Ingests records into a table. The caller holds the lock of the index.

    vanished: documents whose file is gone, by content hash; a file with the same content takes over their rows.
    """

    def __init__(
        self,
        records: Iterator[SourceOutput],
        table: ItemTable,
        space: Space,
        progress: JobProgress,
        options: JobOptions,
        vanished: Mapping[str, list[IndexedDocument]] | None = None,
    ) -> None:
        self.space, self.progress, self.config = space, progress, options.config
        self.inbox: Inbox = Inbox()
        self.source_worker = Workers(1, self.inbox, "source")
        self.workers = Workers(options.threads or min(MAX_THREADS, _n_cores()), self.inbox, "prepare")
        self.writer = Workers(1, self.inbox, "write")
        self.committer = Committer(table, progress, self.writer, self.config)
        self.deduplicator = Deduplicator(dict(vanished or {}), _owners(table) if options.dedupe else None)
        self.admission = Admission(
            Lookup(records, table, self.config, lambda: self.committer.n_writes),
            space,
            self.committer,
            self.source_worker,
            self.workers,
            self.deduplicator,
            options,
        )
        self.encoder_faults = EncoderFaults(table)
        self.n_preparing = self.n_decoded_bytes = 0  # batches in preparation, and the bytes they decode to

    def run(self) -> None:
        """Runs to the end. An error of the source is raised when all records before it are written. Ctrl-C, an index
        that cannot be written and an encoder that always fails end the job at once; what is finished is kept."""
        try:
            while self.fill():
                resolve(self.inbox.get())
            self.committer.write_failures()
            self.progress.notify()
            self.encoder_faults.check()
            if self.admission.source_error is not None:
                raise self.admission.source_error
        except IndexStateError:  # nothing more can be written
            raise
        except BaseException:
            self.abandon()
            raise
        finally:
            for workers in (self.source_worker, self.workers, self.writer):
                workers.stop()
            self.writer.join()  # while the index is still locked

    def fill(self) -> bool:
        """Gives every thread the work there is -> whether any is running."""
        if self.writer.busy <= MAX_COMMITS_WAITING:
            self.prepare()
            self.admission.fill()
            if not self.workers.busy:  # nothing more comes for now: encode the batches that are not full
                self.admission.flush()
                self.prepare()
        is_idle = self.admission.is_empty and not self.workers.busy
        self.committer.commit(everything=is_idle)
        if is_idle and self.committer.deferred and not self.writer.busy:
            self.admission.retry_deferred()
        return bool(self.source_worker.busy or self.workers.busy or self.writer.busy)

    def prepare(self) -> None:
        """Submits batches for preparation, as long as they fit in memory."""
        batches = self.admission.batches
        while batches and self.n_preparing <= self.workers.n + 1:
            n_bytes = sum(chunk.decoded_bytes for chunk in batches[0])
            if self.n_decoded_bytes and self.n_decoded_bytes + n_bytes > self.config.decoded_bytes:
                return
            self.n_decoded_bytes += n_bytes
            self.n_preparing += 1
            chunks = batches.popleft()
            encoder = self.space.encoder_for(chunks[0].item.modality)
            self.workers.submit(partial(prepare, encoder, chunks), partial(self.encode, encoder, n_bytes))

    def encode(self, encoder: Encoder, n_bytes: int, prepared: Prepared) -> None:
        """Runs the model, while the threads go on with their work."""
        self.n_decoded_bytes -= n_bytes
        self.n_preparing -= 1
        for batch, chunks in prepared.batches:
            encoded, failed = forward(encoder, batch, chunks)
            if encoded:
                self.encoder_faults.succeeded(encoder.modality)
            self.fail(failed)
            for chunk, vector in encoded:
                self.admission.release(chunk)
                document = chunk.document
                if not document.failed:
                    document.rows.append(chunk.row)
                    document.vectors.append(vector)
                    if document.is_read and not document.pending:
                        self.committer.push(document)
        self.fail(prepared.failed)

    def fail(self, chunks: list[FailedChunk]) -> None:
        """Fails the documents of chunks that could not be encoded."""
        for chunk, stage, error in chunks:
            self.admission.release(chunk)
            self.deduplicator.forget(chunk.document)
            failure = chunk.document.failure(stage, error)
            if chunk.row.start_s is not None:
                failure = replace(failure, reason=f"{failure.reason} (at {chunk.row.start_s:g} s)")
            self.committer.fail(chunk.document, failure)
        self.encoder_faults.failed(chunks)

    def abandon(self) -> None:
        """Ends the job early, and writes what is finished."""
        self.source_worker.stop()
        self.workers.stop()
        self.committer.commit()
        self.writer.join()
        while not self.inbox.empty():
            done = self.inbox.get()
            if done.by is self.writer:
                resolve(done)
        self.committer.write_failures()


def _owners(table: ItemTable) -> dict[str, str]:
    return {
        provenance.content: provenance.source for _, provenance in table.provenances() if provenance.content
    }


def _n_cores() -> int:
    """Cores that this process may use, where the system tells."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1
