"""Tar archives whose members are not in order: scattered, repeated, with several dots, or broken."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.index import Index, IngestReport
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import ContainerRead, SourceOptions, SourceRecord
from multimodal.index.storage.failures import FailureRecord


def png(*colour: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 4), (*colour, 0, 0, 0)[:3]).save(file, "PNG")
    return file.getvalue()


def archive(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def stored(index: Index, path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"].removeprefix(f"{path}#"): row["metadata"] for row in index.rows()}


SAMPLES = [
    (f"{key}.{suffix}", data)
    for key in ("a", "b/c", "d")
    for suffix, data in (
        ("png", png(ord(key[0]))),
        ("txt", f"text of {key}".encode()),
        ("json", json.dumps({"name": key}).encode()),
    )
]


@given(members=st.permutations(SAMPLES), suffix=st.sampled_from([".tar", ".tar.gz"]))
def test_samples_are_joined_in_whatever_order_their_members_come(
    tmp_path_factory: pytest.TempPathFactory, members: list[tuple[str, bytes]], suffix: str
) -> None:
    path = archive(tmp_path_factory.mktemp("tar") / f"x{suffix}", members)
    outputs = list(resolve.records(path, None, SourceOptions()))
    records = [output for output in outputs if isinstance(output, SourceRecord)]
    assert len(outputs) == len(records) + 1  # and that the archive was read
    assert {record.name.removeprefix(f"{path}#"): record.metadata for record in records} == {
        f"{key}.png": {"key": key, "caption": f"text of {key}", "name": key} for key in ("a", "b/c", "d")
    }


def test_texts_of_a_scattered_sample_are_documents_only_if_it_has_no_media(
    index: Index, tmp_path: Path
) -> None:
    members = [("a.txt", b"a"), ("b.txt", b"b"), ("a.cls", b"c"), ("b.png", png(1))]
    path = archive(tmp_path / "x.tar", members)
    assert index.add(path) == IngestReport(3, 0)
    assert stored(index, path) == {
        "a.txt": {"key": "a"}, "a.cls": {"key": "a"}, "b.png": {"key": "b", "caption": "b"},
    }  # fmt: skip


def test_a_name_with_several_dots_describes_the_media_of_the_same_name(index: Index, tmp_path: Path) -> None:
    members = [
        ("p.v1.png", png(1)), ("p.v1.txt", b"one"), ("p.v1.json", b'{"n": 1}'),
        ("p.v2.png", png(2)), ("p.v2.txt", b"two"), ("p.cls", b"7"),
        ("q.png", png(3)), ("q.en.txt", b"yes"), ("q.de.txt", b"ja"), ("q.meta.json", b'{"n": 3}'),
        ("q.caption.txt", b"c"),
    ]  # fmt: skip
    path = archive(tmp_path / "x.tar", members)
    assert index.add(path) == IngestReport(3, 0)
    assert stored(index, path) == {
        "p.v1.png": {"key": "p", "caption": "one", "n": 1, "cls": "7"},
        "p.v2.png": {"key": "p", "caption": "two", "cls": "7"},
        "q.png": {"key": "q", "en": "yes", "de": "ja", "n": 3, "caption": "c"},
    }


@pytest.mark.parametrize("apart", [True, False])
def test_of_a_member_that_comes_twice_the_last_is_added_and_the_others_are_failures(
    index: Index, tmp_path: Path, apart: bool
) -> None:
    between = [("b.png", png(9))] if apart else []
    members = [("a.png", png(255)), *between, ("a.png", png(0, 255)), ("a.txt", b"green")]
    path = archive(tmp_path / "x.tar", members)
    report = index.add(path)
    assert (report.added, report.updated) == (1 + apart, 0)
    (failed,) = report.failed
    assert failed.uri == f"{path}#a.png" and failed.reason == (
        f"{path}#a.png: the archive holds 2 members of this name; the last one is used, as when the archive is "
        "unpacked. Rename the others to add them"
    )
    assert stored(index, path)["a.png"] == {"key": "a", "caption": "green"}
    assert index.search("0 1 0 0", k=1)[0].id == f"{path}#a.png"
    assert len(index.failures()) == 1
    archive(path, members[1:])
    index.add(path)
    assert index.failures() == ()


def test_broken_metadata_is_a_failure_and_the_media_is_added(index: Index, tmp_path: Path) -> None:
    members = {"a.png": png(1), "a.json": b"{", "b.png": png(2), "b.json": b"[" * 100_000, "c.png": png(3)}
    path = archive(tmp_path / "x.tar", [*members.items(), ("c.json", b'{"x": "\\ud83d"}')])
    report = index.add(path)
    assert report.added == 2
    assert [failure.uri.removeprefix(f"{path}#") for failure in report.failed] == [
        "a.json",
        "b.json",
        "c.png",
    ]
    assert "not valid JSON" in report.failed[0].reason
    archive(path, (members | {"a.json": b'{"n": 1}', "b.json": b"{}"}).items())
    retried = index.retry_failed()
    assert (retried.added, retried.failed) == (1, ()) and index.failures() == ()
    assert stored(index, path)["a.png"] == {"key": "a", "n": 1}


def test_texts_of_other_encodings_are_read(index: Index, tmp_path: Path) -> None:
    members = [
        ("a.png", png(1)),
        ("a.txt", "grün".encode("utf-16")),
        ("b.png", png(2)),
        ("b.txt", b"gr\x81n"),
    ]
    path = archive(tmp_path / "x.tar", members)
    report = index.add(path)
    assert report.added == 2 and "byte 2 is not valid UTF-8" in report.failed[0].reason
    assert index.add(path, encoding="cp850").failed == ()
    assert {about["caption"] for about in stored(index, path).values()} == {"grün"}


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
@given(keep=st.floats(0.01, 0.99))
def test_a_truncated_archive_is_one_failure_and_keeps_what_came_before(
    tmp_path_factory: pytest.TempPathFactory, name: str, keep: float
) -> None:
    members = [(f"{n}.png", png(n)) for n in range(30)]
    path = archive(tmp_path_factory.mktemp("tar") / name, members)
    content = path.read_bytes()
    end = int(keep * (30 * 1024 if name == "x.tar" else len(content))) | 1  # never between two blocks
    path.write_bytes(content[:end])
    *records, last = resolve.records(path, None, SourceOptions())
    assert all(isinstance(record, SourceRecord) for record in records)
    if isinstance(last, ContainerRead):  # only the empty blocks at the end are missing
        assert name == "x.tar.gz" and len(records) == 30
    else:
        assert isinstance(last, FailureRecord) and last.key == str(path)
    if name == "x.tar":
        assert len(records) == sum(
            end >= 1024 * position + 512 + len(data) for position, (_, data) in enumerate(members)
        )
