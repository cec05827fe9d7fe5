"""Zip archives are read as folders, within limits, and never written to disk."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multimodal.core.limits import limits
from multimodal.index import Index
from multimodal.index.ingest.documents import safe_zip
from tests.index.ingest.documents import writers

Write = Callable[..., Path]


def ids(index: Index) -> set[str]:
    return {Path(row["id"]).name for row in index.rows()}


@pytest.fixture
def members(tmp_path: Path, image: Write) -> dict[str, bytes]:
    return {
        "in/red.png": image(tmp_path / "x.png").read_bytes(),
        "notes.txt": b"a note",
        "report.pdf": writers.pdf(tmp_path / "x.pdf", ["A report with words enough"]).read_bytes(),
        "code.py": b"def f(): ...\n",
        "tool.exe": b"MZ\0\0\1\2",
        ".hidden": b"x",
        "__MACOSX/._red.png": b"x",
    }


def test_members_are_documents_of_their_kind(index: Index, tmp_path: Path, members: dict[str, bytes]) -> None:
    path = writers.archive(tmp_path / "a.zip", members)
    report = index.add(path)
    assert (report.added, report.skipped, report.failed) == (4, {".exe": 1}, ())
    assert {row["id"].removeprefix(f"{path}#"): row["modality"] for row in index.rows()} == {
        "in/red.png": "image", "notes.txt": "text", "report.pdf#page=1": "text", "code.py#symbol=f&lines=1-1": "text",
    }  # fmt: skip
    assert index.add(path).unchanged == 4


def test_an_archive_in_a_folder_is_read_and_synchronised(
    index: Index, tmp_path: Path, members: dict[str, bytes]
) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    writers.archive(folder / "a.zip", members)
    writers.mail(folder / "m.eml", "Subject", "Body", {"x.txt": b"attached"})
    assert index.sync(folder).added == 6
    assert index.sync(folder).unchanged == 6
    writers.archive(folder / "a.zip", {"notes.txt": b"a note", "new.txt": b"new"})
    report = index.sync(folder)
    assert (report.added, report.unchanged, report.deleted) == (1, 3, 3)
    assert ids(index) == {"a.zip#notes.txt", "a.zip#new.txt", "m.eml", "m.eml#x.txt"}
    (folder / "a.zip").unlink()
    (folder / "m.eml").unlink()
    (folder / "rest.txt").write_text("rest")
    assert index.sync(folder).deleted == 4
    assert ids(index) == {"rest.txt"}


def test_a_damaged_archive_keeps_what_the_index_has_of_it(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    path = writers.archive(folder / "a.zip", {"a.txt": b"one", "b.txt": b"two"})
    index.sync(folder)
    path.write_bytes(path.read_bytes()[:60])
    report = index.sync(folder)
    assert (report.deleted, len(index)) == (0, 2)
    assert "cannot be read as a zip archive" in report.failed[0].reason
    writers.archive(path, {"a.txt": b"one"})
    assert index.sync(folder).deleted == 1 and index.failures() == ()


def test_a_member_that_leads_outside_is_refused_and_nothing_is_written(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "d"
    folder.mkdir(parents=True)
    path = writers.archive(
        folder / "a.zip", {"../../evil.txt": b"evil", "/abs.txt": b"evil", "good.txt": b"good"}
    )
    report = index.add(path)
    assert report.added == 1 and len(report.failed) == 2
    assert all("leads out of the archive" in failure.reason for failure in report.failed)
    assert not list(tmp_path.rglob("evil.txt")) and not Path("/abs.txt").exists()


def test_a_bomb_is_one_failure_and_the_other_members_are_added(index: Index, tmp_path: Path) -> None:
    path = writers.archive(tmp_path / "a.zip", {"bomb.txt": bytes(20 << 20), "good.txt": b"good"})
    report = index.add(path)
    assert report.added == 1 and "as in an archive bomb" in report.failed[0].reason


def test_the_total_size_is_limited(index: Index, tmp_path: Path) -> None:
    path = writers.archive(tmp_path / "a.zip", {f"{n}.txt": b"word " * 200 for n in range(8)})
    with limits(max_bytes=4000):
        (failure,) = index.add(path).failed
    assert "more than the limit of 4,000" in failure.reason
    assert 0 < len({row["uri"] for row in index.rows()}) < 8


def test_the_number_of_members_is_limited(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(safe_zip, "MAX_MEMBERS", 3)
    (failure,) = index.add(writers.archive(tmp_path / "a.zip", {f"{n}.txt": b"x" for n in range(4)})).failed
    assert "holds 4 members, more than the limit of 3; unpack it" in failure.reason


def test_an_encrypted_member_is_a_failure(index: Index, tmp_path: Path) -> None:
    path = writers.archive(tmp_path / "a.zip", {"a.txt": b"secret", "b.txt": b"open"})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of the first member, in its header and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    report = index.add(path)
    assert report.added == 1 and "is encrypted with a password" in report.failed[0].reason


def test_failed_members_are_retried_from_their_archive(index: Index, tmp_path: Path) -> None:
    path = writers.archive(tmp_path / "a.zip", {"a.pdf": b"%PDF-1.4 broken", "b.txt": b"good"})
    assert len(index.add(path).failed) == 1
    writers.archive(path, {"a.pdf": writers.pdf(tmp_path / "x.pdf", ["Words enough on a page"]).read_bytes()})
    assert index.retry_failed().added == 1 and index.failures() == ()


def packed(tmp_path: Path, members: dict[str, bytes]) -> bytes:
    return writers.archive(tmp_path / "packed.zip", members).read_bytes()


def test_a_zip_within_a_zip_is_a_folder_of_it(index: Index, tmp_path: Path) -> None:
    inner = packed(tmp_path, {"a.txt": b"x", "tool.exe": b"MZ\0\0\1\2", "../evil.txt": b"evil"})
    members = {
        "in/deep.zip": packed(tmp_path, {"b.zip": inner}),
        "cut.zip": inner[:40],
        "c.txt": b"y",
        "d.pdf": b"%PDF-1.4 no",
    }
    folder = tmp_path / "d"
    folder.mkdir()
    writers.archive(folder / "a.zip", members)
    report = index.sync(folder)
    assert (report.added, report.skipped) == (2, {".exe": 1})
    assert {row["id"].removeprefix(f"{folder}/") for row in index.rows()} == {
        "a.zip#in/deep.zip#b.zip#a.txt", "a.zip#c.txt",
    }  # fmt: skip
    assert sorted(failure.reason.removeprefix(f"{folder}/a.zip#")[:37] for failure in report.failed) == [
        "cut.zip: cannot be read as a zip arch", "d.pdf: cannot be read as PDF (Failed ",
        "in/deep.zip#b.zip#../evil.txt: the na",
    ]  # fmt: skip
    writers.archive(folder / "a.zip", {"in/deep.zip": packed(tmp_path, {"n.txt": b"new"})})
    report = index.sync(folder)
    assert (report.added, report.deleted, ids(index)) == (1, 2, {"deep.zip#n.txt"})
    assert index.failures() == ()
    writers.archive(folder / "a.zip", {"d.pdf": b"%PDF-1.4 no", "n.txt": b"new"})
    assert len(index.sync(folder).failed) == 1
    (folder / "a.zip").unlink()
    (folder / "n.txt").write_text("left")
    index.sync(folder)
    assert (ids(index), index.failures()) == ({"n.txt"}, ())


def test_zips_within_zips_have_one_limit_of_bytes_and_of_depth(index: Index, tmp_path: Path) -> None:
    wide = packed(tmp_path, {f"{n}.txt": b"word " * 200 for n in range(8)})
    with limits(max_bytes=6_000):
        report = index.add(writers.archive(tmp_path / "wide.zip", {"a.zip": wide, "b.zip": wide}))
    assert "its members, decompressed" in report.failed[0].reason
    nested = b"bottom"
    for level in range(6):
        nested = packed(tmp_path, {"x.zip" if level else "x.txt": nested})
    (failure,) = index.add(writers.archive(tmp_path / "deep.zip", {"x.zip": nested})).failed
    assert "levels deep, more than 4" in failure.reason


def test_documents_of_an_archive_are_indexed_again_with_another_space(
    index: Index, tmp_path: Path, members: dict[str, bytes], plain: Any
) -> None:
    index.add(writers.archive(tmp_path / "a.zip", members), metadata={"year": 2026})
    other = index.reindex(tmp_path / "other.lance", plain.load())
    assert (other.added, other.failed) == (4, ())
    again = {
        row["id"]: (row["text"], row["metadata"])
        for row in Index.open(tmp_path / "other.lance", plain.load()).rows()
    }
    assert again == {row["id"]: (row["text"], row["metadata"]) for row in index.rows()}


def test_a_folder_packed_as_zip_has_the_same_documents(index: Index, tmp_path: Path, image: Write) -> None:
    folder = tmp_path / "d"
    image(folder / "in" / "a.png")
    (folder / "b.txt").write_text("text")
    (folder / "c.html").write_text("<p>html")
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    assert zipfile.is_zipfile(tmp_path / "packed.zip")
    assert index.add(folder).added == 3
    assert index.add(tmp_path / "packed.zip", dedupe=True).duplicates == 3
