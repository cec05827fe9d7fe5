"""Threads that do work for one loop: what is done comes back to it through one queue, to be taken up in order of
completion. The loop alone keeps the books, so nothing there needs a lock.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, NamedTuple


class Done(NamedTuple):
    """Work that is done: by whom, what to call with its result, in the loop; or what it raised."""

    by: Workers
    then: Callable[[Any], None]
    result: Any
    error: BaseException | None


Inbox = queue.SimpleQueue[Done]


class Workers:
    """n threads. They are daemons: one that hangs in a broken file does not keep a process from ending.

    Limits on media (`multimodal.limits`) hold in them as they did where the workers were made.
    """

    def __init__(self, n: int, inbox: Inbox, name: str) -> None:
        self.inbox = inbox
        self.n = n
        self.busy = 0  # given and not yet taken up again by the loop
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[Any], None]] | None] = (
            queue.SimpleQueue()
        )
        self._stopped = False
        self._context = contextvars.copy_context()
        self._threads = [
            threading.Thread(target=self._work, name=f"multimodal-{name}-{k}", daemon=True) for k in range(n)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def is_crowded(self) -> bool:
        """Whether every thread has enough to do until the loop looks again."""
        return self.busy > 2 * self.n

    def submit(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Has `work()` done in a thread, and `then(result)` called by `settle` in the loop."""
        self.busy += 1

        def finish(result: Any) -> None:
            self.busy -= 1
            then(result)

        self._tasks.put((work, finish))

    def stop(self) -> None:
        """What has not begun is dropped; what runs may end, and nobody waits for it."""
        self._stopped = True
        for _ in self._threads:
            self._tasks.put(None)

    def join(self) -> None:
        """Waits until everything that was given, and is not dropped, is done. Nothing more can be given."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        context = self._context.copy()  # one cannot be entered by two threads
        while (task := self._tasks.get()) is not None and not self._stopped:
            work, then = task
            try:
                done = Done(self, then, context.run(work), None)
            except BaseException as error:
                done = Done(self, then, None, error)
            self.inbox.put(done)
            del task, work, then, done  # else the last batch stays in memory until the next


def settle(done: Done) -> None:
    """In the loop: takes up what a worker did. Raises what it raised."""
    if done.error is not None:
        raise done.error
    done.then(done.result)
