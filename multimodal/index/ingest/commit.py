"""Commits each document's outcome exactly once: stored, unchanged, moved, duplicate or failed.

Finished documents are written in commits, new ones in one transaction and replaced ones in another. A transaction holds
all rows of each of its documents: whenever a job is stopped, each document is in the index as a whole or not at all.

New documents are appended. Two facts keep that from storing one twice: the job holds the writer lock, so that no other
process writes; and ids that the job has written since a document was looked up are remembered, and looked up again.
"""

from __future__ import annotations

import time
from functools import partial
from typing import NamedTuple

from multimodal.core.errors import IndexStateError
from multimodal.index import fragments
from multimodal.index.ingest.config import IngestConfig
from multimodal.index.ingest.document import Document
from multimodal.index.ingest.progress import JobProgress
from multimodal.index.ingest.sources.record import SourceRecord
from multimodal.index.ingest.workers import Workers
from multimodal.index.storage.connection import reason_of
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.memory import release_memory
from multimodal.index.storage.schema import Row
from multimodal.index.storage.table import ItemTable

REVISIONS_PER_COMMIT = 256
COMPACT_EVERY = 128  # commits: each adds a small file, and lists all of them
INDEX_EVERY = 8  # commits, after which the B-tree of ids may be due


class Committer:
    """Decides the outcome of each document. Belongs to the job's loop; only the writing itself runs in `writer`, a
    thread.

    Attributes:
        in_flight: Ids of the documents that were started and have no outcome yet.
        n_writes: Writes that are complete, and therefore seen by a lookup that begins now.
        recent: Ids written lately, oldest first, and the number of that write. What was looked up of them before it is
            out of date. An id is kept until every document that comes was looked up after its write.
        deferred: Records that came while their id was in flight, or whose file changed while it was read.
        seen_ids: Every id that came of a member of a container, if the caller sets it to a set.
    """

    def __init__(
        self, table: ItemTable, progress: JobProgress, writer: Workers, config: IngestConfig
    ) -> None:
        self.table, self.progress, self.writer = table, progress, writer
        self.pending = PendingCommit(config)
        self.revisions: list[Revision] = []
        self.in_flight: set[str] = set()
        self.recent: dict[str, int] = {}
        self.deferred: list[SourceRecord] = []
        self.retried: set[str] = set()  # ids whose file changed once while it was read
        self.n_commits = self.n_writes = 0
        self.seen_ids: set[str] | None = None

    def begin(self, document: Document) -> bool:
        """Whether a document may go on now. It is deferred if one with its id is in flight, or was written since the
        document was looked up. Documents come in the order of their lookup."""
        if self.seen_ids is not None and document.record.container is not None:
            self.seen_ids.add(document.id)
        while self.recent and self.recent[oldest := next(iter(self.recent))] <= document.looked_up_at:
            del self.recent[oldest]
        if document.id in self.in_flight or document.id in self.recent:
            self.deferred.append(document.record)
            return False
        self.in_flight.add(document.id)
        return True

    def mark_unchanged(self, document: Document) -> None:
        """The index has a document with this content. Its state and metadata are updated later, if they are new."""
        if document.is_unchanged:
            self.finish(document, "unchanged")
        else:
            stored = document.stored
            has_new_metadata = stored is None or document.metadata != stored.metadata
            self.revise(document.id, document, "updated" if has_new_metadata else "unchanged")

    def revise(self, stored_id: str, document: Document, outcome: str) -> None:
        """The rows stored under `stored_id` are those of a document. It is finished when the revision is written."""
        self.revisions.append(Revision(stored_id, document, outcome))

    def finish(self, document: Document, outcome: str) -> None:
        """A document has an outcome, and nothing is to be written."""
        self.in_flight.remove(document.id)
        self.progress.count(document.id, outcome)
        self.progress.advance()

    def skip(self, document: Document, kind: str) -> None:
        """A file is of no known kind."""
        self.in_flight.remove(document.id)
        self.progress.skip(document.id, kind)
        self.progress.advance()

    def fail(self, document: Document, failure: FailureRecord) -> None:
        """A document failed. If its file changed since it was looked up, it is tried once more as it is then."""
        if document.failed:
            return
        document.failed = True
        document.rows, document.vectors = [], []
        self.in_flight.remove(document.id)
        if document.has_changed_on_disk and document.id not in self.retried:
            self.retried.add(document.id)
            self.deferred.append(document.record)
        else:
            self.progress.fail(failure)

    def push(self, document: Document) -> None:
        """All rows of a document are encoded, and can be written."""
        self.pending.push(document)
        self.progress.advance()
        if self.pending.is_full:
            self.commit()

    def commit(self, *, everything: bool = True) -> None:
        """Submits what is finished to the writer; with everything=False only what fills a commit."""
        if (everything or self.pending.is_full) and (documents := self.pending.take()):
            self.writer.submit(partial(write, self.table, documents), self._written)
        if self.revisions and (everything or len(self.revisions) >= REVISIONS_PER_COMMIT):
            revisions, self.revisions = self.revisions, []
            self.writer.submit(
                partial(write_revisions, self.table, revisions), lambda _: self._revised(revisions)
            )

    def _written(self, result: CommitResult) -> None:
        self.n_commits += 1
        self.n_writes += 1
        if self.n_commits % INDEX_EVERY == 0:
            self.writer.submit(self.table.index_ids, lambda _: None)
        if self.n_commits % COMPACT_EVERY == 0:
            self.writer.submit(self.table.compact, lambda _: None)
        self.writer.submit(release_memory, lambda _: None)
        for document in result.written:
            self._release(document)
            self.progress.count(document.id, "added" if document.stored is None else "updated")
        for document, failure in result.failed:
            self.fail(document, failure)
        self.write_failures()

    def _revised(self, revisions: list[Revision]) -> None:
        self.n_writes += 1
        for _, document, outcome in revisions:
            self._release(document)
            self.progress.count(document.id, outcome)
            self.progress.advance()
        self.write_failures()

    def _release(self, document: Document) -> None:
        self.in_flight.remove(document.id)
        self.recent.pop(document.id, None)  # so that the order is that of the writes
        self.recent[document.id] = self.n_writes

    def write_failures(self) -> None:
        """Raises IndexStateError if the failures cannot be written."""
        try:
            self.progress.failure_log.write()
        except OSError as error:
            raise _cannot_write(self.table, error) from error


class PendingCommit:
    """The finished documents of the next commit."""

    def __init__(self, config: IngestConfig) -> None:
        self._config = config
        self._documents: list[Document] = []
        self._rows = self._chars = 0
        self._start = 0.0

    def push(self, document: Document) -> None:
        if not self._documents:
            self._start = time.monotonic()
        self._documents.append(document)
        self._rows += len(document.rows)
        self._chars += sum(len(row.text or "") for row in document.rows)

    @property
    def is_full(self) -> bool:
        if not self._documents:
            return False
        config = self._config
        is_late = time.monotonic() - self._start >= config.commit_interval_s
        return is_late or self._rows >= config.commit_rows or self._chars >= config.commit_chars

    def take(self) -> list[Document]:
        """Removes and returns the documents."""
        documents, self._documents = self._documents, []
        self._rows = self._chars = 0
        return documents


class CommitResult(NamedTuple):
    """The documents that are in the index now, and those that could not be stored."""

    written: list[Document]
    failed: list[tuple[Document, FailureRecord]]


class Revision(NamedTuple):
    """A document whose rows are stored under `stored_id`, and need only another id, state or metadata."""

    stored_id: str
    document: Document
    outcome: str


def write(table: ItemTable, documents: list[Document]) -> CommitResult:
    """Writes new documents in one transaction, those of one row that replace one in another, the rest in a third.

    A document that cannot be stored is isolated by halving, and the others are written.
    Raises IndexStateError if nothing can be written: the disk is full, or the folder is gone.
    """
    new: list[Document] = []
    one_row_each: list[Document] = []
    others: list[Document] = []
    for document in documents:
        if document.stored is None:
            new.append(document)
        else:
            (one_row_each if _replaces_one_row(document) else others).append(document)
    results = [_write(table, some) for some in (new, one_row_each, others) if some]
    return CommitResult(
        [document for result in results for document in result.written],
        [failure for result in results for failure in result.failed],
    )


def _replaces_one_row(document: Document) -> bool:
    return document.stored is not None and document.stored.is_replaced_by([row.id for row in document.rows])


def _write(table: ItemTable, documents: list[Document]) -> CommitResult:
    """Writes documents of one of the kinds of `write` in one transaction."""
    try:
        _upsert(table, documents)
    except (TypeError, ValueError) as error:  # before anything reached the disk
        if len(documents) == 1:
            return CommitResult([], [(documents[0], documents[0].failure("write", error))])
        middle = len(documents) // 2
        first, second = _write(table, documents[:middle]), _write(table, documents[middle:])
        return CommitResult(first.written + second.written, first.failed + second.failed)
    except (OSError, RuntimeError) as error:
        raise _cannot_write(table, error) from error
    return CommitResult(documents, [])


def _upsert(table: ItemTable, documents: list[Document]) -> None:
    import numpy as np

    rows = [
        row._replace(metadata=document.metadata | row.metadata)
        for document in documents
        for row in document.rows
    ]
    provenances = [document.provenance for document in documents for _ in document.rows]
    vectors = np.stack([vector for document in documents for vector in document.vectors])
    are_new = all(document.stored is None for document in documents)
    one_row_each = all(map(_replaces_one_row, documents))
    replacing = [] if are_new or one_row_each else [document.id for document in documents]
    table.upsert(rows, provenances, vectors, replacing=replacing, are_new=are_new, one_row_each=one_row_each)


def write_revisions(table: ItemTable, revisions: list[Revision]) -> None:
    """Gives stored rows another id, state or metadata, and keeps their vectors. One transaction.

    Raises IndexStateError if nothing can be written.
    """
    document_of = {revision.stored_id: revision.document for revision in revisions}
    try:
        rows, provenances, vectors = table.fetch_rows(is_in("source", list(document_of), "documents"))
        new_rows, new_provenances = [], []
        for row, provenance in zip(rows, provenances, strict=True):
            document = document_of[provenance.source]
            new_rows.append(_revised_row(row, provenance.source, document))
            new_provenances.append(
                document.provenance._replace(content=document.content_hash or provenance.content)
            )
        if new_rows:
            moved = [
                id_ for old, document, _ in revisions if old != document.id for id_ in (old, document.id)
            ]
            one_row_each = not moved and len(rows) == len({provenance.source for provenance in provenances})
            table.upsert(new_rows, new_provenances, vectors, replacing=moved, one_row_each=one_row_each)
    except (OSError, RuntimeError) as error:
        raise _cannot_write(table, error) from error


def _revised_row(row: Row, stored_id: str, document: Document) -> Row:
    fragment = row.id.removeprefix(stored_id)
    metadata = document.metadata | fragments.metadata_of(fragment, document.uri)
    return row._replace(id=document.id + fragment, uri=document.uri, metadata=metadata)


def _cannot_write(table: ItemTable, error: Exception) -> IndexStateError:
    reason = reason_of(table.path, error)
    return IndexStateError(
        f"cannot write to the index at {str(table.path)!r} ({reason}); earlier commits are kept: free space or repair "
        "the folder, then repeat the call to resume"
    )
