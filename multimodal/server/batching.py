"""Batches over concurrent requests: one lane for each encoder, without a timer.

A lane starts the moment it is free and takes what waits, so a lone request is never delayed and a busy lane fills its
batches by itself. Of the first 8 batches' worth of waiting items, sorted by cost, it takes a window of similar cost
around the oldest item: little padding, and no item waits for ever.

Two threads serve a lane. One computes. The other prepares the next batch meanwhile, if preparing takes long enough to
be worth it (decoding images does, tokenising a few words does not: taking them early would only make batches smaller).

An item that fails to decode fails alone, and a batch that fails as a whole is computed again item by item. Items whose
request was cancelled are not computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.encoder import Encoder
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.server.config import Batching
from multimodal.server.errors import ApiError, overloaded
from multimodal.server.metrics import LaneMetrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOOKAHEAD = 8  # batches' worth of waiting items that a window is chosen from
MIN_PREPARE_SHARE = 0.25  # of the time to compute, from which on the next batch is prepared meanwhile
SMOOTHING = 0.2  # of the two durations
log = logging.getLogger(__name__)


class ItemError(Exception):
    """One item of a job cannot be encoded.

    Attributes:
        position: Of the item in its job.
        error: The reason.
    """

    def __init__(self, position: int, error: Exception) -> None:
        super().__init__(str(error))
        self.position, self.error = position, error


class Job:
    """The items of one request that go to one lane. Its future gets their unit vectors (n, dim) or an exception."""

    __slots__ = ("future", "loop", "pending", "rows", "since")

    def __init__(
        self, n_items: int, future: asyncio.Future[Any] | Future[Any], loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self.future, self.loop = future, loop
        self.pending = n_items
        self.rows: Any = None
        self.since = time.perf_counter()


class Waiting(NamedTuple):
    """An item in the queue of a lane."""

    job: Job
    position: int
    item: Item
    cost: int


class Prepared(NamedTuple):
    """A batch that is ready to compute."""

    entries: list[Waiting]
    batch: Any


def choose_window(costs: Sequence[int], max_items: int, max_cost: int, *, padded: bool) -> list[int]:
    """Chooses which of the waiting items make the next batch; the first one is always among them.

    Args:
        costs: The cost of each waiting item, oldest first.
        max_items: The most items of a batch.
        max_cost: The most cost of a batch; a single item may exceed it.
        padded: Each item costs as much as the most expensive one of its batch, as padded texts do.

    Returns:
        Positions in `costs`, neighbours in the order of cost.
    """
    order = sorted(range(len(costs)), key=costs.__getitem__)
    low = high = order.index(0)  # the window, both ends included
    total = costs[0]
    while high - low + 1 < max_items:
        n = high - low + 2
        options = []
        for place in (low - 1, high + 1):
            if 0 <= place < len(order):
                cost = costs[order[place]]
                grown = max(cost, costs[order[high]]) * n if padded else total + cost
                if grown <= max_cost:
                    options.append((abs(cost - costs[0]), place, grown))
        if not options:
            break
        _, place, total = min(options)
        low, high = min(low, place), max(high, place)
    return order[low : high + 1]


class Lane:
    """The queue of one encoder.

    Args:
        encoder: The encoder of these items.
        batching: The sizes of batches and of the queue.
        metrics: Counts what happens.
        context: Entered in the threads of the lane around preparing, to set the limits of decoding.
    """

    def __init__(
        self,
        encoder: Encoder,
        batching: Batching,
        metrics: LaneMetrics,
        context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
    ) -> None:
        self.encoder = encoder
        self._batching, self._metrics, self._context = batching, metrics, context
        self._max_cost, self._padded = {
            Modality.TEXT: (batching.tokens, True),
            Modality.IMAGE: (batching.pixels, False),
        }.get(encoder.modality, (max(1, int(batching.seconds)), False))
        self._waiting: deque[Waiting] = deque()
        self._prepared: deque[Prepared] = deque()
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # for the computing thread
        self._ahead = threading.Condition(self._lock)  # for the preparing thread
        self._preparing = self._computing = self._closed = self._is_waking = False
        self._prepare_s, self._compute_s = 0.0, 1.0
        self._threads: list[threading.Thread] = []

    def __len__(self) -> int:
        return len(self._waiting)

    async def encode(self, items: Sequence[Item], costs: Sequence[int]) -> NDArray[np.float32]:
        """Encodes items of one request. Cancelling the call removes them from the queue.

        Args:
            items: At least one item of the encoder's modality.
            costs: The cost of each: tokens, pixels or seconds.

        Returns:
            float32 (n, dim), rows of length one.

        Raises:
            ItemError: An item cannot be encoded.
            ApiError: The queue is full (429), or the server stops (503).
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._submit(Job(len(items), future, loop), items, costs)
        if not self._is_waking:  # behind the requests that have arrived already, so that they share the batch
            self._is_waking = True
            loop.call_soon(self._wake)
        return await future

    def encode_in_thread(self, items: Sequence[Item], costs: Sequence[int]) -> NDArray[np.float32]:
        """As `encode`, for a thread other than that of the event loop; waits for the result."""
        future: Future[Any] = Future()
        self._submit(Job(len(items), future, None), items, costs)
        self._wake()
        return future.result()

    def _submit(self, job: Job, items: Sequence[Item], costs: Sequence[int]) -> None:
        with self._lock:
            if self._closed:
                raise ApiError(503, "the server is stopping; try another one", code="stopping")
            if len(self._waiting) >= self._batching.capacity:
                self._metrics.dropped("overload", len(items))
                raise overloaded(len(self._waiting))
            if not self._threads:
                self._start()
            for position, (item, cost) in enumerate(zip(items, costs, strict=True)):
                self._waiting.append(Waiting(job, position, item, cost))

    def _wake(self) -> None:
        """Wakes a thread if there is work for it."""
        with self._lock:
            self._is_waking = False
            if not self._computing:
                self._work.notify()
            elif self._may_prepare():
                self._ahead.notify()

    def _start(self) -> None:
        name = f"{self.encoder.modality} lane"
        for target in (self._run_compute, self._run_prepare):
            thread = threading.Thread(target=target, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Refuses new items and waits until those that wait are computed."""
        with self._lock:
            self._closed = True
            self._work.notify_all()
            self._ahead.notify_all()
        for thread in self._threads:
            thread.join()

    # --- threads ----------------------------------------------------------------------------------------

    def _run_compute(self) -> None:
        while True:
            window: list[Waiting] = []
            with self._lock:
                self._computing = False
                while not self._prepared and (self._preparing or not self._waiting):
                    if self._closed and not self._preparing:
                        return
                    self._work.wait()
                self._computing = True
                ready = self._prepared.popleft() if self._prepared else None
                if ready is None:
                    window = self._take()
                if self._may_prepare():
                    self._ahead.notify()
            if ready is None:
                ready = self._prepare(window)
            if ready is not None:
                self._compute(ready)

    def _run_prepare(self) -> None:
        while True:
            with self._lock:
                while not self._may_prepare():
                    if self._closed:
                        return
                    self._ahead.wait()
                self._preparing = True
                window = self._take()
            ready = self._prepare(window)
            with self._lock:
                self._preparing = False
                if ready is not None:
                    self._prepared.append(ready)
                self._work.notify()

    def _may_prepare(self) -> bool:
        """Whether the next batch is to be prepared now. Called with the lock."""
        return (
            self._computing
            and bool(self._waiting)
            and not self._preparing
            and not self._prepared
            and self._prepare_s > MIN_PREPARE_SHARE * self._compute_s
            and N_CORES > 1
        )

    def _take(self) -> list[Waiting]:
        """Removes the next batch from the queue. Called with the lock; empty if all that waited was cancelled."""
        waiting, max_items = self._waiting, self._batching.items
        entries: list[Waiting] = []
        while waiting and len(entries) < LOOKAHEAD * max_items:
            entry = waiting.popleft()
            if entry.job.future.done():  # cancelled, or failed by another of its items
                self._metrics.dropped("cancelled", 1)
            else:
                entries.append(entry)
        if not entries:
            return []
        costs = [entry.cost for entry in entries]
        highest = max(costs)
        if len(entries) <= max_items and (
            (highest * len(entries) if self._padded else sum(costs)) <= self._max_cost
        ):
            return entries
        chosen = set(choose_window(costs, max_items, self._max_cost, padded=self._padded))
        waiting.extendleft(reversed([entry for place, entry in enumerate(entries) if place not in chosen]))
        return [entries[place] for place in sorted(chosen)]

    def _prepare(self, entries: list[Waiting]) -> Prepared | None:
        """Prepares a batch. Items that cannot be prepared fail, and the others make a smaller batch."""
        if not entries:
            return None
        start = time.perf_counter()
        try:
            with self._context():
                prepared = self._prepare_good(entries)
        except Exception as error:  # a fault that no single item shows
            self._fail(entries, error)
            return None
        n_prepared = 0 if prepared is None else len(prepared.entries)
        if n_prepared:
            self._prepare_s += SMOOTHING * ((time.perf_counter() - start) / n_prepared - self._prepare_s)
        return prepared

    def _prepare_good(self, entries: list[Waiting]) -> Prepared | None:
        try:
            return Prepared(entries, self.encoder.prepare([entry.item for entry in entries]))
        except Exception as error:
            if len(entries) == 1:
                self._fail(entries, error)
                return None
        good = []
        for entry in entries:
            try:
                self.encoder.prepare([entry.item])
            except Exception as error:
                self._fail([entry], error)
            else:
                good.append(entry)
        return Prepared(good, self.encoder.prepare([entry.item for entry in good])) if good else None

    def _compute(self, ready: Prepared) -> None:
        entries = ready.entries
        if all(entry.job.future.done() for entry in entries):
            self._metrics.dropped("cancelled", len(entries))
            return
        start = time.perf_counter()
        try:
            rows = self.encoder.encode_prepared(ready.batch, [entry.item for entry in entries])
        except Exception as error:
            if len(entries) == 1:
                self._fail(entries, error)
                return
            log.warning("a batch of %d failed (%s); computing its items one by one", len(entries), error)
            for entry in entries:
                if (alone := self._prepare([entry])) is not None:
                    self._compute(alone)
            return
        end = time.perf_counter()
        self._compute_s += SMOOTHING * ((end - start) / len(entries) - self._compute_s)
        self._metrics.batch(len(entries), end - start, start - entries[0].job.since)
        self._deliver(entries, rows)

    # --- results ----------------------------------------------------------------------------------------

    def _deliver(self, entries: list[Waiting], rows: NDArray[np.float32]) -> None:
        import numpy as np

        complete: list[Job] = []
        for place, (job, position, _, _) in enumerate(entries):
            if job.rows is None:
                if job.pending == 1:
                    job.rows = rows[place : place + 1]
                    complete.append(job)
                    continue
                job.rows = np.empty((job.pending, rows.shape[1]), np.float32)
            job.rows[position] = rows[place]
            job.pending -= 1
            if not job.pending:
                complete.append(job)
        _resolve([(job, job.rows, None) for job in complete])

    def _fail(self, entries: list[Waiting], error: Exception) -> None:
        _resolve([(job, None, ItemError(position, error)) for job, position, _, _ in entries])


def _resolve(outcomes: list[tuple[Job, Any, Exception | None]]) -> None:
    """Sets the futures of jobs; one call into each event loop for all of its jobs."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[tuple[Job, Any, Exception | None]]] = {}
    for outcome in outcomes:
        by_loop.setdefault(outcome[0].loop, []).append(outcome)
    for loop, part in by_loop.items():
        if loop is None:
            _set_futures(part)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: no client waits
                loop.call_soon_threadsafe(_set_futures, part)


def _set_futures(outcomes: list[tuple[Job, Any, Exception | None]]) -> None:
    for job, rows, error in outcomes:
        if job.future.done():
            continue
        if error is None:
            job.future.set_result(rows)
        else:
            job.future.set_exception(error)


def _count_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


N_CORES = _count_cores()
