"""One writer at a time: a lock on a file beside the rows. Readers never ask for it.

The lock belongs to the process that holds it and dies with it, however it dies: a file that was left behind locks
nothing. What stands in it (who writes, and since when) is only for those who wait.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from multimodal.core.errors import IndexBusy, IndexStateError, InvalidInput

LOCK = "writer.lock"
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.5

_mine: dict[str, int] = {}  # locks held in this process, by path: the thread that holds each


@contextlib.contextmanager
def writing(index: Path, wait_s: float | None = None) -> Iterator[None]:
    """Holds the lock of an index while the block runs.

    wait_s: how long to wait for another writer; None for as long as it takes.
    Raises IndexBusy if the time is over, IndexStateError if the same thread writes already or the lock cannot be made.
    """
    given: object = wait_s
    if given is not None and (
        isinstance(given, bool) or not isinstance(given, int | float) or not given >= 0
    ):
        raise InvalidInput(
            f"wait must be a number of seconds of at least 0, or None for no limit, got {given!r}"
        )
    path = index / LOCK
    with _opened(path) as file:
        _acquire(file, path, index, wait_s)
        _mine[str(path)] = threading.get_ident()
        try:
            _sign(file)
            yield
        finally:
            del _mine[str(path)]


def holder(index: Path) -> dict[str, Any]:
    """Who last wrote, as far as the lock file tells: pid, host, since (ISO 8601); {} if it tells nothing."""
    try:
        found = json.loads((index / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no one yet, or just being written
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise IndexStateError(
            f"cannot write to the index at {str(path.parent)!r}: {error.strerror}; choose an index in a folder that "
            "can be written"
        ) from error
    try:
        yield file
    finally:
        os.close(file)  # which gives the lock back


def _acquire(file: int, path: Path, index: Path, wait_s: float | None) -> None:
    import fcntl

    end = None if wait_s is None else time.monotonic() + wait_s
    pause = FIRST_PAUSE_S
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if _mine.get(str(path)) == threading.get_ident():
            raise IndexStateError(
                f"the index at {str(index)!r} is being written by this very thread, so waiting would never end; "
                "add from one place at a time, not from inside what is being added"
            )
        if end is not None and time.monotonic() >= end:
            raise IndexBusy(
                f"the index at {str(index)!r} is being written by {_described(holder(index))}; wait until that is done"
            )
        time.sleep(pause if end is None else min(pause, max(0.0, end - time.monotonic())))
        pause = min(2 * pause, LONGEST_PAUSE_S)


def _sign(file: int) -> None:
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(about).encode(), 0)


def _described(about: dict[str, Any]) -> str:
    if not about:
        return "another process"
    return f"process {about.get('pid')} on {about.get('host')} since {about.get('since')}"
