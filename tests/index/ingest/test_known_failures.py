"""Failures that an earlier job recorded are known: counted, and distinguished from new ones."""

from __future__ import annotations

from pathlib import Path

from multimodal.index import Index


def test_a_failure_is_new_once_and_then_known(index: Index, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff no image")
    first = index.add(folder)
    assert (len(first.failed), len(first.known), len(first.new_failures)) == (1, 0, 1)
    (folder / "b.jpg").write_bytes(b"\xff\xd8\xff no image")
    second = index.add(folder)
    assert str(second) == "0 added, 0 updated, 2 failed (1 known)"
    assert [Path(failure.uri).name for failure in second.known] == ["a.jpg"]
    assert [Path(failure.uri).name for failure in second.new_failures] == ["b.jpg"]
    assert index.retry_failed().new_failures == ()


def test_a_failure_for_another_reason_is_new(index: Index, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff no image")
    index.add(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(b"")
    assert len(index.add(tmp_path / "a.jpg").new_failures) == 1


def test_a_failure_that_was_resolved_is_new_when_it_returns(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"")
    index.add(path)
    path.write_text("text")
    assert index.add(path).added == 1
    path.write_bytes(b"")
    assert len(index.add(path).new_failures) == 1
