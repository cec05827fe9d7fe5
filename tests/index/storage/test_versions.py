"""Many small writes do not fill the disk, and no reader loses a file that it still reads."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.storage import lock, table
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import ItemTable
from tests.index.conftest import fill


def size(path: Path) -> tuple[int, int]:
    """Bytes and files below a folder."""
    files = [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files), len(files)


def n_versions(path: Path) -> int:
    return len(list((path / "items.lance" / "_versions").glob("*.manifest")))


def rewrite(index: Index, n: int, n_ids: int = 10) -> None:
    """Writes one row n times, as n adds of one item do, to n_ids ids by turns; the last value of each is its number."""
    items = ItemTable.open(index.path)
    for number in range(n):
        row = Row(f"{number % n_ids}", None, "text", f"text {number}", {"n": number})
        items.upsert([row], [Provenance(row.id)], np.eye(1, 4, number % 4, dtype=np.float32))
        items.compact()


def test_hundreds_of_small_writes_take_the_space_of_one(space: Space, tmp_path: Path) -> None:
    once, often = (Index.create(tmp_path / name, space) for name in ("once", "often"))
    once.add([f"{n} 1 0 0" for n in range(10)], ids=[f"{n}" for n in range(10)])
    often.add([f"{n} 0 1 0" for n in range(10)], ids=[f"{n}" for n in range(10)])
    rewrite(often, 4 * table.MAX_OLD_VERSIONS)
    assert n_versions(often.path) <= 2 * table.MAX_OLD_VERSIONS  # even before optimize
    often.optimize()
    (n_bytes, n_files), (least_bytes, least_files) = size(often.path), size(once.path)
    assert n_bytes <= 2 * least_bytes and n_files <= 2 * least_files
    last = range(4 * table.MAX_OLD_VERSIONS - 10, 4 * table.MAX_OLD_VERSIONS)
    assert sorted(row["metadata"]["n"] for row in often.rows()) == list(last)


def test_many_adds_leave_few_versions(index: Index) -> None:
    for number in range(table.MAX_OLD_VERSIONS + 40):
        index.add([f"{number} 1 0 0"], ids="same")
    assert n_versions(index.path) <= table.MAX_OLD_VERSIONS + 3
    (row,) = index.rows()
    assert row["text"] == f"{table.MAX_OLD_VERSIONS + 39} 1 0 0"


def test_a_reader_in_the_middle_of_its_rows_keeps_its_version(space: Space, index: Index) -> None:
    fill(index, np.eye(4, dtype=np.float32)[np.arange(3000) % 4], texts=[f"{n}" for n in range(3000)])
    reader = iter(Index.open(index.path, space).rows(vectors=True))
    texts = [next(reader)["text"]]
    rewrite(index, 100)
    index.delete([f"{n:06}" for n in range(1000)])
    index.optimize()
    kept = n_versions(index.path)
    assert kept > 1  # of the last hour, since the reader may need any of them
    texts += [row["text"] for row in reader]
    assert sorted(map(int, texts)) == list(range(3000))
    index.optimize()
    assert n_versions(index.path) == 1


def test_an_open_reader_answers_across_optimize(space: Space, index: Index) -> None:
    fill(index, np.eye(4, dtype=np.float32)[np.arange(300) % 4], texts=[f"1 {n}" for n in range(300)])
    reader = Index.open(index.path, space)
    assert len(reader.search("1 0 0 0", k=5)) == 5 and len(reader.search(text="1", k=3)) == 3
    for _ in range(3):
        rewrite(index, 40)
        index.optimize()
        assert n_versions(index.path) == 1  # the reader holds nothing between its calls
        assert {hit.id for hit in reader.search("1 0 0 0", k=400)} == {row["id"] for row in index.rows()}
        assert len(reader.search(text="text", k=400)) == 10 and len(reader) == 310


def search_until(path: Path, stop: Any, begun: Any, errors: Any) -> None:
    """Searches and reads all rows again and again, in a process of its own."""
    from tests import plugins

    with plugins.family("plain") as module:
        reader, n = Index.open(path, module.load()), 0
        while not stop.is_set():
            try:
                assert len(reader.search("1 0 0 0", k=10)) == 10
                assert sum(1 for _ in reader.rows(vectors=True)) >= 300
            except Exception as error:
                errors.put(repr(error))
                return
            n += 1
            begun.set()
        errors.put(n)


def test_another_process_searches_while_versions_are_removed(space: Space, index: Index) -> None:
    fill(index, np.eye(4, dtype=np.float32)[np.arange(300) % 4])
    context = multiprocessing.get_context("spawn")
    stop, begun, errors = context.Event(), context.Event(), context.Queue()
    process = context.Process(target=search_until, args=(index.path, stop, begun, errors))
    process.start()
    try:
        assert begun.wait(60)
        for _ in range(6):
            rewrite(index, 5)
            index.optimize()
    finally:
        stop.set()
        result = errors.get(timeout=60)
        process.join(60)
    assert isinstance(result, int) and result > 1, result
    index.optimize()
    assert n_versions(index.path) == 1


def test_a_writer_waits_for_readers_no_longer_than_it_says(index: Index) -> None:
    free = threading.Event()
    begun = threading.Event()

    def read() -> None:
        with lock.reading(index.path), lock.reading(index.path):
            begun.set()
            free.wait(20)

    thread = threading.Thread(target=read)
    thread.start()
    begun.wait(20)
    started = time.monotonic()
    assert not lock.await_readers(index.path, 0.05) and time.monotonic() - started < 5
    threading.Timer(0.05, free.set).start()
    assert lock.await_readers(index.path, 20)
    thread.join()


def test_a_process_forked_while_reading_does_not_keep_the_lock(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_readers, inherited = lock._open_readers, []

    def open_and_fork(path: Path) -> int | None:
        file = open_readers(path)
        assert file is not None
        inherited.append(os.dup(file))  # as a child process has it
        return file

    monkeypatch.setattr(lock, "_open_readers", open_and_fork)
    with lock.reading(index.path):
        assert not lock.await_readers(index.path, 0)
    assert lock.await_readers(index.path, 0)
    for file in inherited:
        os.close(file)


@pytest.mark.parametrize("broken", ["no lock file", "no file locks"])
def test_without_locks_versions_stay_for_an_hour(
    index: Index, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken == "no lock file":
        monkeypatch.setattr(lock, "_open_readers", lambda index: None)
    else:
        monkeypatch.setattr(lock, "_try_lock", lambda file, exclusive: False)
        monkeypatch.setattr(table, "WAIT_FOR_READERS_S", 0.0)
        monkeypatch.setattr(lock, "READER_TRIES", 1)
    rewrite(index, 80)
    index.optimize()
    assert n_versions(index.path) > 80 and len(list(index.rows())) == 10
    versions = (index.path / "items.lance" / "_versions").glob("*.manifest")
    assert sum(version.stat().st_mtime > time.time() - 3600 for version in versions) > 80
