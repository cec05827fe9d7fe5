"""Interrupted jobs resume: nothing is lost, duplicated or encoded again, whatever interrupted them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from multimodal.core.errors import IndexBusy, IndexStateError
from multimodal.core.items import Image, Text
from multimodal.core.space import Space
from multimodal.index import Index, IngestConfig, IngestReport
from multimodal.index.storage import failures, lock
from multimodal.index.storage.failures import FailureLog, FailureRecord
from multimodal.index.storage.table import ItemTable
from tests.index.ingest import faults

Write = Callable[..., Path]


def n_encoded(space: Space) -> int:
    return sum(len(encoder.seen) for encoder in space.encoders.values())  # type: ignore[attr-defined]


# --- SIGKILL --------------------------------------------------------------------------------------


LATIN = pytest.mark.filterwarnings("ignore:.*so read as Latin-1")  # one of the files of `faults`


@LATIN
def test_a_job_killed_repeatedly_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    """The same with 30 kills and 600 files: python -m tests.index.ingest.faults"""
    said: list[str] = []
    kills = faults.trial(tmp_path, n_files=80, n_bad=20, n_kills=3, seed=1, say=said.append)
    assert kills == 3 and said[0].startswith("undisturbed: 61 added, 18 failed")


TABLE, FAILURE_LOG = (
    "multimodal.index.storage.table:ItemTable",
    "multimodal.index.storage.failures:FailureLog",
)


@LATIN
def test_a_job_that_dies_between_any_two_steps_resumes_without_loss(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    faults.make_files(folder, 50, 20)
    runner = faults.Runner(folder, slowness_s=0.0)
    runner.to_the_end(tmp_path / "undisturbed.lance")
    steps = [
        faults.Crash(TABLE, "upsert", 1, after=True),  # written, before the failures are
        faults.Crash(FAILURE_LOG, "write", 1, after=True),
        faults.Crash(TABLE, "compact", 1, after=False),  # all is written, nothing is compacted
    ]
    for step in steps:
        assert runner.crashed(tmp_path / "killed.lance", step), step
    runner.to_the_end(tmp_path / "killed.lance")
    assert faults.assert_same(tmp_path / "killed.lance", tmp_path / "undisturbed.lance") > 30


# --- nothing is encoded again ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, image: Write, sound: Write) -> Path:
    root = tmp_path / "files"
    image(root / "red.png")
    sound(root / "bell.wav")
    (root / "note.txt").write_text("an apple", encoding="utf-8")
    return root


def test_unchanged_files_are_not_opened(index: Index, space: Space, folder: Path) -> None:
    index.add(folder)
    before = n_encoded(space)
    for path in folder.iterdir():  # damaged, but of the same size and time
        status = path.stat()
        path.write_bytes(b"?" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index.add(folder) == IngestReport(0, 0, unchanged=3)
    assert n_encoded(space) == before


def test_a_new_file_time_is_stored_without_encoding(index: Index, space: Space, folder: Path) -> None:
    index.add(folder)
    before = n_encoded(space)
    for path in folder.iterdir():
        os.utime(path, (1, 1))
    assert index.add(folder) == IngestReport(0, 0, unchanged=3)
    provenances = [provenance for _, provenance in ItemTable.open(index.path).provenances()]
    assert {provenance.mtime_ns for provenance in provenances} == {1_000_000_000}
    assert all(provenance.content for provenance in provenances)
    assert n_encoded(space) == before


def test_changed_files_are_encoded_and_replace_the_old_rows(index: Index, folder: Path) -> None:
    index.add(folder, metadata={"album": "x"})
    (folder / "note.txt").write_text("a bird", encoding="utf-8")  # shorter
    (folder / "red.png").write_bytes((folder / "red.png").read_bytes())  # the same, written again
    assert index.add(folder) == IngestReport(0, 1, unchanged=2)
    (row,) = index.rows(modality="text")
    assert (row["text"], row["metadata"]) == ("a bird", {"album": "x"})
    assert len(index) == 3


def test_new_metadata_is_written_without_encoding(index: Index, space: Space, folder: Path) -> None:
    index.add(folder, metadata={"album": "x"})
    before = n_encoded(space)
    assert index.add(folder) == IngestReport(0, 0, unchanged=3)
    assert {row["metadata"]["album"] for row in index.rows()} == {"x"}  # none given: it stays
    assert index.add(folder, metadata={"album": "y"}) == IngestReport(0, 3)
    assert {row["metadata"]["album"] for row in index.rows()} == {"y"}
    assert index.add(folder, metadata={}) == IngestReport(0, 3)
    assert all(row["metadata"] == {} for row in index.rows())
    assert n_encoded(space) == before
    (best, *_) = index.search(Image(np.full((2, 2, 3), (255, 0, 0), np.uint8)), modality="image")
    assert best.score == pytest.approx(1.0)  # the vectors are still there


def test_items_in_memory_are_identified_by_their_content(index: Index, space: Space) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    items: list[Any] = ["a b", pixels, {"array": np.linspace(0, 1, 80), "sampling_rate": 8000}]
    index.add(items)
    before = n_encoded(space)
    assert index.add(items) == IngestReport(0, 0, unchanged=3)
    assert index.add(Text("a b", uri="book:1")) == IngestReport(1, 0)
    assert n_encoded(space) == before + 1
    assert index.add(Text("a b", uri="book:1")) == IngestReport(0, 0, unchanged=1)
    assert index.add(Text("a c", uri="book:1")) == IngestReport(0, 1)
    assert n_encoded(space) == before + 2


def test_audio_that_became_shorter_leaves_no_window_behind(index: Index, tmp_path: Path) -> None:
    import soundfile

    path = tmp_path / "talk.wav"
    for seconds, rows in ((40, 5), (18, 2), (5, 1), (40, 5)):
        soundfile.write(path, np.full(8000 * seconds, 0.25, np.float32), 8000)
        report = index.add(path)
        assert report.added + report.updated == 1 and len(index) == rows
    assert index.delete(str(path)) == 5 and len(index) == 0


def test_an_id_given_many_times_ends_with_the_last_item(index: Index) -> None:
    items = [(Text(f"{n} 1 0 0", uri="same"), {"n": n}) for n in range(50)]
    report = index.add([*items, ("b", None)])
    assert report.added + report.updated + report.unchanged == 51
    rows = {row["id"]: row for row in index.rows()}
    assert len(rows) == 2 and (rows["same"]["text"], rows["same"]["metadata"]) == ("49 1 0 0", {"n": 49})


def test_items_given_many_times_are_encoded_once(index: Index, space: Space, folder: Path) -> None:
    report = index.add([*["a b"] * 3000, *[folder / "red.png"] * 3000])
    assert (report.added, report.unchanged) == (2, 5998)
    assert n_encoded(space) == 2


# --- files that change during the job -------------------------------------------------------------


def while_preparing(space: Space, act: Callable[[], None]) -> None:
    """Calls `act` once, when the first image is prepared."""
    encoder = space.encoders["image"]  # type: ignore[index]
    prepare, done = encoder.prepare, []

    def prepare_and_act(items: Any) -> Any:
        result = prepare(items)
        if not done:
            done.append(True)
            act()
        return result

    encoder.prepare = prepare_and_act  # type: ignore[method-assign]


def test_a_file_that_changes_during_the_job_is_read_again(
    index: Index, space: Space, tmp_path: Path, image: Write
) -> None:
    path = image(tmp_path / "p" / "x.png", (255, 0, 0))
    while_preparing(space, lambda: image(path, (0, 0, 255)) and os.utime(path, (5, 5)))
    assert index.add(tmp_path / "p") == IngestReport(1, 0)
    (row,) = index.rows(vectors=True)
    assert row["vector"] == pytest.approx(space.encode(Image(path)))
    assert index.failures() == ()


def test_a_file_that_keeps_changing_is_a_failure_until_it_stops(
    index: Index, space: Space, tmp_path: Path, image: Write
) -> None:
    path = image(tmp_path / "p" / "x.png")
    encoder = space.encoders["image"]  # type: ignore[index]
    prepare, times = encoder.prepare, iter(range(1, 9))

    def restless(items: Any) -> Any:
        os.utime(path, (n := next(times), n))
        return prepare(items)

    encoder.prepare = restless  # type: ignore[method-assign]
    report = index.add(tmp_path / "p")
    (failed,) = report.failed
    assert (failed.stage, failed.reason) == (
        "read", f"{path}: changed while it was being read; add it again when it is complete"
    )  # fmt: skip
    assert index.failures() == report.failed and len(index) == 0
    encoder.prepare = prepare  # type: ignore[method-assign]
    assert index.retry_failed() == IngestReport(1, 0) and index.failures() == ()


def test_a_file_deleted_during_the_job_is_one_failure(
    index: Index, space: Space, tmp_path: Path, image: Write
) -> None:
    root = tmp_path / "p"
    paths = [image(root / f"{n}.png", (n, 0, 0)) for n in range(6)]
    while_preparing(space, paths[4].unlink)
    report = index.add(root, batch_size=2, threads=1)
    assert report.added == 5
    (failed,) = report.failed
    assert (failed.uri, failed.stage) == (str(paths[4]), "read") and "no such file" in failed.reason
    assert index.sync(root) == IngestReport(0, 0, unchanged=5) and index.failures() == ()


# --- failures -------------------------------------------------------------------------------------


def test_failures_persist_until_they_are_repaired(
    index: Index, space: Space, tmp_path: Path, image: Write
) -> None:
    root = tmp_path / "p"
    good = image(root / "good.png")
    (root / "empty.png").touch()
    (root / "cut.png").write_bytes(good.read_bytes()[:50])
    report = index.add(root, metadata={"album": "x"})
    again = Index.open(index.path, space)
    assert again.failures() == report.failed
    stages = {Path(failure.uri).name: failure.stage for failure in again.failures()}
    assert stages == {"cut.png": "decode", "empty.png": "read"}
    before = n_encoded(space)
    assert len(again.retry_failed().failed) == 2 and len(again.failures()) == 2
    (root / "cut.png").write_bytes(good.read_bytes())
    retried = again.retry_failed()
    assert (retried.added, retried.unchanged, len(retried.failed)) == (1, 0, 1)
    assert n_encoded(space) <= before + 4  # only what had failed
    assert {row["metadata"]["album"] for row in again.rows()} == {"x"}  # as it was given
    assert [Path(failure.uri).name for failure in index.failures()] == ["empty.png"]
    (root / "empty.png").write_bytes(good.read_bytes())
    assert index.add(root).added == 1 and index.failures() == ()


def test_failures_of_items_in_memory_are_only_in_the_report(index: Index) -> None:
    assert len(index.add(["boom", Image(b"junk"), None]).failed) == 3
    assert index.failures() == () and index.retry_failed() == IngestReport(0, 0)


def test_a_folder_that_can_be_listed_again_is_resolved(
    index: Index, tmp_path: Path, image: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(tmp_path / "p" / "closed" / "x.png")
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert index.add(tmp_path / "p").added == 0
    assert [failure.stage for failure in index.failures()] == ["walk"]
    monkeypatch.undo()
    assert index.retry_failed() == IngestReport(1, 0) and index.failures() == ()


def test_an_incomplete_line_at_the_end_of_the_failure_log_is_ignored(tmp_path: Path) -> None:
    first, second = (FailureRecord(key, key, "read", "no", path=f"/{key}\udce9") for key in ("a", "b"))
    log = FailureLog(tmp_path)
    log.record(first)
    log.write()
    file = tmp_path / failures.FILE_NAME
    whole = file.read_bytes()
    for end in range(1, 30):
        file.write_bytes(whole + whole[:end])
        again = FailureLog(tmp_path)
        assert list(again) == [first]
        again.record(second)
        again.write()
        assert list(FailureLog(tmp_path)) == [first, second]


def test_the_failure_log_does_not_grow_with_resolved_failures(tmp_path: Path) -> None:
    for n in range(failures.SPARE_LINES):
        log = FailureLog(tmp_path)
        log.record(FailureRecord("x", "x", "read", f"{n}"))
        log.record(FailureRecord(f"y{n}", "y", "read", "no"))
        log.write()
        log.resolve(f"y{n}")
        log.write()
    assert [record.reason for record in FailureLog(tmp_path)] == [f"{failures.SPARE_LINES - 1}"]
    assert len((tmp_path / failures.FILE_NAME).read_bytes().splitlines()) <= failures.SPARE_LINES + 5


# --- one writer at a time -------------------------------------------------------------------------


@pytest.fixture
def held(index: Index) -> Iterator[threading.Event]:
    """Another thread writes to the index, until the event is set."""
    begun, free = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.writing(index.path):
            begun.set()
            free.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(20)
    yield free
    free.set()
    thread.join()


def test_a_second_writer_learns_which_process_writes(index: Index, held: threading.Event) -> None:
    for write in (
        lambda: index.add(["a"], wait=0),
        lambda: index.add(["a"], wait=0.05),
        lambda: index.retry_failed(wait=0),
    ):
        with pytest.raises(IndexBusy) as caught:
            write()
        about = lock.holder(index.path)
        assert about["pid"] == os.getpid()
        assert str(caught.value) == (
            f"the index at {str(index.path)!r} is being written by process {about['pid']} on {about['host']} since "
            f"{about['since']}; wait until that is done"
        )
    assert len(index) == 0


def test_a_second_writer_waits_for_the_first(index: Index, held: threading.Event) -> None:
    threading.Timer(0.2, held.set).start()
    began = time.monotonic()
    assert index.add(["a"]).added == 1
    assert time.monotonic() - began > 0.1


def test_readers_do_not_wait(index: Index, held: threading.Event) -> None:
    assert len(index) == 0 and list(index.rows()) == [] and index.search("a") == [] and index.failures() == ()


def test_the_lock_of_a_killed_process_is_released(index: Index) -> None:
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from multimodal.index.storage.lock import writing\n"
        "with writing(Path(sys.argv[2])):\n"
        "    print('held', flush=True)\n"
        "    input()\n"
    )
    import sys

    command = [sys.executable, "-c", code, str(faults.ROOT), str(index.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(IndexBusy, match=f"is being written by process {other.pid} on "):
            index.add(["a"], wait=0)
        other.kill()
        other.wait()
        assert lock.holder(index.path)["pid"] == other.pid  # still in the file, without effect
        assert index.add(["a"], wait=0).added == 1


def test_adding_from_the_progress_function_is_refused(index: Index) -> None:
    config = IngestConfig(progress_interval_s=0)
    with pytest.raises(IndexStateError) as caught:
        index.add(["a"], progress=lambda state: index.add(["b"]) and None, config=config)
    assert str(caught.value) == (
        f"the index at {str(index.path)!r} is being written by this very thread, so waiting would never end; add from "
        "one place at a time, not from inside what is being added"
    )


# --- a disk that is full --------------------------------------------------------------------------


def mounted(path: Path, megabytes: int) -> bool:
    """Mounts a small disk in memory -> whether this process may."""
    path.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_full_disk_ends_the_job_and_more_space_lets_it_resume(space: Space, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    if not mounted(disk, 16):
        pytest.skip("only root may mount a small disk; test_scheduler.py simulates a full one")
    try:
        texts = [f"{n} 1 0 0" for n in range(2000)]
        index = Index.create(disk / "i.lance", space)
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(disk).free - 300_000))
        with pytest.raises(IndexStateError) as caught:
            index.add(texts, config=IngestConfig(commit_rows=64))
        assert re.fullmatch(
            r"cannot write to the index at .*No space left on device.*; earlier commits are kept: free space or "
            "repair the folder, then repeat the call to resume",
            str(caught.value),
        )
        kept = len(index)
        assert 0 < kept < 2000
        ballast.unlink()
        report = index.add(texts)
        assert (report.added, report.unchanged, report.failed) == (2000 - kept, kept, ())
        assert len({row["id"] for row in index.rows()}) == len(index) == 2000
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# --- an index of an earlier version ---------------------------------------------------------------


def test_an_index_of_the_first_layout_is_read_and_upgraded_by_the_next_write(
    space: Space, tmp_path: Path, folder: Path
) -> None:
    made = Index.create(tmp_path / "new", space)
    made.add(folder)
    made.add(["c"], ids="1")
    first = ["id", "uri", "modality", "text", "metadata", "vector"]
    table = lancedb.connect(made.path).open_table("items")
    rows = table.search().to_arrow().select(first)
    path = tmp_path / "old.lance"
    schema = table.schema
    fields = pa.schema([schema.field(name) for name in first], metadata=schema.metadata)
    lancedb.connect(path).create_table("items", data=rows.cast(fields), schema=fields)

    old = Index.open(path, space)
    assert len(old) == 4 and old.search("c", k=1)[0].id == "1" and old.failures() == ()
    assert {row["id"] for row in old.rows()} == {row["id"] for row in made.rows()}
    assert old.rows()[0]["start_s"] is None
    assert old.estimate(folder).counts == {
        "audio": 1,
        "image": 1,
        "text": 1,
    }  # the first layout stores no file states
    watching = Index.open(path, space)
    assert old.add(folder) == IngestReport(0, 3)  # encoded once more; the states are stored from then on
    assert old.add(folder) == IngestReport(0, 0, unchanged=3)
    assert len(watching) == 4 and watching.search("c", k=1)[0].id == "1"
    (folder / "red.png").unlink()
    assert watching.sync(folder) == IngestReport(0, 0, unchanged=2, deleted=1)
    assert old.delete("1") == 1 and len(old) == 2
