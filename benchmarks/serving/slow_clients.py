"""Thousands of slow connections, and whether the server answers others meanwhile.

    python -m benchmarks.serving.slow_clients [--connections 10000] [--seconds 30]

Each slow client sends the head of a request a byte at a time, and connects again some time after the server has closed
it. Meanwhile a client in another process measures `/health` and an embedding, each request over a new connection. The
limit on open files of this process (`ulimit -n`) bounds the number of connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from benchmarks.harness.load import Load, ServerProcess, exchange, json_request, serving

SPARE_FILES = 200
PAUSE_S = 1.0  # between the bytes of a slow client
RECONNECT_S = 5.0
PROBE_S = 0.1
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-filler: "
PROBES = {"health": ("/health", b""), "embedding": json_request("/v1/embeddings", {"input": "a cat"})}


async def slow_client(url: str, end: float, seen: Counter[str]) -> None:
    """One slow client: few bytes at a time, and another connection after each that is closed."""
    parts = urlsplit(url)
    while time.monotonic() < end:
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        except OSError:
            seen["refused"] += 1
            await asyncio.sleep(RECONNECT_S)
            continue
        seen["opened"] += 1
        with contextlib.suppress(OSError):
            writer.write(HEAD)
            while time.monotonic() < end and not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    if not await asyncio.wait_for(reader.read(1000), PAUSE_S):
                        break
        writer.close()
        if time.monotonic() < end:
            seen["closed by the server"] += 1
            await asyncio.sleep(min(RECONNECT_S, max(0.0, end - time.monotonic())))


async def probe(url: str, end: float, path: str, body: bytes, seen: Load) -> None:
    """One request after another, each over a new connection."""
    parts = urlsplit(url)
    while time.monotonic() < end:
        start = time.perf_counter()
        try:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            status, _ = await asyncio.wait_for(exchange(reader, writer, parts.netloc, path, body), 30)
            writer.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            status = 0
        seen.add(status, time.perf_counter() - start)
        await asyncio.sleep(PROBE_S)


async def probe_all(url: str, seconds: float) -> dict[str, Any]:
    """Both probes for some time."""
    end, loads = time.monotonic() + seconds, {name: Load() for name in PROBES}
    await asyncio.gather(*(probe(url, end, *PROBES[name], load) for name, load in loads.items()))
    return {
        name: {"statuses": dict(load.statuses), "p50 ms": round(load.percentile_ms(50), 1),
               "p99 ms": round(load.percentile_ms(99), 1)}
        for name, load in loads.items()
    }  # fmt: skip


async def slow_clients(url: str, n: int, seconds: float) -> Counter[str]:
    """The slow clients for some time."""
    end, seen = time.monotonic() + seconds, Counter[str]()
    async with asyncio.TaskGroup() as group:
        for number in range(n):
            group.create_task(slow_client(url, end, seen))
            if number % 100 == 99:
                await asyncio.sleep(0)
    return seen


def measure(server: ServerProcess, n: int, seconds: float) -> dict[str, Any]:
    """Slow clients here, and the probes in another process."""
    before = server.core_s()
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving.slow_clients",
        "--probe",
        server.url,
        "--seconds",
        str(seconds),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as probes:
        slow = asyncio.run(slow_clients(server.url, n, seconds))
        answers = json.loads(probes.communicate()[0])
    return {"connections": n, "slow": dict(slow), "probes": answers,
            "server core s": round(server.core_s() - before, 2), "memory MB": round(server.memory_mb(), 1)}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--probe", metavar="URL", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.probe:
        answers = asyncio.run(probe_all(args.probe, args.seconds))
        print(json.dumps(answers))
        return answers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with serving("--space", "starter") as server:
        wanted = args.connections + SPARE_FILES
        files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, files), hard))
        n = min(args.connections, max(soft, files) - SPARE_FILES)
        if n < args.connections:
            print(f"the limit on open files (ulimit -n) allows {n:,} connections")
        result = measure(server, n, args.seconds)
    print(result)
    return result


if __name__ == "__main__":
    main()
