"""The books of one job: what became of each thing, what to tell whoever watches, and what the ledger must hear."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from multimodal.index.results import IngestReport, Progress, by_name
from multimodal.index.storage.failures import FailureRecord, Ledger

TELL_EVERY_S = 0.1
RATE_OVER_S = 15.0


class Tally:
    """Counts things as they end, each once. total: how many there will be, once that is known."""

    def __init__(self, ledger: Ledger, progress: Callable[[Progress], None] | None = None) -> None:
        self.ledger = ledger
        self.total: int | None = None
        self._counts: Counter[str] = Counter()
        self._failed: list[FailureRecord] = []
        self._progress = progress
        self._began = self._told_at = time.monotonic()
        self._done = self._told = 0
        self._marks: deque[tuple[float, int]] = deque([(self._began, 0)])

    def end(self, key: str, how: str) -> None:
        """A thing ended well: `how` is a field of IngestReport."""
        self._counts[how] += 1
        self.ledger.settle(key)

    def fail(self, failed: FailureRecord) -> None:
        """A thing failed. The ledger keeps what can be found again: a file, or what is in a table or an archive."""
        self._failed.append(failed)
        if failed.path is not None or failed.container is not None:
            self.ledger.record(failed)
        self.advance()

    def advance(self, n: int = 1) -> None:
        """So many things are dealt with, as far as whoever watches needs to know."""
        self._done += n
        if self._progress is not None and time.monotonic() - self._told_at >= TELL_EVERY_S:
            self.tell()

    def tell(self) -> None:
        """Calls the progress function, if anything is new."""
        if self._progress is None or self._done == self._told:
            return
        now = time.monotonic()
        self._marks.append((now, self._done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= RATE_OVER_S:
            self._marks.popleft()
        then, before = self._marks[0]
        rate = (self._done - before) / max(now - then, 1e-9)
        step, self._told, self._told_at = self._done - self._told, self._done, now
        self._progress(Progress(self._done, step, self.total, len(self._failed), now - self._began, rate))

    def report(self) -> IngestReport:
        """What became of everything; failures in the order of their names."""
        failed = by_name(one.failure for one in self._failed)
        return IngestReport(self._counts["added"], self._counts["updated"], failed,
                         *(self._counts[how] for how in ("unchanged", "moved", "deleted", "duplicates")))  # fmt: skip
