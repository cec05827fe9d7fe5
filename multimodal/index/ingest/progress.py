"""Counters, progress and failures of a job."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable

from multimodal.index.ingest.sources.record import ContainerRead
from multimodal.index.results import Failures, IngestReport, Progress, by_name
from multimodal.index.storage.failures import FailureLog, FailureRecord

RATE_WINDOW_S = 15.0


class JobProgress:
    """Counts each document once. total: how many there will be, once that is known. callback: receives a Progress
    every `interval_s` seconds at most."""

    def __init__(
        self,
        failure_log: FailureLog,
        callback: Callable[[Progress], None] | None = None,
        interval_s: float = 0.1,
    ) -> None:
        self.failure_log = failure_log
        self.total: int | None = None
        self._counts: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._failed: list[FailureRecord] = []
        self._known: list[FailureRecord] = []  # of these, what failed in the same way in an earlier job
        self._recorded = {record.key: record.failure for record in failure_log}
        self._callback = callback
        self._interval_s = interval_s
        self._start = self._last_call = time.monotonic()
        self._done = self._reported = 0
        self._marks: deque[tuple[float, int]] = deque([(self._start, 0)])

    def count(self, key: str, outcome: str) -> None:
        """Counts a document that did not fail. outcome: a field of IngestReport."""
        self._counts[outcome] += 1
        self.failure_log.resolve(key)

    def skip(self, key: str, kind: str) -> None:
        """Counts a file of no known kind. kind: its suffix or name."""
        self._skipped[kind] += 1
        self.failure_log.resolve(key)

    def fail(self, failure: FailureRecord) -> None:
        """Counts a document that failed. It is stored if it can be tried again: a file, or a member of a container."""
        self._failed.append(failure)
        if self._recorded.get(failure.key) == failure.failure:
            self._known.append(failure)
        if failure.path is not None or failure.container is not None:
            self.failure_log.record(failure)
        self.advance()

    def container_read(self, read: ContainerRead) -> None:
        """A table or archive was read to its end: resolves the failures of an earlier reading that did not recur."""
        for failure in self.failure_log:
            if read.resolves(failure):
                self.failure_log.resolve(failure.key)

    def advance(self, n: int = 1) -> None:
        """Adds documents to those that the callback counts as done."""
        self._done += n
        if self._callback is not None and time.monotonic() - self._last_call >= self._interval_s:
            self.notify()

    def notify(self) -> None:
        """Calls the callback, if anything is new."""
        if self._callback is None or self._done == self._reported:
            return
        now = time.monotonic()
        self._marks.append((now, self._done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= RATE_WINDOW_S:
            self._marks.popleft()
        mark, done_then = self._marks[0]
        rate = (self._done - done_then) / max(now - mark, 1e-9)
        step, self._reported, self._last_call = self._done - self._reported, self._done, now
        self._callback(Progress(self._done, step, self.total, len(self._failed), now - self._start, rate))

    def report(self) -> IngestReport:
        """The outcome of the job, with failures in natural order of their names."""
        counts = {
            name: self._counts[name]
            for name in ("added", "updated", "unchanged", "moved", "deleted", "duplicates")
        }
        return IngestReport(
            failed=Failures(by_name(record.failure for record in self._failed)),
            known=Failures(by_name(record.failure for record in self._known)),
            skipped=dict(sorted(self._skipped.items(), key=lambda item: (-item[1], item[0]))),
            **counts,
        )
