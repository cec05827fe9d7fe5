"""Kills an indexing process repeatedly and checks that no document is lost or duplicated.

    python -m tests.index.ingest.faults --kills 30 --files 600

creates a folder of mixed files, some of them corrupt in different ways, and indexes it once undisturbed, and once in a
process that receives SIGKILL at random moments and is started again until it ends. The index and its failures must then
equal those of the undisturbed run. The tests run a smaller trial.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import soundfile

from multimodal.core.remote.path import AnyPath

HERE = Path(__file__).parents[1]  # tests/index
ROOT = HERE.parents[1]
SLOWNESS_S = 0.004  # per file, so that there is something to interrupt
COMMIT_ROWS = 12

Process = Any


# --- files ----------------------------------------------------------------------------------------


def make_files(folder: Path, n: int, n_bad: int, seed: int = 0) -> None:
    """Writes good and bad files into several folders, with unusual names."""
    rng = np.random.default_rng(seed)
    ways = [*BAD.items()]
    for number in range(n):
        room = folder / f"room {number % 7}" / ("deep" if number % 3 else "")
        room.mkdir(parents=True, exist_ok=True)
        if number < n_bad:
            name, make = ways[number % len(ways)]
            make(room / f"{number:04d} {name}", rng)
        else:
            make_good(room, number, rng)


def make_good(room: Path, number: int, rng: np.random.Generator) -> None:
    name = (f"{number:04d}", f"{number:04d}\nline", f"{number:04d} é☃", f"{number:04d}".ljust(245, "x"))[
        number % 4
    ]
    kind = number % 10
    if kind < 5:
        pixels = rng.integers(0, 256, (6 + number % 5, 8, 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(room / f"{name}.png")
    elif kind < 7:
        seconds = 28 if number % 40 == 5 else 0.2  # long audio is split into windows
        samples = rng.uniform(-0.5, 0.5, int(8000 * seconds)).astype(np.float32)
        soundfile.write(room / f"{name}.wav", samples, 8000)
    else:
        n_words = 400 if number % 20 == 8 else 5  # long texts are split into passages
        words = rng.choice(["apple", "bird", "cat", "dog", "egg"], n_words)
        (room / f"{name}.txt").write_text(f"{number} " + " ".join(words) + ".", encoding="utf-8")


def _png(rng: np.random.Generator) -> bytes:
    import io

    file = io.BytesIO()
    PIL.Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def _wav(rng: np.random.Generator, subtype: str, value: float) -> bytes:
    import io

    file = io.BytesIO()
    soundfile.write(file, np.full(800, value, np.float32), 8000, format="WAV", subtype=subtype)
    return file.getvalue()


def _content(make: Callable[[np.random.Generator], bytes]) -> Callable[[Path, np.random.Generator], object]:
    return lambda path, rng: path.write_bytes(make(rng))


BAD: dict[str, Callable[[Path, np.random.Generator], object]] = {
    "empty.jpg": _content(lambda rng: b""),
    "cut.png": _content(lambda rng: _png(rng)[:900]),
    "header.png": _content(lambda rng: _png(rng)[:33] + b"garbage" * 9),
    "bits.png": _content(lambda rng: _png(rng)[:200] + rng.bytes(300) + _png(rng)[500:]),
    "words.jpg": _content(lambda rng: b"these are words, not a picture"),
    "noise.bin": _content(lambda rng: b"\x01" + rng.bytes(400)),
    "archive.png": _content(lambda rng: b"PK\x03\x04" + rng.bytes(100)),
    "bomb.png": _content(lambda rng: _png(rng)[:16] + (200_000).to_bytes(4, "big") * 2 + _png(rng)[24:]),
    "head.wav": _content(lambda rng: b"RIFF\x24\0\0\0WAVE"),
    "nan.wav": _content(lambda rng: _wav(rng, "FLOAT", float("nan"))),
    "noise.flac": _content(lambda rng: b"fLaC" + rng.bytes(200)),
    "noise.ogg": _content(lambda rng: b"OggS" + rng.bytes(200)),
    "noise.mp3": _content(lambda rng: b"ID3" + rng.bytes(200)),
    "latin.txt": _content(lambda rng: "café crème".encode("latin-1")),
    "nul.txt": _content(lambda rng: b"a\0b"),
    "blank.md": _content(lambda rng: b" \n\t\n"),
    "boom.txt": _content(lambda rng: b"boom"),
    "dangling.png": lambda path, rng: path.symlink_to("nowhere"),
    "loop.png": lambda path, rng: path.symlink_to(path.name),
    "pipe.txt": lambda path, rng: os.mkfifo(path),
}


# --- a process that indexes -----------------------------------------------------------------------


@dataclass(frozen=True)
class Crash:
    """Ends the process without cleanup at the n-th call of a method, before or after the call."""

    owner: str  # module:class
    method: str
    call: int
    after: bool


def index_all(
    path: Path, folder: Path, slowness_s: float, commit_rows: int, begins: Callable[[], object]
) -> tuple[dict[str, Any], float]:
    """Opens an index of the space `plain`, or creates it, and adds a folder -> (the report as a dict, seconds)."""
    from multimodal.index import Index, IngestConfig
    from tests.index.families import plain

    index = Index.open(path, plain.load()) if Index.exists(path) else Index.create(path, plain.load())
    for encoder in index.space.encoders.values():
        _slow_down(encoder, slowness_s)
    begins()
    began = time.monotonic()
    report = index.add(folder, threads=2, batch_size=8, config=IngestConfig(commit_rows=commit_rows))
    return report.to_dict(), time.monotonic() - began


def work(
    path: Path, folder: Path, slowness_s: float, commit_rows: int, crash: Crash | None, connection: Connection
) -> None:
    """The work of a process. It sends "begins", and at the end its report."""
    os.environ["OMP_NUM_THREADS"] = "1"

    def begins() -> None:
        if crash is not None:
            _arm(crash)
        connection.send("begins")

    connection.send(index_all(path, folder, slowness_s, commit_rows, begins))


def _slow_down(encoder: Any, slowness_s: float) -> None:
    prepare = encoder.prepare

    def slow(items: Any) -> Any:
        time.sleep(slowness_s * len(items))
        return prepare(items)

    encoder.prepare = slow


def _arm(crash: Crash) -> None:
    import importlib

    module, _, name = crash.owner.partition(":")
    owner = getattr(importlib.import_module(module), name)
    method = getattr(owner, crash.method)
    calls = 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == crash.call and not crash.after:
            os._exit(9)
        result = method(*arguments, **options)
        if calls == crash.call:
            os._exit(9)
        return result

    setattr(owner, crash.method, counted)


class Runner:
    """Indexes one folder: undisturbed in this process, and in processes to be killed, forked from a server that has
    imported the slow modules."""

    def __init__(self, folder: Path, slowness_s: float = SLOWNESS_S, commit_rows: int = COMMIT_ROWS) -> None:
        self.folder, self.slowness_s, self.commit_rows = folder, slowness_s, commit_rows
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(
            [
                "numpy",
                "torch",
                "PIL.Image",
                "soundfile",
                "pyarrow",
                "multimodal.index",
                "tests.index.families.plain",
            ]
        )

    @contextlib.contextmanager
    def begun(self, index: Path, crash: Crash | None = None) -> Iterator[tuple[Process, Connection]]:
        """A process whose job has just begun, and the connection on which it reports."""
        parent_end, child_end = self.context.Pipe(duplex=False)
        arguments = (index, self.folder, self.slowness_s, self.commit_rows, crash, child_end)
        process = self.context.Process(target=work, args=arguments)
        process.start()
        child_end.close()
        try:
            assert parent_end.recv() == "begins"
            yield process, parent_end
        finally:
            process.kill()
            process.join()
            parent_end.close()

    def to_the_end(self, index: Path) -> tuple[dict[str, Any], float]:
        """Runs undisturbed -> (the report as a dict, seconds)."""
        return index_all(index, self.folder, self.slowness_s, self.commit_rows, lambda: None)

    def killed(self, index: Path, after_s: float) -> bool:
        """Runs and is killed after `after_s` seconds -> whether that was before its end."""
        with self.begun(index) as (process, connection):
            if connection.poll(after_s):
                connection.recv()
                process.join()
                return False
            process.kill()
            return True

    def crashed(self, index: Path, crash: Crash) -> bool:
        """Runs and crashes -> whether it reached that point."""
        with self.begun(index, crash) as (process, _):
            process.join()
            return process.exitcode == 9


# --- checks ---------------------------------------------------------------------------------------


def state(path: AnyPath) -> tuple[dict[str, Any], dict[str, Any]]:
    """The rows and failures of an index, by id. Raises AssertionError if a row is duplicated."""
    from multimodal.index.storage.failures import FailureLog
    from multimodal.index.storage.table import ItemTable

    rows, origins, vectors = ItemTable.open(path).fetch_rows("true")
    twice = [id_ for id_, n in Counter(row.id for row in rows).items() if n > 1]
    assert not twice, f"{len(twice)} rows are duplicated, such as {twice[0]!r}"
    held = {row.id: (row, origin, vector) for row, origin, vector in zip(rows, origins, vectors, strict=True)}
    return held, {failed.key: failed for failed in FailureLog(path)}


def assert_same(first: AnyPath, second: AnyPath) -> int:
    """Raises AssertionError unless two indexes hold the same rows and failures -> how many rows."""
    (rows, failures), (wanted, wanted_failures) = state(first), state(second)
    lost, more = wanted.keys() - rows.keys(), rows.keys() - wanted.keys()
    assert not lost, f"{len(lost)} rows are lost, such as {min(lost)!r}"
    assert not more, f"{len(more)} rows are too many, such as {min(more)!r}"
    for id_, (row, origin, vector) in rows.items():
        assert (row, origin) == wanted[id_][:2], f"{id_!r} differs: {row} {origin} {wanted[id_]}"
        np.testing.assert_allclose(vector, wanted[id_][2], atol=1e-6)
    assert failures == wanted_failures
    return len(rows)


def trial(base: Path, n_files: int, n_bad: int, n_kills: int, seed: int, say: Callable[[str], None]) -> int:
    """Runs a trial -> how many times a job was killed before its end. Raises AssertionError if anything differs."""
    folder = base / "files"
    make_files(folder, n_files, n_bad, seed)
    runner = Runner(folder)
    report, seconds = runner.to_the_end(base / "undisturbed.lance")
    say(f"undisturbed: {report['added']} added, {len(report['failed'])} failed, {seconds:.1f} s")
    chance = random.Random(seed)
    kills = rounds = 0
    while kills < n_kills:
        rounds += 1
        index = base / f"killed {rounds}.lance"
        here = 0
        while kills < n_kills and runner.killed(index, chance.uniform(0, seconds / 2)):
            kills, here = kills + 1, here + 1
        last, _ = runner.to_the_end(index)
        rows = assert_same(index, base / "undisturbed.lance")
        assert len(last["failed"]) == len(report["failed"])
        assert last["added"] + last["unchanged"] == report["added"] and last["updated"] == 0
        say(f"round {rounds}: killed {here} times; {last['unchanged']} were there, {last['added']} added; {rows} rows, "
            "none lost, none duplicated, the same vectors and the same failures")  # fmt: skip
    return kills


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.index.ingest.faults", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--bad", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    base = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        kills = trial(base, options.files, options.bad, options.kills, options.seed, print)
    finally:
        shutil.rmtree(base)
    what = f"{options.files} files, {options.bad} of them corrupt"
    print(f"killed {kills} times while indexing {what}: nothing was lost or duplicated")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
