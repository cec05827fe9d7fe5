"""The driver loses and doubles nothing, whichever worker dies at whatever moment. The workers are simulated."""

from __future__ import annotations

import contextlib
import csv
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

pytest.importorskip("lance")  # the extra `ray`

from multimodal.core.cluster.connection import WorkerSize
from multimodal.core.cluster.options import ClusterOptions
from multimodal.core.errors import IndexStateError, InvalidInput, MissingExtra
from multimodal.index import Index, IngestReport
from multimodal.index.cluster_index import ClusterIndex
from multimodal.index.ingest.engines import driver as driving
from multimodal.index.ingest.engines import job, units
from multimodal.index.ingest.engines.units import Unit
from multimodal.index.ingest.engines.worker import IndexWorker
from multimodal.index.storage import vector_columns
from tests.index.engines.simulated import SimulatedPool
from tests.index.ingest import faults

N_BAD = 8
BROKEN = "000[0-7]*"
Dies = Callable[[Unit, int], bool]


def never(unit: Unit, n_parts: int) -> bool:
    return False


@contextlib.contextmanager
def simulated(dies: Dies = never, n_workers: int = 2) -> Iterator[list[SimulatedPool]]:
    """Has engine="ray" run on simulated workers -> the pools of the jobs."""
    pools: list[SimulatedPool] = []

    def pool(build: Callable[[], IndexWorker], size: WorkerSize) -> SimulatedPool:
        pools.append(SimulatedPool(build(), n_workers, dies))
        return pools[-1]

    with pytest.MonkeyPatch.context() as patch:
        size = WorkerSize(n_workers, 1.0, 0.0)
        patch.setattr(job, "connected", lambda *_, **__: contextlib.nullcontext(size))
        patch.setattr(job, "WorkerPool", pool)
        yield pools


def add(
    index: Index, source: Any, dies: Dies = never, n_workers: int = 2, **given: Any
) -> tuple[IngestReport, SimulatedPool]:
    """Index.add(engine="ray") on simulated workers."""
    with simulated(dies, n_workers) as pools:
        report = index.add(source, engine="ray", threads=1, batch_size=4, **given)
    return report, pools[0]


def random_deaths(seed: int) -> Dies:
    """Workers die with a chance of 0.4, but not twice at work on one record, which would be a failure."""
    chance = random.Random(seed)
    struck: set[str] = set()

    def dies(unit: Unit, n_parts: int) -> bool:
        names = {record.name for record in unit.records}
        if names & struck or chance.random() < 0.6:
            return False
        struck.update(names)
        return True

    return dies


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "FIRST_RECORDS", 4)
    monkeypatch.setattr(driving, "MOST_RECORDS", 8)
    monkeypatch.setattr(units, "SHARD_BYTES", 2048)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, some broken, with an archive and a table of the same files; with two texts of one id."""
    root = tmp_path_factory.mktemp("many") / "files"
    faults.make_files(root, 30, N_BAD)
    (root / "pipe.txt").unlink(missing_ok=True)
    with tarfile.open(root.parent / "some.tar", "w") as tar:
        for file in sorted((root / "room 3").glob("*.png")):
            tar.add(file, file.name)
        (root.parent / "caption.txt").write_text("a bird")
        tar.add(root.parent / "caption.txt", "more.txt")
    return root


@pytest.fixture(scope="module")
def listing(folder: Path) -> Path:
    table = folder.parent / "listing.csv"
    files = sorted(file for file in (folder / "room 5").rglob("*.png") if file.is_file())
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "id", "year"])
        writer.writerows(
            [str(path), f"picture {number % 3}", number] for number, path in enumerate(files * 2)
        )
    return table


@pytest.fixture(scope="module")
def sources(folder: Path, listing: Path) -> list[Path]:
    return [folder, folder.parent / "some.tar", listing]


@pytest.fixture(scope="module")
def plain_run(sources: list[Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, IngestReport]:
    """The index that one machine makes of the sources, and its report."""
    index = Index.create(tmp_path_factory.mktemp("plain") / "index.lance", "fake")
    return index.path, index.add(sources, threads=1)


def counts(report: IngestReport) -> dict[str, Any]:
    values = report.to_dict()
    values["failed"] = sorted(failure["uri"] for failure in values["failed"])
    return values


def test_a_job_on_workers_ends_like_one_on_one_machine(
    sources: list[Path], plain_run: tuple[Path, IngestReport], tmp_path: Path
) -> None:
    index = Index.create(tmp_path / "index.lance", "fake")
    report, pool = add(index, sources)
    assert faults.assert_same(index.path, plain_run[0]) > 20
    assert counts(report) == counts(plain_run[1])
    assert max(pool.sizes) <= 8 and len(pool.sizes) > 4
    again, _ = add(index, sources)
    assert (
        again.added == 0
        and again.unchanged > 20
        and len(again.known) == len(again.failed) == len(report.failed)
    )


@pytest.mark.parametrize("seed", range(2))
def test_workers_that_die_at_random_lose_and_double_nothing(
    sources: list[Path], plain_run: tuple[Path, IngestReport], tmp_path: Path, seed: int
) -> None:
    index = Index.create(tmp_path / "index.lance", "fake")
    report, pool = add(index, sources, random_deaths(seed))
    assert pool.n_deaths > 1
    assert faults.assert_same(index.path, plain_run[0]) > 20
    assert counts(report) == counts(plain_run[1])


def test_a_file_that_kills_its_workers_is_found_and_listed(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.txt" for number in range(6)]
    for file in files:
        file.write_text(f"text {file.name}")
    index = Index.create(tmp_path / "index.lance", "fake")
    report, pool = add(index, files, lambda unit, _: any(r.value == files[3] for r in unit.records))
    assert (report.added, len(report.failed)) == (5, 1) and pool.n_deaths > 2
    assert report.failed[0].uri == str(files[3]) and "worker ended" in report.failed[0].reason
    assert len(index.failures()) == 1
    assert add(index, files)[0].added == 1 and not index.failures()


def test_changed_files_replace_their_rows_in_one_version(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(12):
        (folder / f"{number:02}.txt").write_text("a long text. " * (1 + 200 * (number % 2)))
    index, other = (Index.create(tmp_path / f"{name}.lance", "fake") for name in ("workers", "plain"))
    for change in ("new", "shorter", "touched", "metadata"):
        if change == "shorter":
            (folder / "01.txt").write_text("short now")
            (folder / "02.txt").write_text("other words")
        elif change == "touched":
            os.utime(folder / "03.txt", (1, 1))
        given: dict[str, Any] = {"metadata": {"year": 2026}} if change == "metadata" else {}
        there, here = add(index, folder, **given)[0], other.add(folder, threads=1, **given)
        assert counts(there) == counts(here), change
        assert faults.assert_same(index.path, other.path) > 11, change


def test_an_error_of_the_source_is_raised_when_what_came_before_is_written(tmp_path: Path) -> None:
    def broken() -> Any:
        yield from ["one", "two", "three"]
        raise ZeroDivisionError("no more")

    index = Index.create(tmp_path / "index.lance", "fake")
    with pytest.raises(ZeroDivisionError, match="no more"):
        add(index, broken())
    assert len(index) == 3


def test_without_duplicates_the_first_of_the_source_is_kept_whichever_worker_is_faster(
    folder: Path, tmp_path: Path
) -> None:
    # Without broken files: which of two copies of one fails first depends on threads, on one machine too.
    copies = shutil.copytree(folder / "room 3", tmp_path / "copies")
    changed = next(path for path in sorted(copies.rglob("*.png")) if path.stat().st_size > 100)
    sources = [copies, folder, folder.parent / "some.tar"]
    plain, index = (Index.create(tmp_path / f"{name}.lance", "fake") for name in ("plain", "index"))
    for what in ("new", "changed"):
        if what == "changed":  # to what another file, which is in the index, has as its content
            changed.write_bytes(next(folder.rglob("*.png")).read_bytes())
        here = plain.add(sources, threads=1, dedupe=True, exclude=BROKEN)
        there, pool = add(index, sources, random_deaths(7), dedupe=True, exclude=BROKEN)
        assert counts(there) == counts(here), what
        assert faults.assert_same(index.path, plain.path) > 10, what
        assert pool.n_deaths > 0
    assert here.unchanged > 10 and here.duplicates > 3


def test_a_sync_by_workers_deletes_and_moves_what_one_machine_does(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "files"
    shutil.copytree(folder / "room 3", root)
    for number in range(6):
        (root / f"{number}.txt").write_text("a long text. " * (1 + 200 * (number % 2)))
    table = tmp_path / "rows.csv"
    table.write_text("id,text\na,one\nb,two\nc,three\n")
    plain, index = (Index.create(tmp_path / f"{name}.lance", "fake") for name in ("plain", "index"))

    def synchronise(dies: Dies = never) -> IngestReport:
        here = plain.sync([root, table], threads=1)
        with simulated(dies):
            there = index.sync([root, table], engine="ray", threads=1, batch_size=4)
        assert counts(there) == counts(here)
        faults.assert_same(index.path, plain.path)
        return there

    assert synchronise().added > 10
    (root / "0.txt").unlink()
    (root / "1.txt").rename(root / "moved.txt")
    (root / "2.txt").write_text("other words")
    table.write_text("id,text\na,one\nc,four\n")
    report = synchronise(random_deaths(3))
    assert (report.deleted, report.moved, report.updated) == (2, 1, 2)

    n_rows = len(index)
    shutil.rmtree(root)
    root.mkdir()
    with simulated(), pytest.raises(IndexStateError, match="nothing was deleted"):
        index.sync(root, engine="ray")
    assert len(index) == n_rows


def test_failures_are_retried_by_workers(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    table = tmp_path / "rows.csv"
    table.write_text(f"id,path,year\na,{tmp_path / 'late.txt'},2026\n")
    index = Index.create(tmp_path / "index.lance", "fake")
    files = [*sorted(tmp_path.glob("*.png")), table]
    assert len(add(index, files)[0].failed) == 4
    (tmp_path / "late.txt").write_text("here now")
    PIL.Image.new("RGB", (8, 8)).save(files[0])
    with simulated():
        report = ClusterIndex(index._table, ClusterOptions(), {}).retry_failed(threads=1)
    assert (report.added, len(report.failed)) == (2, 2) and len(index.failures()) == 2
    assert {row.metadata.get("year") for row, _ in index._table.rows()} == {None, 2026}


@pytest.mark.parametrize("vectors", ["int8", "pca4-int8"])
def test_workers_write_the_codes_of_the_index(
    vectors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector_columns, "FIT_ROWS", 30)
    texts = [f"text {number}" for number in range(60)]
    plain, index = (Index.create(tmp_path / f"{name}.lance", "fake", vectors=vectors) for name in "ab")
    plain.add(texts, threads=1)
    assert add(index, texts, random_deaths(1))[0].added == 60
    expected = {row.id: vector for row, vector in plain._table.rows(vectors=True)}
    coded = {row.id: vector for row, vector in index._table.rows(vectors=True)}
    assert coded.keys() == expected.keys()
    if vectors == "int8":
        assert all((coded[id_] == expected[id_]).all() for id_ in expected)
    assert index._table.count(f"{vector_columns.CODE} IS NULL") == 0
    assert index._table.vectors.recall()[1] == plain._table.vectors.recall()[1] >= 30  # type: ignore[index]


def test_options_of_a_cluster_are_checked(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index.lance", "fake")
    with pytest.raises(InvalidInput, match="engine must be 'ray', or None"):
        index.add(["text"], engine="spark")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="workers given without engine='ray'"):
        index.add(["text"], workers=2)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index.create(tmp_path / "index.lance", "fake")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"engine='ray' needs ray: pip install 'multimodal\[ray\]'"):
        index.add(["text"], engine="ray")
