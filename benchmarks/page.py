"""Time from a typed letter to the hits on the web page, in headless Chromium.

    python -m benchmarks.page --items 100000

The index holds noisy copies of the vectors of the gallery. The page is typed into one query after another; a
measurement begins with the key and ends when the browser has the new hits in its document. The CPU time of a search in
the server is measured by itself. `make test-page` installs what npm has to.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

import multimodal as mm
from multimodal.core.vectors import unit_rows
from multimodal.index.storage.lock import writing
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import ItemTable

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "assets" / "gallery"
SCRIPT = ROOT / "tests" / "page" / "latency.mjs"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NOISE = 0.06
READY_S = 120
SEARCHES = 40


def build(path: Path, n_items: int) -> None:
    """An index of n items: the gallery's, and noisy copies of them."""
    index = mm.Index.create(path, "starter")
    index.add(GALLERY / "pictures")
    index.add(GALLERY / "sounds")
    originals = list(index.rows(vectors=True))
    copies = n_items - len(originals)
    rng = np.random.default_rng(0)
    chosen = [originals[k % len(originals)] for k in range(copies)]
    vectors = np.stack([row["vector"] for row in chosen])
    vectors = unit_rows(
        vectors + NOISE * rng.standard_normal(vectors.shape).astype(np.float32), vectors.shape[1]
    )
    rows = [
        Row(f"copy {k}", row["uri"], row["modality"], None, {"album": f"album {k % 12}"})
        for k, row in enumerate(chosen)
    ]
    provenances = [Provenance(row.id) for row in rows]
    table = ItemTable.open(index.path)
    with writing(index.path, None):
        table.upsert(rows, provenances, vectors, are_new=True)
    index.optimize()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--data", type=Path, default=Path(tempfile.gettempdir()) / "multimodal-page")
    arguments = parser.parse_args()
    path = arguments.data / f"page-{arguments.items}.lance"
    if not mm.Index.exists(path):
        arguments.data.mkdir(parents=True, exist_ok=True)
        build(path, arguments.items)
    port = 7900 + os.getpid() % 90
    command = [sys.executable, "-m", "multimodal", "serve", str(path), "--port", str(port)]
    server = subprocess.Popen(command)
    try:
        url = f"http://127.0.0.1:{port}"
        wait(url)
        chromium = next(filter(None, map(shutil.which, BROWSERS)), "chromium")
        run = subprocess.run(["node", SCRIPT, json.dumps({"url": url, "chromium": chromium})], capture_output=True,
                             text=True)  # fmt: skip
        if run.returncode:
            sys.exit(
                f"{run.stderr}node {SCRIPT.name} failed; `make test-page` installs the npm packages it needs"
            )
        result = json.loads(run.stdout)
        before = cpu_seconds(server.pid)
        for k in range(SEARCHES):
            search(url, f"{k} red apples")
        used = cpu_seconds(server.pid) - before
    finally:
        server.terminate()
        server.wait()
    ms = sorted(result["queries"])
    print(
        f"{arguments.items:,} items; {len(ms)} queries; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    )
    print(f"key to hits on the page: median {ms[len(ms) // 2]:.0f} ms, 90 % below {ms[int(0.9 * len(ms))]:.0f} ms, "
          f"fastest {ms[0]:.0f} ms")  # fmt: skip
    print(
        f"CPU of the server: {1000 * used / SEARCHES:.0f} ms for each search of 60 hits, without thumbnails"
    )
    print(f"scrolling through all items: median frame {result['frame']:.0f} ms")


def wait(url: str) -> None:
    """Waits until the server is ready."""
    end = time.monotonic() + READY_S
    while True:
        try:
            with urllib.request.urlopen(f"{url}/ready"):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def search(url: str, query: str) -> None:
    """The request that the page sends for a query."""
    body = json.dumps({"parts": [{"text": query, "weight": 1}], "k": 60}).encode()
    request = urllib.request.Request(f"{url}/v1/search", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        assert len(json.load(answer)["hits"]) == 60


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
