"""Admits documents from the source: opens those that are new and splits them into batches of chunks; those that the
index has already are finished here."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

from multimodal.core.space import Space
from multimodal.index.ingest.batching import Batcher
from multimodal.index.ingest.commit import Committer
from multimodal.index.ingest.config import IngestConfig, JobOptions
from multimodal.index.ingest.document import Chunk, Document, OpenedDocument
from multimodal.index.ingest.documents.part import Pages
from multimodal.index.ingest.lookup import Lookup, LookupBatch, LookupResult
from multimodal.index.ingest.reading import OpenResult, Skipped, next_chunks, open_document
from multimodal.index.ingest.sources.record import ContainerRead, SourceOutput
from multimodal.index.ingest.workers import Workers
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.table import IndexedDocument

Opening = tuple[Document, OpenResult]


class Deduplicator:
    """Finds content that the index has, or will have, under another id.

    vanished: documents whose file is gone, by content hash; a file with the same content takes over their rows.
    owners: the id of each content, if duplicates are left out; otherwise None.
    """

    def __init__(self, vanished: dict[str, list[IndexedDocument]], owners: dict[str, str] | None) -> None:
        self.vanished, self.owners = vanished, owners
        self.is_active = bool(vanished) or owners is not None
        self.moved: list[IndexedDocument] = []  # vanished documents whose rows another file took over

    def match(self, document: Document) -> IndexedDocument | str | None:
        """A vanished document, or the id that owns the content. None makes the document the owner of its content."""
        content = document.content_hash or ""
        if vanished := self.vanished.get(content):
            self.moved.append(vanished.pop(0))
            return self.moved[-1]
        if self.owners is None:
            return None
        owner = self.owners.setdefault(content, document.id)
        return None if owner == document.id else owner

    def forget(self, document: Document) -> None:
        """A document failed: it no longer owns its content."""
        if self.owners is not None and self.owners.get(document.content_hash or "") == document.id:
            del self.owners[document.content_hash or ""]


class Admission:
    """Belongs to the job's loop. `source_worker` (one thread) reads the source, `workers` open documents."""

    def __init__(
        self,
        lookup: Lookup,
        space: Space,
        committer: Committer,
        source_worker: Workers,
        workers: Workers,
        deduplicator: Deduplicator,
        options: JobOptions,
    ) -> None:
        self.lookup, self.space, self.committer, self.deduplicator = lookup, space, committer, deduplicator
        batch_size, config = options.batch_size, options.config
        self.source_worker, self.workers, self.config = source_worker, workers, config
        self.pages = options.pages
        self.has_ended = False  # whether the source has no more records
        self.source_error: Exception | None = (
            None  # what ended it early, to be raised when the rest is written
        )
        self.incomplete: set[str] = set()  # tables and archives with rows or members that could not be read
        self.queue: deque[LookupResult] = deque()  # looked up, not opened yet
        self.opening: dict[str, Opening | None] = {}  # by id, in the order of the source
        self.streams: deque[OpenedDocument] = deque()  # documents with more chunks to read
        self.batchers = {
            modality: Batcher(modality, batch_size, config.batch_bytes) for modality in space.modalities
        }
        self.batches: deque[list[Chunk]] = deque()  # full, and not being prepared yet
        self.max_chunks = config.chunks_ahead * batch_size
        self.n_chunks = self.n_held_bytes = 0  # read, and not encoded yet

    @property
    def is_empty(self) -> bool:
        """Whether no document is waiting or being looked up here."""
        waiting = (
            self.queue
            or self.opening
            or self.streams
            or self.batches
            or any(map(len, self.batchers.values()))
        )
        return not waiting and not self.source_worker.busy

    @property
    def has_room(self) -> bool:
        return (
            self.n_chunks + len(self.opening) < self.max_chunks and self.n_held_bytes < self.config.held_bytes
        )

    def fill(self) -> None:
        """Gives the threads as much work as there is room for."""
        while self.queue and self.has_room and not self.workers.is_crowded:
            self.open_next()
        while self.streams and self.has_room and not self.workers.is_crowded:
            document, _, stream = self.streams.popleft()
            if stream is not None and not document.failed:
                self.workers.submit(
                    partial(next_chunks, document, stream, self.config), partial(self.accept, document)
                )
        limit = self.config.lookup_max
        is_crowded = len(self.queue) >= limit or len(self.committer.deferred) >= limit
        if not self.has_ended and not self.source_worker.busy and not is_crowded:
            self.source_worker.submit(self.lookup.next, self.enqueue)

    def flush(self) -> None:
        """Makes batches of all chunks that wait, full or not."""
        for batcher in self.batchers.values():
            self.batches.extend(batcher.flush())

    def retry_deferred(self) -> None:
        """Looks deferred records up again, and admits them."""
        deferred: list[SourceOutput] = [*self.committer.deferred]
        self.committer.deferred = []
        self.source_worker.submit(
            lambda: LookupBatch(self.lookup.stat(deferred), self.has_ended), self.enqueue
        )

    def enqueue(self, batch: LookupBatch) -> None:
        if isinstance(batch.error, Exception):
            self.source_error = batch.error
        elif batch.error is not None:
            raise batch.error
        self.has_ended = batch.is_last
        self.queue.extend(batch.results)

    def open_next(self) -> None:
        """Submits the next new documents to be opened, and finishes those that the index has on the way."""
        documents: list[Document] = []
        while self.queue and len(documents) < self.config.open_batch:
            result = self.queue.popleft()
            if isinstance(result, FailureRecord):
                self.committer.progress.fail(result)
            elif isinstance(result, ContainerRead):
                self.container_read(result)
            elif self.committer.begin(result):
                place = result.record.place
                if place is not None and place != result.id:
                    self.committer.progress.failure_log.resolve(place)  # it can be read now
                if result.has_same_state or result.has_same_content:
                    self.committer.mark_unchanged(result)
                else:
                    documents.append(result)
        if documents:
            self.opening |= dict.fromkeys(document.id for document in documents)
            defer = self.deduplicator.is_active
            work = partial(_open, documents, self.space, self.config, self.pages, defer)
            self.workers.submit(work, self.accept_opened)

    def container_read(self, read: ContainerRead) -> None:
        """A table or archive was read to its end."""
        self.committer.progress.container_read(read)
        if not read.is_complete:
            self.incomplete.add(read.container)

    def accept_opened(self, results: Sequence[Opening]) -> None:
        if not self.deduplicator.is_active:
            for document, opened in results:
                del self.opening[document.id]
                self.accept(document, opened)
            return
        # Which of two files with one content is the first must not depend on the threads.
        self.opening |= {document.id: (document, opened) for document, opened in results}
        while self.opening and (first := next(iter(self.opening.values()))) is not None:
            del self.opening[first[0].id]
            self.accept(*first)

    def accept(self, document: Document, opened: OpenResult) -> None:
        """Takes in an opened document: its chunks if it is new, otherwise its outcome."""
        if isinstance(opened, FailureRecord):
            self.deduplicator.forget(document)
            self.committer.fail(document, opened)
        elif isinstance(opened, Skipped):
            self.committer.skip(document, opened.kind)
        elif opened.chunks is None:
            self.committer.mark_unchanged(document)
        elif (
            not opened.chunks
            and self.deduplicator.is_active
            and not document.pending
            and (same := self.deduplicator.match(document)) is not None
        ):
            if isinstance(same, IndexedDocument):
                document.stored = same
                self.committer.revise(same.provenance.source, document, "moved")
            else:
                self.committer.finish(document, "duplicates")
        else:
            self.accept_chunks(opened)

    def accept_chunks(self, opened: OpenedDocument) -> None:
        document = opened.document
        document.is_read = opened.stream is None
        if opened.stream is not None:
            self.streams.append(opened)
        for chunk in opened.chunks or ():
            document.pending += 1
            self.n_chunks += 1
            self.n_held_bytes += chunk.held_bytes
            self.batches.extend(self.batchers[chunk.item.modality].push(chunk))

    def release(self, chunk: Chunk) -> None:
        """A chunk is encoded, or failed."""
        chunk.document.pending -= 1
        self.n_chunks -= 1
        self.n_held_bytes -= chunk.held_bytes


def _open(
    documents: Sequence[Document], space: Space, config: IngestConfig, pages: Pages, defer: bool
) -> list[Opening]:
    return [
        (document, open_document(document, space, config, pages=pages, defer=defer)) for document in documents
    ]
