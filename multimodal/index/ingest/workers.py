"""Worker threads of one event loop: results return through one queue, in order of completion.

The loop alone changes the state of the job, so that state needs no lock.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple


class Done(NamedTuple):
    """The result of a task, or the error it raised. `then` is called with the result, in the loop."""

    by: Workers
    then: Callable[[Any], None]
    result: Any
    error: BaseException | None


Inbox = queue.SimpleQueue[Done]
EXIT_WAIT_S = 5.0  # for threads that run when the interpreter ends


class Workers:
    """n daemon threads: one that hangs in a broken file does not keep the process from ending.

    Limits on media (`multimodal.limits`) apply in them as where the workers were created.
    """

    def __init__(self, n: int, inbox: Inbox, name: str) -> None:
        self.inbox = inbox
        self.n = n
        self.busy = 0  # tasks submitted and not yet resolved by the loop
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = (
            queue.SimpleQueue()
        )
        self._stopped = False
        self._context = contextvars.copy_context()
        self._threads = [
            threading.Thread(target=self._work, name=f"multimodal-{name}-{k}", daemon=True) for k in range(n)
        ]
        _running.add(self)
        for thread in self._threads:
            thread.start()

    @property
    def is_crowded(self) -> bool:
        """Whether every thread has enough tasks until the loop runs again."""
        return self.busy > 2 * self.n

    def submit(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Runs `work()` in a thread, and lets `resolve` call `then(result)` in the loop."""
        self.busy += 1

        def finish(result: Any) -> None:
            self.busy -= 1
            then(result)

        self._tasks.put((work, finish))

    def stop(self) -> None:
        """Cancels pending tasks without waiting for running ones."""
        self._stopped = True
        for _ in self._threads:
            self._tasks.put(None)

    def join(self) -> None:
        """Waits until every task that is not dropped is done. No more tasks can be submitted."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def wait(self, until: float) -> None:
        """Waits for the tasks that run, until a time of time.monotonic()."""
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self) -> None:
        context = self._context.copy()  # a context cannot be entered by two threads
        while (task := self._tasks.get()) is not None and not self._stopped:
            work, then = task
            try:
                done = Done(self, then, context.run(work), None)
            except BaseException as error:
                done = Done(self, then, None, error)
            self.inbox.put(done)
            del task, work, then, done  # otherwise the last batch stays in memory until the next


def resolve(done: Done) -> None:
    """Called in the loop: hands on the result of a task, or raises its error."""
    if done.error is not None:
        raise done.error
    done.then(done.result)


_running: weakref.WeakSet[Workers] = weakref.WeakSet()


@atexit.register
def _finish() -> None:
    """Lets the tasks that run at the end of the interpreter finish: a thread that it ends inside C++ code, of torch or
    LanceDB, aborts the whole process. A thread that hangs is not waited for any longer than EXIT_WAIT_S."""
    workers = list(_running)
    until = time.monotonic() + EXIT_WAIT_S
    for pool in workers:
        pool.stop()
    with contextlib.suppress(KeyboardInterrupt):
        for pool in workers:
            pool.wait(until)
