"""Jobs on a Ray cluster of this machine: how well workers scale, what they cost, and what Ray Data keeps.

    python -m benchmarks.ray_engine scaling        an encoder that sleeps, at 1, 2, 4 and 8 workers
    python -m benchmarks.ray_engine cost           the starter: CPU seconds of two workers beside one process
    python -m benchmarks.ray_engine decoders       a GPU that waits for one core: alone, and with decoders
    python -m benchmarks.ray_engine checkpoints    Ray Data and lance-ray, killed and run again: rows that are lost

`scaling` shows the share of the time that the engine itself takes, so it holds on any machine whose cores are mostly
idle; `cost` counts CPU seconds of this process and of every process of the cluster.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import multimodal as mm
from multimodal.core.backends.runtime import Runtime
from multimodal.core.cluster.connection import WorkerSize, _private_cluster, _quiet, _session, connected
from multimodal.core.cluster.options import ClusterOptions
from multimodal.core.cluster.pool import UNITS_AHEAD, WorkerPool
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.limits import get_limits
from multimodal.core.modality import Modality
from multimodal.core.remote.access import StoreAccess
from multimodal.core.space import Space
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.engines.driver import Driver
from multimodal.index.ingest.engines.worker import IndexWorker, WorkerSettings
from multimodal.index.ingest.jobs import job_context
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import SourceOptions
from multimodal.index.storage.table import ItemTable
from multimodal.testing import FakeEncoder

DECODING = "decoding"
DECODERS_START_S = 400.0  # at most: runs are repeated until decoders, which start last, are at work
FASTER = 0.45  # the duration of a run with them, beside one without
FAMILY, MODULE = "sleeping", "benchmarks.ray_engine"
CARDS = ()
SECONDS_PER_ITEM = 0.016
WORKERS = (1, 2, 4, 8)
GOALS = {2: 0.97, 4: 0.95, 8: 0.90}


class SleepingEncoder(FakeEncoder):
    """Takes 16 ms for an item, and no CPU."""

    def forward(self, batch: dict[str, Any]) -> Any:
        """Returns the prepared vectors, later."""
        time.sleep(SECONDS_PER_ITEM * len(batch["rows"]))
        return super().forward(batch)


def load(rest: str = "", *, device: str = "auto") -> Space:
    """The space of the family."""
    kind = DecodingEncoder if rest == DECODING else SleepingEncoder
    return Space([kind(Modality.TEXT)], name=f"{FAMILY}/{rest}" if rest else FAMILY)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """An encoder of a saved space."""
    return SleepingEncoder(saved.modality)


def _pool(table: ItemTable, options: JobOptions, size: WorkerSize) -> WorkerPool:
    options = replace(options, threads=options.threads or size.n_threads)
    access = StoreAccess.of(table.path)
    settings = WorkerSettings(table.path, None, {}, size, options, get_limits(), access)
    return WorkerPool(partial(IndexWorker, settings), size)


def _timed(pool: WorkerPool, table: ItemTable, texts: list[str], options: JobOptions) -> float:
    """The seconds of a job, all of whose workers and decoders are ready when it begins."""
    while pool.room < UNITS_AHEAD * pool.size.n:
        pool.wait(1.0)
    start = time.perf_counter()
    with job_context(table, options, lambda: None) as progress:
        records = resolve.records(texts, None, SourceOptions(as_shards=True))
        Driver(records, table, progress, options.config, pool).run()
    return time.perf_counter() - start


def scaling(n_items: int) -> None:
    """Prints the seconds of one job at several numbers of workers, all of which are ready when it begins."""
    mm.register_family(FAMILY, MODULE)
    seconds: dict[int, float] = {}
    options = JobOptions(threads=1, batch_size=16)
    texts = [f"text {number}" for number in range(n_items)]
    with tempfile.TemporaryDirectory() as folder:
        for n in WORKERS:
            table = mm.Index.create(Path(folder) / f"{n}.lance", FAMILY)._table
            with connected(ClusterOptions(workers=n)) as size, _pool(table, options, size) as pool:
                seconds[n] = _timed(pool, table, texts, options)
            efficiency = seconds[1] / seconds[n] / n
            goal = f"  (goal {GOALS[n]:.2f})" if n in GOALS else ""
            print(f"{n} workers  {seconds[n]:7.2f} s  efficiency {efficiency:.2f}{goal}", flush=True)


class DecodingEncoder(SleepingEncoder):
    """Takes 20 ms to prepare an item in a thread, which stands for a core, and 2 ms on the GPU."""

    def prepare(self, items: Sequence[Any]) -> Any:
        """Returns the prepared vectors, later."""
        time.sleep(0.020 * len(items))
        return super().prepare(items)

    def forward(self, batch: dict[str, Any]) -> Any:
        """Returns the prepared vectors, later."""
        time.sleep(0.002 * len(batch["rows"]))
        return FakeEncoder.forward(self, batch)


def decoders(n_items: int) -> None:
    """Prints how fast a worker with a GPU and one core is: alone, with three decoders of one core, and with as many as
    it finds that it needs of the three cores on a machine without a GPU."""
    mm.register_family(FAMILY, MODULE)
    options = JobOptions(threads=1, batch_size=1)  # texts are cheap: with more, a unit is one batch
    with _gpu_and_cpu_nodes(), tempfile.TemporaryDirectory() as folder:
        alone = 0.0
        for n in (0, 3, None):
            table = mm.Index.create(Path(folder) / f"{n}.lance", f"{FAMILY}/{DECODING}")._table
            asked = ClusterOptions(workers=1, decoders_per_worker=n)
            with connected(asked) as size, _pool(table, options, size) as pool:
                seconds: list[float] = []
                while len(seconds) < 2 or (
                    n != 0 and sum(seconds) < DECODERS_START_S and seconds[-2] > FASTER * alone
                ):
                    texts = [f"{len(seconds)} {number}" for number in range(n_items)]
                    seconds.append(_timed(pool, table, texts, options))
            alone = alone or min(seconds)
            name = "automatic" if n is None else f"{n} decoders"
            print(f"{name:10} {n_items / min(seconds):6.1f} items/s", flush=True)


@contextmanager
def _gpu_and_cpu_nodes() -> Iterator[None]:
    """A simulated cluster of a machine with a GPU and one core, and one with three cores."""
    import ray
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "num_gpus": 1, "include_dashboard": False}
    with _private_cluster(), _quiet():
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(num_cpus=3)
        try:
            with _session(cluster.address):
                yield
        finally:
            ray.shutdown()
            cluster.shutdown()


@contextmanager
def cpu_seconds() -> Iterator[list[float]]:
    """Appends the CPU seconds of this process and all its descendants, ended ones too, to the list that it gives."""
    import resource

    def now() -> float:
        usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    spent: list[float] = []
    start = now()
    yield spent
    spent.append(now() - start)


def cost(n_items: int) -> None:
    """Prints the CPU seconds of a job of the starter in one process and on two workers."""
    import numpy as np
    import PIL.Image

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        folder.mkdir()
        rng = np.random.default_rng(0)
        for number in range(n_items):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            PIL.Image.fromarray(pixels).resize((256, 256)).save(folder / f"{number:05}.jpg")
        here = mm.Index.create(Path(scratch) / "here.lance", "starter")
        here.space.encode([mm.Image(folder / "00000.jpg")])
        with cpu_seconds() as alone:
            here.add(folder, threads=1)
        there = mm.Index.create(Path(scratch) / "there.lance", "starter")
        with connected(ClusterOptions()), _cluster_cpu_seconds() as shared:
            there.add(folder, engine="ray", workers=2)
        same = {row.id: vector for row, vector in here._table.rows(vectors=True)}
        largest = max(abs(same[row.id] - vector).max() for row, vector in there._table.rows(vectors=True))
        total = sum(shared.values())
        parts = ", ".join(f"{seconds:.1f} {part}" for part, seconds in shared.items())
        print(
            f"{n_items} images: one process {alone[0]:.1f} CPU s, two workers {total:.1f} CPU s "
            f"({total / alone[0] - 1:+.0%}): {parts}; "
            f"{len(there)} of {len(here)} rows, vectors differ by {largest:.1e}"
        )


SAMPLED_S = 0.5  # sampling costs CPU itself
DRIVER, STARTS, WORKERS_TITLE, DAEMONS = "of the driver", "for starts of workers", "of workers", "of daemons"


@contextmanager
def _cluster_cpu_seconds() -> Iterator[dict[str, float]]:
    """As cpu_seconds, with the daemons and workers of the cluster: the seconds of each kind of process."""
    import threading

    import psutil

    me = psutil.Process()
    last: dict[int, float] = {}
    started: dict[int, float] = {}
    workers: set[int] = set()
    stop = threading.Event()

    def sample() -> None:
        for process in [me, *me.children(recursive=True)]:
            try:
                times = process.cpu_times()
                last[process.pid] = times.user + times.system
                title = process.cmdline()[:1]
                if title and title[0].startswith("ray::Actor"):
                    workers.add(process.pid)
                    if title[0].startswith("ray::Actor.start"):
                        started[process.pid] = last[process.pid]
            except psutil.Error:
                continue

    def watch() -> None:
        while not stop.wait(SAMPLED_S):
            sample()

    sample()
    before = dict(last)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    spent: dict[str, float] = {}
    yield spent
    sample()
    stop.set()
    thread.join()
    own = {pid: seconds - before.get(pid, 0.0) for pid, seconds in last.items()}
    spent[DRIVER] = own.pop(me.pid)
    spent[STARTS] = sum(started.values())
    spent[WORKERS_TITLE] = sum(own[pid] for pid in workers) - spent[STARTS]
    spent[DAEMONS] = sum(seconds for pid, seconds in own.items() if pid not in workers)


CHECKPOINTED = """
import sys, time
import ray
from ray.data.checkpoint import CheckpointConfig
import lance_ray

_, source, table, folder, seconds, rows_per_task = sys.argv
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
context = ray.data.DataContext.get_current()
context.enable_progress_bars = False
context.checkpoint_config = CheckpointConfig(id_column="id", checkpoint_path=folder)

def slow(batch):
    time.sleep(float(seconds))
    return batch

rows = ray.data.read_parquet(source).map_batches(slow, batch_size=500)
lance_ray.write_lance(rows, table, min_rows_per_file=int(rows_per_task))
"""
N_KILLS, N_PARTS, SECONDS_TO_LIVE = 5, 20, 5.0


def checkpoints(n_items: int) -> None:
    """Prints how many rows Ray Data jobs with checkpoints have after they were killed and run again.

    A job is killed at a random time after its first checkpoint. By default lance-ray writes a million rows by one task,
    so that the first checkpoint comes at the end; here each twentieth of the rows is written by a task of its own.
    """
    import random

    import pyarrow as pa
    import pyarrow.parquet as pq

    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        for part in range(N_PARTS):
            ids = range(part * n_items // N_PARTS, (part + 1) * n_items // N_PARTS)
            pq.write_table(
                pa.table({"id": [f"{number:08}" for number in ids]}), source / f"{part:02}.parquet"
            )
        for number in range(N_KILLS):
            table, done = (Path(scratch) / f"{name}-{number}" for name in ("table.lance", "checkpoints"))
            arguments = [sys.executable, "-c", CHECKPOINTED, str(source), str(table), str(done)]
            first = subprocess.Popen([*arguments, "0.2", str(n_items // N_PARTS)])
            while first.poll() is None and not _finished_checkpoints(done):
                time.sleep(0.02)
            with suppress(subprocess.TimeoutExpired):
                first.wait(chance.uniform(0.0, SECONDS_TO_LIVE))
            first.kill()
            first.wait()
            kept, n_checkpoints = _n_rows(table), len(_finished_checkpoints(done))
            again = subprocess.run([*arguments, "0", str(n_items // N_PARTS)], check=False)
            rows = _n_rows(table)
            print(
                f"killed after {n_checkpoints} checkpoints with {kept:,} rows visible; run again, exit code "
                f"{again.returncode}: {rows:,} of {n_items:,} rows, {n_items - rows:,} lost",
                flush=True,
            )


def _finished_checkpoints(folder: Path) -> list[Path]:
    return [*folder.rglob("*.parquet")] if folder.exists() else []


def _n_rows(table: Path) -> int:
    """The rows of a table; 0 if it has no version yet."""
    import lance

    try:
        return int(lance.dataset(str(table)).count_rows())
    except (OSError, ValueError):
        return 0


def main(arguments: Sequence[str]) -> None:
    """Runs one of the measurements."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ray_engine", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("what", choices=tuple(RUNS))
    parser.add_argument("--items", type=int)
    options = parser.parse_args(arguments)
    run, n_items = RUNS[options.what]
    run(options.items or n_items)


RUNS = {
    "scaling": (scaling, 8000),
    "cost": (cost, 2000),
    "decoders": (decoders, 400),
    "checkpoints": (checkpoints, 40_000),
}

if __name__ == "__main__":
    main(sys.argv[1:])
