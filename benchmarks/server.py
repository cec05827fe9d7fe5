"""The HTTP server beside bare `space.encode`: python -m benchmarks.server [--model starter] [--soak SECONDS] [--small]

`--model clip-ViT-B/32` is a CLIP of the real architecture with random weights. `--infinity PYTHON` measures Infinity
with the same checkpoint, in turns on the same core; harness/infinity.py says how to install it.

The server runs in a process on one core, the clients in another process. Its cost is CPU time per request, which other
load on the machine hardly changes; latencies are wall time, and only mean something on a quiet machine. `--soak` loads
it with 200 clients, well-formed and hostile, and shows statuses and memory.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import infinity, machine
from benchmarks.harness.benchmark import arguments, keep
from benchmarks.harness.load import Load, Request, ServerProcess, json_request, load, serving
from benchmarks.harness.report import machine_line

GALLERY = Path("assets/gallery")
CLIENTS = (1, 8, 64)
SOAK_CLIENTS = 200
CLIP_PREFIX = "clip-"  # followed by a size of harness/models.py
OVERLOAD_ITEMS = 64
ROUNDS = 5
BARE = """
import base64, json, os, sys, time
os.sched_setaffinity(0, {0})
import multimodal as mm
space = mm.load(sys.argv[1])
for line in sys.stdin:
    size, values = json.loads(line)
    items = [mm.Image(base64.b64decode(v["image"])) if isinstance(v, dict) else mm.Text(v) for v in values]
    start = time.process_time()
    for place in range(0, len(items), size):
        space.encode(items[place : place + size], batch_size=size)
    print((time.process_time() - start) / len(items), flush=True)
"""


class Bare:
    """`space.encode` in a process on the core of the server."""

    def __init__(self, model: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", BARE, model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        self.core_ms(["a"], 1)

    def core_ms(self, values: Sequence[Any], size: int) -> float:
        """CPU milliseconds per item, in batches of `size`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([size, list(values)]), file=self._process.stdin, flush=True)
        return 1000 * float(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def texts(n: int) -> list[str]:
    """Short texts, all different."""
    return [f"two dogs and a red ball {number}" for number in range(n)]


def images(n: int) -> list[dict[str, str]]:
    """Pictures of the gallery as base64, in turns."""
    files = [base64.b64encode(path.read_bytes()).decode() for path in sorted(GALLERY.glob("pictures/*.jpg"))]
    return [{"image": files[place % len(files)]} for place in range(n)]


def embedding_requests(values: Sequence[Any]) -> list[Request]:
    """One request for each value, as the client of OpenAI sends it."""
    return [
        json_request("/v1/embeddings", {"input": [value], "encoding_format": "base64"}) for value in values
    ]


def answered(server: ServerProcess, requests: Sequence[Request], n_clients: int) -> Load:
    """Loads a server. Raises RuntimeError for an answer other than 200."""
    seen = load(server, requests, n_clients)
    if set(seen.statuses) != {200}:
        raise RuntimeError(f"answers other than 200: {dict(seen.statuses)}")
    return seen


def cost(
    server: ServerProcess, bare: Bare, values: Sequence[Any], n_clients: int, rounds: int,
    rival: ServerProcess | None = None,
) -> dict[str, float]:  # fmt: skip
    """The CPU time of a request with one value, beside a bare batch of `n_clients`, in rounds that alternate."""
    requests = embedding_requests(values)
    theirs = [] if rival is None else infinity.requests(values)
    answered(server, requests[: 2 * n_clients], n_clients)
    if rival is not None:
        answered(rival, theirs[: 2 * n_clients], n_clients)
    measured, rivals = [], []
    for _ in range(rounds):
        seen = answered(server, requests, n_clients)
        measured.append((1000 * seen.core_s / len(requests), bare.core_ms(values, n_clients), seen))
        if rival is not None:
            rivals.append(1000 * answered(rival, theirs, n_clients).core_s / len(theirs))
    own, other = (statistics.median(row[place] for row in measured) for place in (0, 1))
    ratio = statistics.median(row[0] / row[1] for row in measured)
    best = min((row[2] for row in measured), key=lambda seen: seen.elapsed_s)
    compared = {}
    if rivals:
        times = statistics.median(their / row[0] for their, row in zip(rivals, measured, strict=True))
        compared = {
            "Infinity core ms": round(statistics.median(rivals), 3),
            "Infinity / ours": round(times, 2),
        }
    return compared | {
        "bare core ms": round(other, 3), "core ms": round(own, 3), "ratio": round(ratio, 2),
        "p50 ms": round(best.percentile_ms(50), 1), "p99 ms": round(best.percentile_ms(99), 1),
        "a second": round(len(requests) / best.elapsed_s, 1),
    }  # fmt: skip


def overload(server: ServerProcess, n: int) -> dict[str, Any]:
    """Four times as many items at once as the queue holds."""
    values = texts(OVERLOAD_ITEMS)
    requests = [json_request("/v1/embeddings", {"input": values, "encoding_format": "base64"})] * n
    seen = load(server, requests, 4 * 1024 // OVERLOAD_ITEMS)
    return {"statuses": dict(seen.statuses), "p50 of 200, ms": round(seen.percentile_ms(50), 1),
            "p99 of 200, ms": round(seen.percentile_ms(99), 1)}  # fmt: skip


def hostile() -> list[Request]:
    """Requests that must be refused."""
    return [
        ("/v1/embeddings", b"[" * 100_000),
        ("/v1/embeddings", b'{"input": "\\ud800"}'),
        ("/v1/nothing", b"{}"),
        ("/v1/items/../../etc/passwd", b""),
        json_request("/v1/embeddings", {"input": ["a" * 200_000]}),
        json_request("/v1/embeddings", {"input": ["a"] * 3000}),
        json_request("/v1/embeddings", {"input": [[1, 2, 3]]}),
        json_request("/v1/embeddings", {"input": [{"image": "/etc/passwd"}]}),
        json_request("/v1/embeddings", {"input": [{"image": base64.b64encode(b"x" * 500).decode()}]}),
        json_request("/v1/embeddings", {"input": "a", "dimensions": -1}),
        json_request("/v1/search", {"query": "a", "k": 10**9}),
        json_request("/v1/search", {}),
    ]


def mixed() -> list[Request]:
    """Requests of all kinds in random order, a fifth of them hostile."""
    sound = base64.b64encode((GALLERY / "sounds/cat.flac").read_bytes()).decode()
    good = embedding_requests(texts(120)) + embedding_requests(images(12))
    good += [json_request("/v1/search", {"query": text, "k": 10}) for text in texts(40)]
    good += [json_request("/v1/embeddings", {"input": [{"audio": sound}, "a cat", images(1)[0]]})] * 4
    good += [json_request("/classify", {"input": text, "labels": ["a", "b", "c"]}) for text in texts(8)]
    good += [json_request("/v1/rerank", {"query": "a", "documents": texts(8)})] * 4
    good += [("/v1/items?limit=20", b""), ("/health", b""), ("/v1/models", b"")] * 4
    requests = good + hostile() * 4
    random.Random(0).shuffle(requests)
    return requests


def soak(seconds: float) -> dict[str, Any]:
    """Mixed and hostile load for some time; memory after a fifth of it and in the end."""
    import tempfile

    import multimodal as mm

    with tempfile.TemporaryDirectory() as scratch:
        index = mm.Index.create(f"{scratch}/gallery.lance", "starter")
        index.add(GALLERY)
        with serving(str(index.path)) as server:
            memory: list[float] = []
            requests = mixed()
            total = Load()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                slice_end = min(end, time.monotonic() + seconds / 20)
                seen = load(server, requests, SOAK_CLIENTS, lambda limit=slice_end: time.monotonic() > limit)
                total.statuses.update(seen.statuses)
                memory.append(round(server.memory_mb(), 1))
            settled = memory[len(memory) // 5]
            growth = f"{memory[-1] / settled - 1:+.1%}"
    return {"seconds": seconds, "statuses": {str(k): n for k, n in sorted(total.statuses.items())},
            "memory_mb": memory, "growth since a fifth": growth}  # fmt: skip


def checkpoint(model: str, data: Path) -> tuple[str, Path | None]:
    """(the name of a model as `load` takes it, its folder if it is a CLIP with random weights, made at first use)"""
    if not model.startswith(CLIP_PREFIX):
        return model, None
    from benchmarks.harness.models import clip_folders

    folder, _ = clip_folders(data, model.removeprefix(CLIP_PREFIX))
    return f"hf/{folder}", folder


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = arguments(__doc__ or "", rounds=ROUNDS)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--infinity", metavar="PYTHON", help="of an environment with infinity-emb")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="only load the server for so long")
    parser.add_argument("--modalities", nargs="+", default=["text", "image"])
    args = parser.parse_args(argv)
    if args.soak:
        result = soak(args.soak)
        print(result)
        return result
    name, folder = checkpoint(args.model, args.data)
    if args.infinity and folder is None:
        parser.error(f"Infinity needs a checkpoint of transformers: --model {CLIP_PREFIX}ViT-B/32")
    n = 64 if args.small else 1024
    result = {
        "model": args.model,
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "costs": {},
    }
    values = {"text": texts(n), "image": images(n // 4)}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving("--space", name))
        rival = None
        if args.infinity and folder is not None:
            rival = stack.enter_context(infinity.infinity(args.infinity, folder))
        result["start"] = {"seconds": round(server.ready_s, 2), "core s": round(server.ready_core_s, 2)}
        bare = stack.enter_context(contextlib.closing(Bare(name)))
        print(f"from start to ready: {result['start']}", flush=True)
        for what in args.modalities:
            for n_clients in CLIENTS:
                given = values[what][: len(values[what]) // (4 if n_clients == 1 else 1)]
                figures = cost(server, bare, given, n_clients, args.rounds, rival)
                result["costs"][f"{what}, {n_clients} clients"] = figures
                print(f"{what}, {n_clients} clients: {figures}", flush=True)
        if "text" in args.modalities:
            result["overload"] = overload(server, 16 if args.small else 320)
            print(f"overload: {result['overload']}")
    print(machine_line(result))
    label = args.model.replace("/", "-").replace(":", "-").strip(".-")
    keep(result, args.results, f"server-{label}{'-small' * args.small}")
    return result


if __name__ == "__main__":
    main()
