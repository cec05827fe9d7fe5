"""The lock of an index on an object store: one writer at a time, without a server and without files to lock.

    INDEX/writer.lock/00000007.lance    turn 7: an empty LanceDB table, whose metadata names its holder and its lease
    INDEX/writer.lock/00000007.alive    written again and again while the holder lives
    INDEX/writer.lock/00000007.done     written when it has ended

Writers take turns. The next writer creates the next turn once the last one is done. LanceDB writes each version of a
table with If-None-Match, so of several writers that create one turn, one writes its first version, and holds it. (The
others fail, or overwrite the table by a second version, which counts for nothing. pyarrow, the other client, has no
conditional write.) A turn of a holder that was killed ends by its lease: when its last sign of life is older than
the lease, the next turn may be created. Ages are the difference of two times of last modification, both by the clock
of the store, so clocks that are wrong do no harm.

The last turn is never removed, and a writer that creates a turn lists them all again: it holds the lock only if its
turn is the last. Both together keep a writer that was slow to create a turn from holding an old one.

A holder that was stopped for longer than its lease, such as on a machine that slept, has lost the lock. It learns that
from `check`, which every write calls first.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from multimodal.core.errors import IndexStateError, StorageError
from multimodal.core.remote import files
from multimodal.core.remote.path import RemotePath
from multimodal.index.storage.connection import connect, is_taken, store_errors
from multimodal.index.storage.remote import waiting

FOLDER = "writer.lock"
LEASE_S = 60.0
RENEWALS_PER_LEASE = 4
CLOCK_STEP_S = 2.0  # times of last modification are whole seconds
PAUSES_S = (0.2, 5.0)  # first and longest, while another process writes
ALIVE, DONE, PROBE = ".alive", ".done", "probe-"
HOLDER_KEY = b"multimodal.holder"

_leases: dict[str, Lease] = {}  # URL of each index that this process writes -> its lease


class Turn(NamedTuple):
    """A turn as it was listed. age_s: since its last sign of life; 0.0 while that is unknown."""

    number: int
    is_done: bool
    age_s: float
    files: tuple[RemotePath, ...]


class Lease:
    """The turn that this process holds, renewed by a thread until `end`."""

    def __init__(self, index: RemotePath, number: int, lease_s: float) -> None:
        self.index, self.number, self.lease_s = index, number, lease_s
        self.thread_id = threading.get_ident()
        self.is_lost = False
        self._renewed_at = _now()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="multimodal-lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raises IndexStateError if another writer may have the lock by now."""
        if self.is_lost or _now() - self._renewed_at >= self.lease_s:
            self.is_lost = True
            raise IndexStateError(
                f"the lock of the index at {str(self.index)!r} was lost: its lease of {self.lease_s:g} s was not "
                "renewed, as if this machine slept or the network was gone, and another process may write now; what "
                "was committed is kept: repeat the call to resume"
            )

    def end(self) -> None:
        """Ends the turn. Without the network it ends by its lease."""
        self._ends.set()
        self._thread.join()
        if not self.is_lost:
            with contextlib.suppress(StorageError):
                files.write(_file(self.index, self.number, DONE), b"{}")

    def _renew(self) -> None:
        while not self._ends.wait(self.lease_s / RENEWALS_PER_LEASE):
            began = _now()
            if began - self._renewed_at >= self.lease_s:
                self.is_lost = True  # even if a sign of life came through now: another may have the next turn
                return
            with contextlib.suppress(StorageError):
                files.write(_file(self.index, self.number, ALIVE), b"{}")
                self._renewed_at = began


@contextlib.contextmanager
def writing(index: RemotePath, wait_s: float | None) -> Iterator[None]:
    """Holds the lock while the block runs. Raises IndexBusy, IndexStateError, StorageError."""
    lease = _acquire(index, wait_s)
    _leases[index.url] = lease
    lease.start()
    try:
        yield
    finally:
        del _leases[index.url]
        lease.end()


def check(index: RemotePath) -> None:
    """Raises IndexStateError if this process had the lock of an index and has lost it."""
    if (lease := _leases.get(index.url)) is not None:
        lease.check()


def holder(index: RemotePath) -> dict[str, Any]:
    """The last writer: pid, host, since (ISO 8601), lease_s; {} if there was none, or it cannot be read."""
    with contextlib.suppress(OSError):
        turns = _turns(index)
        if turns:
            return _holder(index, turns[-1].number)
    return {}


def _acquire(index: RemotePath, wait_s: float | None) -> Lease:
    def is_own() -> bool:
        held = _leases.get(index.url)
        return held is not None and held.thread_id == threading.get_ident()

    def describe_holder() -> str:
        return _describe(holder(index))

    return waiting.acquire(index, wait_s, lambda: _try_acquire(index), is_own, describe_holder, PAUSES_S)


def _try_acquire(index: RemotePath) -> Lease | None:
    """The next turn, if the last one is over."""
    turns = _turns(index)
    last = turns[-1] if turns else None
    if last is not None and not last.is_done:
        lease_s = _holder(index, last.number).get("lease_s", LEASE_S)
        if _with_age(index, last.number).age_s < lease_s + CLOCK_STEP_S:
            return None
    number = 1 if last is None else last.number + 1
    lease = Lease(
        index, number, LEASE_S
    )  # before the first sign of life, so that it ends here before it does there
    if not _create(index, number):
        return None
    turns = _turns(index)
    if not turns or turns[-1].number != number:
        _remove(turn for turn in turns if turn.number == number)
        return None
    _remove(turn for turn in turns if turn.number < number)
    return lease


def _turns(index: RemotePath, probe: RemotePath | None = None) -> list[Turn]:
    """All turns, in order. probe: an object written just now, whose time is that of the store's clock."""
    listed = files.list_files(index / FOLDER)
    now = next((file.mtime_ns for file in listed if file.path == probe), None)
    by_number: dict[int, list[files.RemoteFile]] = {}
    for file in listed:
        name = file.path.url.removeprefix(f"{(index / FOLDER).url}/").partition("/")[0]
        number = name.partition(".")[0]
        # A writer that was killed while it created a turn may have left files without a version: no turn.
        if number.isdecimal():
            by_number.setdefault(int(number), []).append(file)
    turns = []
    for turn, some in sorted(by_number.items()):
        if any("/_versions/" in file.path.url for file in some):
            age_s = 0.0 if now is None else (now - max(file.mtime_ns for file in some)) / 1e9
            is_done = any(file.path.url.endswith(DONE) for file in some)
            turns.append(Turn(turn, is_done, age_s, tuple(file.path for file in some)))
    return turns


def _with_age(index: RemotePath, number: int) -> Turn:
    """A turn with its age, by the clock of the store. Raises StorageError if nothing may be written."""
    probe = index / FOLDER / f"{PROBE}{uuid.uuid4().hex}"
    files.write(probe, b"")
    try:
        turns = _turns(index, probe)
    finally:
        with contextlib.suppress(StorageError):
            files.delete(probe)
    return next((turn for turn in turns if turn.number == number), Turn(number, False, 0.0, ()))


def _create(index: RemotePath, number: int) -> bool:
    """Whether this call created a turn."""
    import pyarrow as pa

    token = uuid.uuid4().hex
    content = {
        "token": token,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "lease_s": LEASE_S,
    }
    schema = pa.schema([pa.field("_", pa.int8())], metadata={HOLDER_KEY: json.dumps(content).encode()})
    with store_errors(index):
        try:
            connect(index / FOLDER).create_table(_name(number), schema=schema)
        except (ValueError, RuntimeError, OSError) as error:
            if not is_taken(error):
                raise
            return False
    return bool(_holder(index, number).get("token") == token)


def _holder(index: RemotePath, number: int) -> dict[str, Any]:
    """What the holder of a turn wrote; {} if it cannot be read."""
    try:
        table = connect(index / FOLDER).open_table(_name(number))
        table.checkout(1)
        content = json.loads((table.schema.metadata or {})[HOLDER_KEY])
    except (OSError, ValueError, RuntimeError, KeyError):  # the turn was removed since
        return {}
    return content if isinstance(content, dict) else {}


def _describe(content: dict[str, Any]) -> str:
    if not content:
        return "another process"
    lease_s = content.get("lease_s", LEASE_S)
    return (
        f"process {content.get('pid')} on {content.get('host')} since {content.get('since')} (if that was killed, its "
        f"lock ends {lease_s:g} s after)"
    )


def _remove(turns: Iterator[Turn]) -> None:
    """Removes turns that are over. What cannot be removed is left to the next writer."""
    with contextlib.suppress(StorageError):
        for turn in turns:
            # The version last, so that a turn is one until all of it is gone.
            for file in sorted(turn.files, key=lambda path: "/_versions/" in path.url):
                files.delete(file)


def _name(number: int) -> str:
    return f"{number:08}"


def _file(index: RemotePath, number: int, suffix: str) -> RemotePath:
    return index / FOLDER / f"{_name(number)}{suffix}"


def _now() -> float:
    """Seconds that also pass while the machine sleeps, where the system has such a clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)
