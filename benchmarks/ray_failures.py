"""Kills a worker, a machine and the driver of a job on a simulated cluster, in turn, and counts what is lost.

    python -m benchmarks.ray_failures

The cluster has two nodes, which run on this machine and end like machines: `remove_node(allow_graceful=False)`. The
encoder sleeps, so that there is something to interrupt. Each line compares the index with that of one process: rows
lost and duplicated, and whether the same failures are stored.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import multimodal as mm
from benchmarks.ray_engine import FAMILY, MODULE
from multimodal.core.cluster import connection
from multimodal.index import IngestConfig

FAST = IngestConfig(commit_interval_s=0.2)
POLL_S = 0.02
N_BAD = 8
DRIVER = """
import sys
import multimodal as mm
from multimodal.core.cluster.options import ClusterOptions
from multimodal.index import IngestConfig
from multimodal.index.cluster_index import opened_on_cluster

_, address, index, folder, family, module = sys.argv
mm.register_family(family, module)
with opened_on_cluster(index, None, ClusterOptions(address, workers=2), {}) as opened:
    opened.add(folder, config=IngestConfig(commit_interval_s=0.2))
"""


@contextlib.contextmanager
def two_nodes() -> Iterator[Any]:
    """A simulated cluster, to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    with connection._private_cluster(), connection._quiet():
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            with connection._session(cluster.address):
                yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def kill_worker(cluster: Any) -> None:
    """Kills a worker that has a unit."""
    import psutil

    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if (process.cmdline() or [""])[0].startswith("ray::Actor.run"):
                process.send_signal(signal.SIGKILL)
                return
    raise RuntimeError("no worker is at work")


def remove_node(cluster: Any) -> None:
    """Ends a node, its workers too, as the loss of a machine does."""
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


def interrupted(index: mm.Index, folder: Path, at: Callable[[], bool], strike: Callable[[], None]) -> bool:
    """Adds a folder by two workers, and strikes as soon as a condition holds -> whether that was before the end."""
    is_over = threading.Event()
    struck: list[bool] = []

    def watch() -> None:
        while not is_over.is_set() and not at():
            time.sleep(POLL_S)
        if not is_over.is_set():
            strike()
            struck.append(True)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        index.add(folder, engine="ray", workers=2, config=FAST)
    finally:
        is_over.set()
        thread.join()
    return bool(struck)


def killed_driver(index: mm.Index, folder: Path) -> bool:
    """Adds a folder by a driver that is killed, and once more -> whether the first had added a part."""
    import ray

    address = ray.get_runtime_context().gcs_address
    arguments = [address, str(index.path), str(folder), FAMILY, MODULE]
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, *arguments], env=os.environ)
    while len(index) == 0 and driver.poll() is None:
        time.sleep(POLL_S)
    driver.kill()
    driver.wait()
    kept = len(index)
    return index.add(folder, engine="ray", workers=2, config=FAST).unchanged >= kept > 0


def compare(index: mm.Index, plain: mm.Index) -> str:
    """What an index lacks of another, and has twice."""
    ids, expected = (Counter(row.id for row, _ in each._table.rows()) for each in (index, plain))
    state = "equal" if {f.uri for f in index.failures()} == {f.uri for f in plain.failures()} else "DIFFER"
    n_duplicated = sum(n - 1 for n in ids.values())
    lost, extra = len(expected.keys() - ids.keys()), len(ids.keys() - expected.keys())
    return f"{len(ids):6} rows  {lost:4} lost  {n_duplicated + extra:4} duplicated  failures {state}"


def main(arguments: Sequence[str]) -> None:
    """Prints one line for each way to interrupt a job."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ray_failures", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--way", default="", help="only the ways whose name contains this")
    options = parser.parse_args(arguments)
    n_items = options.items
    mm.register_family(FAMILY, MODULE)
    with two_nodes() as cluster, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "texts"
        folder.mkdir()
        for number in range(n_items):
            (folder / f"{number:06}.txt").write_text(f"text {number}")
        for number in range(N_BAD):
            (folder / f"{number:06}.png").write_text("no image")
        plain = mm.Index.create(Path(scratch) / "plain.lance", FAMILY)
        plain.add(folder)
        ways: dict[str, Callable[[mm.Index], bool]] = {
            "worker killed": lambda index: interrupted(
                index, folder, lambda: len(index) > 0, lambda: kill_worker(cluster)
            ),
            "node lost": lambda index: interrupted(
                index, folder, lambda: len(index) > 0, lambda: remove_node(cluster)
            ),
            "node lost while actors start": lambda index: interrupted(
                index, folder, lambda: True, lambda: remove_node(cluster)
            ),
            "driver killed, run again": lambda index: killed_driver(index, folder),
        }
        chosen = {way: run for way, run in ways.items() if options.way in way}
        for number, (way, run) in enumerate(chosen.items()):
            if not cluster.worker_nodes:
                cluster.add_node(num_cpus=1)
            index = mm.Index.create(Path(scratch) / f"{number}.lance", FAMILY)
            start = time.perf_counter()
            struck = run(index)
            seconds = time.perf_counter() - start
            outcome = compare(index, plain) if struck else "the job ended before"
            print(f"{way:30} {outcome}  {seconds:6.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
