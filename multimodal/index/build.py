"""What is added -> rows in the store: read, encoded and written piece by piece.

Memory holds one batch of items and one chunk of finished rows, whatever is added. A chunk is one transaction: an add
that is interrupted leaves every chunk before it. What is wrong with one item goes to the report and the next one is
taken; what is wrong with the call raises before anything is written (of an iterator: when it is reached).

A bulk engine may replace `encode_each` (threads, processes) and leave alone what is before and after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import MultimodalError
from multimodal.core.space import Space
from multimodal.index.filters import check_metadata, whole_number
from multimodal.index.results import AddReport, Failure
from multimodal.index.sources import Found, entries, read
from multimodal.index.store import Store
from multimodal.index.table import Origin, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK_ROWS = 512
CHUNK_CHARS = 16_000_000  # of text, which is stored with its row

Progress = Callable[[int], None]


def add(
    store: Store,
    space: Space,
    source: object,
    *,
    ids: Sequence[str] | str | None,
    metadata: Mapping[str, Any] | None,
    batch_size: int,
    progress: Progress | None,
) -> AddReport:
    """See Index.add."""
    whole_number(batch_size, "batch_size")
    job = _Job(store, space, batch_size, progress)
    for entry in entries(source, ids, check_metadata(metadata), skip=store.path):
        if isinstance(entry, Failure):
            job.fail(entry)
            continue
        try:
            found = read(entry)
        except Exception as error:  # as in encode_each
            job.fail(Failure(entry.name, "read", _reason(error)))
            continue
        job.take(found)
    return job.finish()


class _Job:
    """The running totals of one add, the batch that is not encoded yet, and the chunk that is not written yet."""

    def __init__(self, store: Store, space: Space, batch_size: int, progress: Progress | None) -> None:
        store.complete()
        self.store, self.space, self.batch_size, self.progress = store, space, batch_size, progress
        self.added = self.updated = 0
        self.failed: list[Failure] = []
        self._batch: list[Found] = []
        self._chunk: dict[str, tuple[Row, NDArray[np.float32]]] = {}
        self._chars = 0

    def fail(self, failure: Failure) -> None:
        self.failed.append(failure)
        self._advance()

    def take(self, found: Found) -> None:
        self._batch.append(found)
        if len(self._batch) == self.batch_size:
            self._encode()

    def finish(self) -> AddReport:
        self._encode()
        self._write()
        self.store.tidy()
        return AddReport(self.added, self.updated, tuple(self.failed))

    def _encode(self) -> None:
        batch, self._batch = self._batch, []
        for found, vector in encode_each(self.space, batch):
            if isinstance(vector, Failure):
                self.fail(vector)
            else:
                self._keep(found, vector)
        if len(self._chunk) >= CHUNK_ROWS or self._chars >= CHUNK_CHARS:
            self._write()

    def _keep(self, found: Found, vector: NDArray[np.float32]) -> None:
        if found.id in self._chunk:
            self.updated += 1  # it came twice: the later one stands, and counts as it would in a later chunk
        row = Row(found.id, found.uri, str(found.item.modality), found.text, found.metadata)
        self._chunk[found.id] = (row, vector)
        self._chars += len(row.text or "")
        self._advance()

    def _write(self) -> None:
        import numpy as np

        if self._chunk:
            rows, vectors = zip(*self._chunk.values(), strict=True)
            known = self.store.known([row.id for row in rows])
            self.store.upsert(rows, [Origin(row.id) for row in rows], np.stack(vectors))
            self.added += len(rows) - len(known)
            self.updated += len(known)
        self._chunk, self._chars = {}, 0

    def _advance(self) -> None:
        if self.progress is not None:
            self.progress(1)


def encode_each(
    space: Space, batch: Sequence[Found]
) -> Iterator[tuple[Found, NDArray[np.float32] | Failure]]:
    """Each of a batch with its vector, or with why it has none; in order.

    If the batch fails as a whole it is halved until the bad one is alone, so the good ones keep the speed of a batch.
    Every Exception of one item is recorded, also of a codec or model that raises no MultimodalError: a job of hours
    must not end by one file, and the report shows what it was.
    """
    if not batch:
        return
    try:
        vectors = space.encode([found.item for found in batch], batch_size=len(batch))
    except Exception as error:
        if len(batch) == 1:
            yield batch[0], Failure(batch[0].name, "encode", _reason(error))
            return
    else:
        yield from zip(batch, vectors, strict=True)
        return
    middle = len(batch) // 2
    yield from encode_each(space, batch[:middle])
    yield from encode_each(space, batch[middle:])


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MultimodalError) else f"{type(error).__name__}: {error}"
