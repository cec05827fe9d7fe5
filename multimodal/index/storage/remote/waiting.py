"""Waiting for the lock of an index, whatever it is made of: a file, or objects on a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from multimodal.core.errors import IndexBusy, IndexStateError
from multimodal.core.remote.path import AnyPath

T = TypeVar("T")


def acquire(
    index: AnyPath,
    wait_s: float | None,
    attempt: Callable[[], T | None],
    is_own: Callable[[], bool],
    describe_holder: Callable[[], str],
    pauses_s: tuple[float, float],
) -> T:
    """Tries to take a lock until it succeeds, with pauses that double.

    Args:
        index: Where the index is, for messages.
        wait_s: Seconds to wait; None for no limit.
        attempt: Takes the lock; None if another writer has it.
        is_own: Whether this thread has the lock.
        describe_holder: Names the writer that has it.
        pauses_s: The first and the longest pause.

    Raises:
        IndexBusy: The time is over.
        IndexStateError: This thread has the lock.
    """
    end = None if wait_s is None else time.monotonic() + wait_s
    pause_s, longest_s = pauses_s
    while True:
        if (taken := attempt()) is not None:
            return taken
        if is_own():
            raise IndexStateError(
                f"the index at {str(index)!r} is being written by this very thread, so waiting would never end; "
                "add from one place at a time, not from inside what is being added"
            )
        if end is not None and time.monotonic() >= end:
            raise IndexBusy(
                f"the index at {str(index)!r} is being written by {describe_holder()}; wait until that is done"
            )
        time.sleep(pause_s if end is None else min(pause_s, max(0.0, end - time.monotonic())))
        pause_s = min(2 * pause_s, longest_s)
