"""A lane for calls that take seconds: a bounded queue, progress, and cancellation at each step.

A torch model uses all cores for one call, so a second worker would only make both calls slower. Calls that wait for the
server of a model have several. A request whose client disconnects is removed from the queue; a running call stops at
its next step.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from multimodal.core.progress import observed
from multimodal.server.errors import ApiError, overloaded
from multimodal.server.metrics import LaneMetrics


class Stopped(Exception):
    """Raised in the worker at the next step of a call whose clients have disconnected."""


class Progress(NamedTuple):
    """How far a call is. total: None while it is unknown."""

    done: float
    total: float | None


class Written(NamedTuple):
    """Text that a call has just produced."""

    text: str


class Finished(NamedTuple):
    """The result of a call: its last event."""

    value: Any


Event = Progress | Written | Finished


class Call:
    """A call in the queue, or running. Its work is given the call, to report to."""

    def __init__(self, work: Callable[[Call], Any], emit: Callable[[Event | BaseException], None]) -> None:
        self._work, self._emit = work, emit
        self.since = time.perf_counter()
        self.is_cancelled = False

    def cancel(self) -> None:
        """Stops the call at its next step, or before it starts."""
        self.is_cancelled = True

    def progress(self, done: float, total: float | None = None) -> None:
        """Reports progress. Raises Stopped if the call was cancelled."""
        self._check()
        self._emit(Progress(done, total))

    def run(self) -> None:
        """Does the work, in the thread of a worker."""
        try:
            self._check()
            with observed(self._step):
                self._emit(Finished(self._work(self)))
        except BaseException as error:
            self._emit(error)

    def _step(self, text: str | None) -> None:
        self._check()
        if text:
            self._emit(Written(text))

    def _check(self) -> None:
        if self.is_cancelled:
            raise Stopped


class TaskLane:
    """The queue of one worker, or of several.

    Args:
        name: Of the threads.
        capacity: Calls that may wait.
        metrics: Counts calls and the time they take.
        context: Entered around each call, to set the limits of decoding.
        n_workers: Calls that run at once.
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        metrics: LaneMetrics,
        context: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext,
        n_workers: int = 1,
    ) -> None:
        self._name, self._capacity, self._metrics, self._context = name, capacity, metrics, context
        self._waiting: deque[Call] = deque()
        self._changed = threading.Condition()
        self._n_workers = n_workers
        self._running: list[Call] = []
        self._threads: list[threading.Thread] = []
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    async def run(self, work: Callable[[Call], Any]) -> Any:
        """Runs a call to its end. Cancelling this cancels the call.

        Raises:
            ApiError: Too many calls wait (429), or the server stops (503); otherwise as the call.
        """
        async for event in self.events(work):
            if isinstance(event, Finished):
                return event.value
        raise AssertionError("a call ends with a result or an exception")

    async def events(self, work: Callable[[Call], Any]) -> AsyncIterator[Event]:
        """Runs a call and yields what it reports; the last event is its result. Closing this cancels the call.

        Raises:
            ApiError: As `run`, before the first event.
        """
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Event | BaseException] = asyncio.Queue()

        def emit(event: Event | BaseException) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: no client waits
                loop.call_soon_threadsafe(queue.put_nowait, event)

        call = Call(work, emit)
        self._submit(call)
        try:
            while True:
                event = await queue.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            self._drop(call)

    def run_in_thread(self, work: Callable[[Call], Any]) -> Any:
        """As `run`, for a thread other than that of the event loop; waits for the result."""
        ended = threading.Event()
        results: list[Finished | BaseException] = []

        def emit(event: Event | BaseException) -> None:
            if isinstance(event, Finished | BaseException):
                results.append(event)
                ended.set()

        self._submit(Call(work, emit))
        ended.wait()
        (result,) = results
        if isinstance(result, BaseException):
            raise result
        return result.value

    def close(self) -> None:
        """Refuses new calls, stops the running ones at their next steps, and waits for that."""
        with self._changed:
            self._is_closed = True
            for call in self._waiting:
                call.cancel()
            for call in self._running:
                call.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _submit(self, call: Call) -> None:
        with self._changed:
            if self._is_closed:
                raise ApiError(503, "the server is stopping; try another one", code="stopping")
            if len(self._waiting) >= self._capacity:
                self._metrics.dropped("overload", 1)
                raise overloaded(len(self._waiting))
            self._waiting.append(call)
            n_busy = len(self._running) + len(self._waiting)
            if len(self._threads) < min(n_busy, self._n_workers):
                thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def _drop(self, call: Call) -> None:
        call.cancel()
        with self._changed, contextlib.suppress(ValueError):
            self._waiting.remove(call)

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._is_closed:
                    self._changed.wait()
                if not self._waiting:
                    return
                call = self._waiting.popleft()
                self._running.append(call)
            start = time.perf_counter()
            with self._context():
                call.run()
            self._metrics.batch(1, time.perf_counter() - start, start - call.since)
            with self._changed:
                self._running.remove(call)
