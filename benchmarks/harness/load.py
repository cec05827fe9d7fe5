"""A server in a process of its own, and clients that load it: CPU time of the server, latencies, statuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

READY_S = 120
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
LIMIT = 1 << 26  # of a line that a client reads

Request = tuple[str, bytes]  # path, body


@dataclass
class ServerProcess:
    """A running `multimodal serve`.

    Attributes:
        url: Where it listens.
        pid: Its process.
        ready_s: Seconds from its start until `/ready` answered with 200.
        ready_core_s: CPU seconds of that.
    """

    url: str
    pid: int
    ready_s: float
    ready_core_s: float

    def core_s(self) -> float:
        """CPU seconds that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mb(self) -> float:
        """Resident memory."""
        return (
            int(Path(f"/proc/{self.pid}/statm").read_text(encoding="utf-8").split()[1]) * PAGE_BYTES / 2**20
        )


@contextlib.contextmanager
def serving(*arguments: str, core: int | None = 0) -> Iterator[ServerProcess]:
    """Starts `multimodal serve` on one core; stops it with SIGTERM after the block."""
    start = time.perf_counter()
    environment = os.environ | ({"OMP_NUM_THREADS": "1"} if core is not None else {})
    command = [sys.executable, "-m", "multimodal", "serve", "--port", "0", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            while not is_ready(f"{url}/ready"):
                if process.poll() is not None or time.perf_counter() > start + READY_S:
                    raise RuntimeError("the server did not become ready")
                time.sleep(0.01)
            server = ServerProcess(url, process.pid, time.perf_counter() - start, 0.0)
            server.ready_core_s = server.core_s()
            yield server
        finally:
            process.terminate()
            if process.wait(READY_S) != 0:
                raise RuntimeError(f"the server stopped with status {process.returncode}")


def is_ready(url: str) -> bool:
    """Whether a server answers 200 at a URL."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@dataclass
class Load:
    """What clients saw. seconds: of each request, by status."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: dict[int, list[float]] = field(default_factory=dict)
    elapsed_s: float = 0.0
    core_s: float = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Counts a request; status 0 for a connection that was closed."""
        self.statuses[status] += 1
        self.seconds.setdefault(status, []).append(seconds)

    def percentile_ms(self, percent: float, status: int = 200) -> float:
        """A percentile of the latencies of one status, in milliseconds."""
        ordered = sorted(self.seconds.get(status, [0.0]))
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def load(
    server: ServerProcess,
    requests: Sequence[Request],
    n_clients: int,
    until: Callable[[], bool] | None = None,
) -> Load:
    """Sends requests over `n_clients` connections, each the next one as soon as it has its answer.

    Args:
        server: The server.
        requests: What to send, each once; or in turns, with `until`.
        n_clients: Connections at once.
        until: Stops once it returns True.
    """
    seen = Load()
    before, start = server.core_s(), time.perf_counter()
    asyncio.run(_clients(server.url, requests, n_clients, seen, until))
    seen.elapsed_s, seen.core_s = time.perf_counter() - start, server.core_s() - before
    return seen


async def _clients(
    url: str, requests: Sequence[Request], n_clients: int, seen: Load, until: Callable[[], bool] | None
) -> None:
    parts = urlsplit(url)
    todo = iter(requests) if until is None else _endless(requests, until)

    async def client() -> None:
        connection = None
        for path, body in todo:
            start = time.perf_counter()
            try:
                if connection is None:
                    connection = await asyncio.open_connection(parts.hostname, parts.port, limit=LIMIT)
                status, keeps = await exchange(*connection, parts.netloc, path, body)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                status, keeps = 0, False
            seen.add(status, time.perf_counter() - start)
            if not keeps and connection is not None:
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    await asyncio.gather(*(client() for _ in range(n_clients)))


def _endless(requests: Sequence[Request], until: Callable[[], bool]) -> Iterator[Request]:
    while True:
        for request in requests:
            if until():
                return
            yield request


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, path: str, body: bytes
) -> tuple[int, bool]:
    """Sends a request and reads the answer -> (status, whether the connection stays open)."""
    method = "POST" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)
    await writer.drain()
    answer = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = answer.partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length or 0))
    return int(answer[9:12]), b"connection: close" not in answer


def json_request(path: str, content: dict[str, Any]) -> Request:
    """A request with a JSON body."""
    return path, json.dumps(content).encode()
