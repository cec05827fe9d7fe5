"""Index.sync makes an index equal to a folder, table or archive without encoding anything twice."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from multimodal.core.errors import IndexStateError
from multimodal.core.space import Space
from multimodal.index import Index, IngestReport
from multimodal.index.storage.table import ItemTable

Write = Callable[..., Path]


def n_encoded(space: Space) -> int:
    return sum(len(encoder.seen) for encoder in space.encoders.values())  # type: ignore[attr-defined]


def names(index: Index) -> set[str]:
    return {Path(row["uri"]).name for row in index.rows() if row["uri"]}


@pytest.fixture
def folder(tmp_path: Path, image: Write, sound: Write) -> Path:
    """Four different images, audio of five windows, a text of several passages."""
    root = tmp_path / "files"
    for n in range(4):
        image(root / "deep" / f"{n}.png", (60 * n, 0, 255 - 60 * n))
    soundfile.write(root / "talk.wav", np.full(8000 * 40, 0.25, np.float32), 8000)
    (root / "book.txt").write_text("An apple fell. A bird flew by.\n\n" * 40, encoding="utf-8")
    return root


def test_the_first_sync_adds_everything_and_the_second_nothing(
    index: Index, space: Space, folder: Path
) -> None:
    assert index.sync(folder) == IngestReport(6, 0)
    before = n_encoded(space)
    assert index.sync(str(folder)) == IngestReport(0, 0, unchanged=6)
    assert n_encoded(space) == before


def test_added_changed_moved_and_deleted_files_are_distinguished(
    index: Index, space: Space, folder: Path, image: Write
) -> None:
    index.sync(folder, metadata={"album": "x"})
    image(folder / "new.png", (1, 2, 3))
    image(folder / "deep" / "0.png", (9, 9, 9))
    (folder / "deep" / "1.png").rename(folder / "moved.png")
    (folder / "deep" / "2.png").unlink()
    before = n_encoded(space)
    assert index.sync(folder) == IngestReport(1, 1, unchanged=3, moved=1, deleted=1)
    assert n_encoded(space) == before + 2
    assert names(index) == {"new.png", "0.png", "moved.png", "3.png", "talk.wav", "book.txt"}
    (row,) = (row for row in index.rows() if row["id"] == str(folder / "moved.png"))
    assert (row["uri"], row["metadata"]) == (str(folder / "moved.png"), {"album": "x"})
    assert index.sync(folder) == IngestReport(0, 0, unchanged=6)


def test_a_moved_file_keeps_all_its_chunks_and_their_vectors(
    index: Index, space: Space, folder: Path
) -> None:
    index.sync(folder)
    old = {row["id"]: row for row in index.rows(vectors=True)}
    (folder / "talk.wav").rename(folder / "deep" / "speech.wav")
    (folder / "book.txt").rename(folder / "novel.txt")
    before = n_encoded(space)
    assert index.sync(folder) == IngestReport(0, 0, unchanged=4, moved=2)
    assert n_encoded(space) == before
    new = {row["id"]: row for row in index.rows(vectors=True)}
    assert len(new) == len(old) > 12
    for id_, row in old.items():
        now = new[id_.replace("/talk.wav", "/deep/speech.wav").replace("/book.txt", "/novel.txt")]
        assert np.array_equal(now["vector"], row["vector"])
        assert now | {"vector": 0, "id": "", "uri": ""} == row | {"vector": 0, "id": "", "uri": ""}


def test_renaming_a_folder_moves_all_its_files(index: Index, space: Space, folder: Path) -> None:
    index.sync(folder)
    (folder / "deep").rename(folder / "deeper")
    before = n_encoded(space)
    assert index.sync(folder) == IngestReport(0, 0, unchanged=2, moved=4)
    assert n_encoded(space) == before


def test_files_that_swap_names_keep_their_own_vectors(index: Index, space: Space, folder: Path) -> None:
    index.sync(folder)
    first, second, spare = (folder / "deep" / name for name in ("0.png", "3.png", "spare"))
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
    os.utime(first, (5, 5))
    os.utime(second, (6, 6))
    assert index.sync(folder) == IngestReport(0, 2, unchanged=4)
    rows = {row["uri"]: row["vector"] for row in index.rows(vectors=True)}
    for path in (first, second):
        np.testing.assert_allclose(rows[str(path)], space.encode(path), atol=1e-6)


def test_a_file_moved_onto_another_replaces_it(index: Index, folder: Path) -> None:
    index.sync(folder)
    other = folder / "short.wav"
    soundfile.write(other, np.full(8000, 0.5, np.float32), 8000)
    index.sync(folder)
    other.replace(folder / "talk.wav")
    report = index.sync(folder)
    assert (report.moved, report.deleted, report.updated) == (1, 0, 0)
    assert [row["id"] for row in index.rows(modality="audio")] == [str(folder / "talk.wav")]


def test_two_copies_that_moved_take_over_one_document_each(index: Index, space: Space, folder: Path) -> None:
    (folder / "copy.png").write_bytes((folder / "deep" / "0.png").read_bytes())
    index.sync(folder)
    (folder / "copy.png").rename(folder / "a.png")
    (folder / "deep" / "0.png").rename(folder / "b.png")
    before = n_encoded(space)
    assert index.sync(folder) == IngestReport(0, 0, unchanged=5, moved=2)
    assert n_encoded(space) == before and {"a.png", "b.png"} <= names(index)


def test_documents_from_elsewhere_are_not_touched(
    index: Index, folder: Path, tmp_path: Path, image: Write
) -> None:
    beside = image(tmp_path / "files too" / "x.png", (7, 7, 7))
    index.add([beside, "words", folder / "deep" / "0.png"], ids=["mine", "w", "own"])
    index.sync(folder)
    beside.unlink()
    (folder / "deep" / "1.png").unlink()
    assert index.sync(folder).deleted == 1
    assert {row["id"] for row in index.rows()} >= {"mine", "w", "own"}


def test_a_subfolder_can_be_synced_by_itself(index: Index, folder: Path) -> None:
    index.sync(folder)
    (folder / "deep" / "0.png").unlink()
    (folder / "book.txt").unlink()
    assert index.sync(folder / "deep") == IngestReport(0, 0, unchanged=3, deleted=1)
    assert "book.txt" in names(index)
    assert index.sync([folder / "deep", folder]).deleted == 1


def test_pattern_characters_in_names_are_literal(index: Index, tmp_path: Path, image: Write) -> None:
    image(tmp_path / "a_b%" / "x.png")
    other = image(tmp_path / "aXb%" / "x.png", (0, 255, 0))
    quoted = image(tmp_path / "it's" / "x.png", (0, 0, 255))
    index.sync([tmp_path / "a_b%", tmp_path / "aXb%", tmp_path / "it's"])
    other.unlink()
    image(tmp_path / "a_b%" / "y.png", (9, 9, 9))
    assert index.sync(tmp_path / "a_b%") == IngestReport(1, 0, unchanged=1)
    quoted.rename(quoted.with_name("z.png"))
    assert index.sync(tmp_path / "it's") == IngestReport(0, 0, moved=1)
    assert len(index) == 4


def test_a_file_that_became_unreadable_keeps_its_row_and_is_reported(index: Index, folder: Path) -> None:
    index.sync(folder)
    path = folder / "deep" / "0.png"
    path.write_bytes(path.read_bytes()[:50])
    report = index.sync(folder)
    assert (report.unchanged, report.deleted, [failure.stage for failure in report.failed]) == (
        5,
        0,
        ["decode"],
    )
    assert "0.png" in names(index)


def test_failures_of_deleted_files_are_resolved(index: Index, folder: Path) -> None:
    (folder / "bad.png").touch()
    index.sync(folder)
    assert len(index.failures()) == 1
    (folder / "bad.png").unlink()
    index.sync(folder)
    assert index.failures() == ()


def test_a_folder_that_cannot_be_listed_loses_nothing(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.sync(folder)
    scandir, lstat = os.scandir, os.lstat

    def closed(path: Any) -> Any:
        if "deep" in Path(path).parts:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", lambda path: closed(path) or scandir(path))
    monkeypatch.setattr(os, "lstat", lambda path: closed(Path(path).parent) or lstat(path))
    report = index.sync(folder)
    assert (report.unchanged, report.deleted, [failure.stage for failure in report.failed]) == (
        2,
        0,
        ["walk"],
    )
    assert len(names(index)) == 6


def test_an_empty_folder_deletes_nothing_since_a_disk_may_be_missing(index: Index, folder: Path) -> None:
    index.sync(folder)
    folder.rename(folder.with_name("unmounted"))
    folder.mkdir()
    with pytest.raises(IndexStateError) as caught:
        index.sync(folder)
    assert str(caught.value) == (
        f"{folder}: no file found, but the index holds 6 from there; nothing was deleted. Is a disk not mounted? "
        "To remove them on purpose, call Index.delete"
    )
    assert len(names(index)) == 6


def test_an_interrupted_sync_resumes(index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.sync(folder)
    (folder / "deep").rename(folder / "deeper")
    (folder / "book.txt").unlink()
    monkeypatch.setattr(ItemTable, "delete", lambda self, ids: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        index.sync(folder)
    monkeypatch.undo()
    assert index.sync(folder) == IngestReport(0, 0, unchanged=5, deleted=1)


def test_dedupe_skips_duplicates_and_keeps_the_first_name(index: Index, space: Space, folder: Path) -> None:
    data = (folder / "deep" / "0.png").read_bytes()
    for name in ("a.png", "deep/0b.png", "z.png"):
        (folder / name).write_bytes(data)
    report = index.add(folder, dedupe=True, threads=4, batch_size=1)
    assert (report.added, report.duplicates) == (6, 3)
    assert {"a.png"} <= names(index) and not {"0.png", "0b.png", "z.png"} & names(index)
    before = n_encoded(space)
    assert index.add(folder, dedupe=True) == IngestReport(0, 0, unchanged=6, duplicates=3)
    assert n_encoded(space) == before
    (folder / "a.png").unlink()
    assert index.sync(folder, dedupe=True) == IngestReport(
        0, 0, unchanged=5, moved=1, deleted=0, duplicates=2
    )
    assert {"0.png"} <= names(index)


# --- tables and archives --------------------------------------------------------------------------


def test_rows_removed_from_a_table_are_deleted(index: Index, folder: Path) -> None:
    table = folder / "list.csv"
    table.write_text(
        "id,path,year\n" + "".join(f"k{n},deep/{n}.png,{n}\n" for n in range(4)), encoding="utf-8"
    )
    assert index.sync(table, columns={"id": "id"}) == IngestReport(4, 0)
    table.write_text("id,path,year\nk0,deep/0.png,0\nk3,deep/3.png,33\n", encoding="utf-8")
    assert index.sync(table, columns={"id": "id"}) == IngestReport(0, 1, unchanged=1, deleted=2)
    assert {row["id"]: row["metadata"]["year"] for row in index.rows()} == {"k0": 0, "k3": 33}


def test_members_removed_from_an_archive_are_deleted(index: Index, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"

    def pack(*numbers: int) -> None:
        with tarfile.open(path, "w") as tar:
            for n in numbers:
                tar.add(folder / "deep" / f"{n}.png", f"{n}.png")

    pack(0, 1, 2)
    assert index.sync(path) == IngestReport(3, 0)
    pack(1, 2, 3)
    assert index.sync(path) == IngestReport(1, 0, unchanged=2, deleted=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2 - 700])  # truncated: members that cannot be read are not deleted
    report = index.sync(path)
    assert report.deleted == 0 and len(report.failed) == 1 and len(index) == 3
