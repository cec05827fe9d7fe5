"""The jobs that change an index: add, sync, try again what failed.

Each holds the lock of the index and keeps its ledger, and can be stopped at any moment and begun again: what is in the
index stays, and is not encoded again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multimodal.core.space import Space
from multimodal.index.ingest.progress import Tally
from multimodal.index.ingest.scheduler import Job, Options
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.folders import absolute
from multimodal.index.ingest.sources.record import Entry, Source, WasRead
from multimodal.index.ingest.sources.resolve import Given
from multimodal.index.results import IngestReport, Metadata, Progress
from multimodal.index.storage.failures import FailureRecord, Ledger
from multimodal.index.storage.filters import check_metadata, whole_number
from multimodal.index.storage.lock import writing
from multimodal.index.storage.table import ItemTable


@dataclass(frozen=True)
class How:
    """What Index.add, sync and retry_failed have in common; see Index.add."""

    dedupe: bool = False
    batch_size: int = 32
    threads: int | None = None
    wait: float | None = None
    progress: Callable[[Progress], None] | None = None

    def __post_init__(self) -> None:
        whole_number(self.batch_size, "batch_size")
        if self.threads is not None:
            whole_number(self.threads, "threads")

    @property
    def options(self) -> Options:
        return Options(self.batch_size, self.threads, self.dedupe)


def add(
    store: ItemTable,
    space: Space,
    source: object,
    how: How,
    *,
    ids: Sequence[str] | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
) -> IngestReport:
    """See Index.add."""
    given = Given(checked(metadata), columns, store.path)
    found = resolve.entries(source, ids, given)
    with begun(store, how, lambda: resolve.length(source, given)) as tally:
        Job(found, store, space, tally, how.options).run()
    return tally.report()


def retry_failed(store: ItemTable, space: Space, how: How) -> IngestReport:
    """See Index.retry_failed."""
    with begun(store, how, lambda: len(Ledger(store.path))) as tally:
        Job(_failed_entries(list(tally.ledger), store.path), store, space, tally, how.options).run()
    return tally.report()


def checked(metadata: Mapping[str, Any] | None) -> Metadata | None:
    """Metadata for all, or None where what is known stays as it is."""
    return None if metadata is None else check_metadata(metadata)


@contextlib.contextmanager
def begun(store: ItemTable, how: How, length: Callable[[], int | None]) -> Iterator[Tally]:
    """Holds the lock, and ends what every job ends with. length: counts what there is to do, in a thread."""
    with writing(store.path, how.wait):
        store.upgrade()
        tally = Tally(Ledger(store.path), how.progress)
        if how.progress is not None:
            _count(tally, length)
        yield tally
        _settle_folders(tally.ledger)
        store.compact()
        tally.ledger.write()


def _count(tally: Tally, length: Callable[[], int | None]) -> None:
    def count() -> None:
        with contextlib.suppress(OSError, ValueError):  # the job itself tells what is wrong
            tally.total = length()

    threading.Thread(target=count, name="multimodal-count", daemon=True).start()


def _settle_folders(ledger: Ledger) -> None:
    """A folder that could not be listed once, and can be now, is no failure any more."""
    for failed in ledger:
        if failed.stage == "walk" and failed.path is not None:
            with contextlib.suppress(OSError), os.scandir(failed.path):
                ledger.settle(failed.key)


def _failed_entries(failures: Sequence[FailureRecord], skip: Path) -> Iterator[Source]:
    """What is in the ledger, as it was given: files by their path, the rest from the table or archive it is in."""
    files = (
        Entry(Path(one.path), one.uri, one.id, one.metadata)
        for one in failures
        if one.path and not one.container
    )
    yield from resolve.expanded(files, Given(skip=skip))
    inside: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, FailureRecord]] = {}
    for one in failures:
        if one.container is not None:
            columns = tuple((one.columns or {}).items())
            inside.setdefault((one.container, columns), {})[one.key] = one
    for (container, columns), wanted in inside.items():
        given = Given(None, dict(columns) or None, skip)
        whole = wanted.get(container)  # it broke off, or could not be read at all
        for entry in resolve.inside(Path(container), None if whole is None else whole.metadata, given):
            if isinstance(entry, WasRead):
                yield entry
            elif isinstance(entry, FailureRecord):
                if whole or entry.key in wanted:
                    yield entry
            elif (known := wanted.get(_key(entry))) is not None:
                yield entry._replace(metadata=known.metadata)
            elif whole is not None:
                yield entry


def _key(entry: Entry) -> str:
    value = entry.value
    return entry.id or (
        str(absolute(value)) if isinstance(value, Path) else getattr(value, "uri", None) or entry.name
    )
