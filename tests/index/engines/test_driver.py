"""The driver loses and doubles nothing, whichever worker dies at whatever moment. The workers are simulated."""

from __future__ import annotations

import csv
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lance")  # the extra `ray`

from multimodal.core.errors import InvalidInput, MissingExtra
from multimodal.core.limits import Limits
from multimodal.index import Index, IngestReport
from multimodal.index.ingest.config import JobOptions
from multimodal.index.ingest.engines import driver as driving
from multimodal.index.ingest.engines import units
from multimodal.index.ingest.engines.driver import Driver
from multimodal.index.ingest.engines.units import Unit
from multimodal.index.ingest.engines.worker import IndexWorker, WorkerSettings
from multimodal.index.ingest.jobs import job_context
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import SourceOptions
from tests.index.engines.simulated import SimulatedPool
from tests.index.ingest import faults

Dies = Callable[[Unit, int], bool]


def never(unit: Unit, n_parts: int) -> bool:
    return False


def add(
    index: Index, source: Any, dies: Dies = never, n_workers: int = 2, **given: Any
) -> tuple[IngestReport, SimulatedPool]:
    """As Index.add(engine="ray")."""
    options = JobOptions(threads=1, batch_size=4)
    settings = WorkerSettings(index.path, index.space, {}, False, options, Limits())
    pool = SimulatedPool(IndexWorker(settings), n_workers, dies)
    source_options = SourceOptions(given.get("metadata"), skip=index.path, as_shards=True)
    records = resolve.records(source, given.get("ids"), source_options)
    with job_context(index._table, options, lambda: None) as progress:
        Driver(records, index._table, progress, options.config, pool).run()  # type: ignore[arg-type]
    return progress.report(), pool


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driving, "FIRST_RECORDS", 4)
    monkeypatch.setattr(driving, "MOST_RECORDS", 8)
    monkeypatch.setattr(units, "SHARD_BYTES", 2048)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, some broken, with an archive and a table of the same files; with two texts of one id."""
    root = tmp_path_factory.mktemp("many") / "files"
    faults.make_files(root, 30, 8)
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


@pytest.mark.parametrize("seed", range(4))
def test_workers_that_die_at_random_lose_and_double_nothing(
    sources: list[Path], plain_run: tuple[Path, IngestReport], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    struck: set[str] = set()  # a record by which several workers die is a failure: see the next test

    def dies(unit: Unit, n_parts: int) -> bool:
        names = {record.name for record in unit.records}
        if names & struck or chance.random() < 0.6:
            return False
        struck.update(names)
        return True

    index = Index.create(tmp_path / "index.lance", "fake")
    report, pool = add(index, sources, dies)
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


def test_dedupe_is_refused_with_the_reason(tmp_path: Path) -> None:
    index = Index.create(tmp_path / "index.lance", "fake")
    with pytest.raises(InvalidInput, match="which workers on several machines cannot"):
        index.add(["text"], engine="ray", dedupe=True)
    with pytest.raises(InvalidInput, match="engine must be 'ray', or None"):
        index.add(["text"], engine="spark")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="workers given without engine='ray'"):
        index.add(["text"], workers=2)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = Index.create(tmp_path / "index.lance", "fake")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"engine='ray' needs ray: pip install 'multimodal\[ray\]'"):
        index.add(["text"], engine="ray")
