"""Two file locks beside the table: one admits a single writer at a time, the other announces readers.

Readers never wait. While a call reads, it shares the readers' lock, so that a writer knows whether an old version of
the table may still be in use. A call takes the lock before it asks for the latest version; so once the lock was free
for an instant, no reader is left on a version older than the latest of that instant.

The operating system releases the lock when the process that holds it ends, however it ends, so a file that is left
behind locks nothing. Its content (process, host and time) is only shown to processes that wait.

On an object store, the writers' lock is a lease (remote/lock.py), and readers are not announced.
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

from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.index.storage.forks import check_process
from multimodal.index.storage.remote import lock as remote_lock
from multimodal.index.storage.remote import waiting

LOCK, READERS = "writer.lock", "readers.lock"
PAUSES_S = (0.01, 0.5)  # first and longest, while another process writes
READER_TRIES, READER_PAUSE_S = 50, 0.001

_held: dict[str, int] = {}  # path of each lock held by this process -> id of the thread that holds it


@contextlib.contextmanager
def writing(index: AnyPath, wait_s: float | None = None) -> Iterator[None]:
    """Holds the lock of an index while the block runs.

    wait_s: seconds to wait for another writer; None for no limit.
    Raises IndexBusy when that time is over, IndexStateError if the same thread holds the lock already or the lock file
    cannot be created, StorageError.
    """
    check_process(index)
    given: object = wait_s
    if given is not None and (
        isinstance(given, bool) or not isinstance(given, int | float) or not given >= 0
    ):
        raise InvalidInput(
            f"wait must be a number of seconds of at least 0, or None for no limit, got {given!r}"
        )
    if isinstance(index, RemotePath):
        with remote_lock.writing(index, wait_s):
            yield
        return
    path = index / LOCK
    with _open(path) as file:
        _acquire(file, path, index, wait_s)
        _held[str(path)] = threading.get_ident()
        try:
            _write_holder(file)
            yield
        finally:
            del _held[str(path)]


@contextlib.contextmanager
def reading(index: AnyPath) -> Iterator[None]:
    """Announces a reader while the block runs. Without permission or file locks, nothing is announced."""
    file = None if isinstance(index, RemotePath) else _open_readers(index)
    try:
        if file is not None:
            # A writer has it for an instant only; one that is suspended just then must not hold up a search.
            for _ in range(READER_TRIES):
                if _try_lock(file, exclusive=False):
                    break
                time.sleep(READER_PAUSE_S)
        yield
    finally:
        if file is not None:
            _unlock(file)


def check_lock(index: AnyPath) -> None:
    """Raises IndexStateError if this process had the lock of an index on an object store and has lost it."""
    if isinstance(index, RemotePath):
        remote_lock.check(index)


def await_readers(index: AnyPath, wait_s: float) -> bool:
    """Whether all readers that began before this call have ended; waits up to wait_s seconds for them.

    False also where there are no file locks, so that it is unknown.
    """
    file = None if isinstance(index, RemotePath) else _open_readers(index)
    if file is None:
        return False
    end = time.monotonic() + wait_s
    try:
        while not _try_lock(file, exclusive=True):
            if time.monotonic() >= end:
                return False
            time.sleep(PAUSES_S[0])
        return True
    finally:
        _unlock(file)


def _open_readers(index: Path) -> int | None:
    path = index / READERS
    for flags in (os.O_RDONLY, os.O_RDONLY | os.O_CREAT):
        with contextlib.suppress(OSError):  # a folder of another user, or read-only media
            return os.open(path, flags | getattr(os, "O_CLOEXEC", 0), 0o644)
    return None


def _try_lock(file: int, *, exclusive: bool) -> bool:
    """Locks without waiting. False if another process or thread is in the way, or there are no file locks."""
    try:
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _unlock(file: int) -> None:
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)  # closing does not suffice: a forked process may hold a copy
    os.close(file)


def holder(index: AnyPath) -> dict[str, Any]:
    """The last writer according to the lock: pid, host, since (ISO 8601); {} if it is missing or incomplete."""
    if isinstance(index, RemotePath):
        return remote_lock.holder(index)
    try:
        content = json.loads((index / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing, or being written
        return {}
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def _open(path: Path) -> Iterator[int]:
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
        os.close(file)  # releases the lock


def _acquire(file: int, path: Path, index: Path, wait_s: float | None) -> None:
    def attempt() -> bool | None:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return True

    def is_own() -> bool:
        return _held.get(str(path)) == threading.get_ident()

    waiting.acquire(index, wait_s, attempt, is_own, lambda: _describe(holder(index)), PAUSES_S)


def _write_holder(file: int) -> None:
    content = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(content).encode(), 0)


def _describe(content: dict[str, Any]) -> str:
    if not content:
        return "another process"
    return f"process {content.get('pid')} on {content.get('host')} since {content.get('since')}"
