"""Which files of a folder are read: patterns, ignore files, and files of no known kind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.errors import InvalidInput
from multimodal.index import Index
from multimodal.index.ingest.sources.folders import files_in, walk
from multimodal.index.ingest.sources.selection import IGNORE_FILE, selection

Write = Callable[..., Path]


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("text")
    return folder


def read(folder: Path, include: Any = None, exclude: Any = None) -> list[str]:
    files = walk(folder, selection=selection(include, exclude))
    return [file.relative_to(folder.resolve()).as_posix() for file in files if isinstance(file, Path)]


@pytest.mark.parametrize(("include", "exclude", "expected"), [
    (None, None, ["a.md", "a.txt", "in/b.txt", "in/deep/c.txt"]),
    ("*.txt", None, ["a.txt", "in/b.txt", "in/deep/c.txt"]),
    (["/*.txt", "*.md"], None, ["a.md", "a.txt"]),
    (None, "in/", ["a.md", "a.txt"]),
    (None, ["deep", "*.md"], ["a.txt", "in/b.txt"]),
    ("*.txt", "in/*.txt", ["a.txt", "in/deep/c.txt"]),
    (None, ["*.txt", "!b.txt"], ["a.md", "in/b.txt"]),
    ([], [], ["a.md", "a.txt", "in/b.txt", "in/deep/c.txt"]),
])  # fmt: skip
def test_patterns_select_files(tmp_path: Path, include: Any, exclude: Any, expected: list[str]) -> None:
    assert read(fill(tmp_path, "a.txt", "a.md", "in/b.txt", "in/deep/c.txt"), include, exclude) == expected


def test_add_sync_and_estimate_take_patterns(index: Index, tmp_path: Path) -> None:
    folder = fill(tmp_path / "d", "a.txt", "b.md", "c.log")
    assert index.estimate(folder, include="*.md").counts == {"text": 1}
    assert index.add(folder, include="*.md").added == 1
    assert index.sync(folder, exclude=["*.log", "*.md"]).added == 1
    assert len(index) == 2  # what was indexed before and is left out now keeps its rows


@pytest.mark.parametrize("pattern", ["", " ", 3, "!"])
def test_an_invalid_pattern_is_refused(index: Index, tmp_path: Path, pattern: Any) -> None:
    with pytest.raises(InvalidInput, match=r"exclude takes patterns in the syntax of gitignore"):
        index.add(fill(tmp_path / "d", "a.txt"), exclude=[pattern])


def test_a_named_file_is_read_whatever_the_patterns(index: Index, tmp_path: Path) -> None:
    fill(tmp_path, "a.txt")
    assert index.add(tmp_path / "a.txt", exclude="*.txt").added == 1


def test_an_ignore_file_applies_to_its_folder_and_below(tmp_path: Path) -> None:
    fill(tmp_path, "a.tmp", "keep.txt", "in/b.tmp", "in/keep.tmp", "in/out/c.txt", "out/d.txt")
    (tmp_path / IGNORE_FILE).write_text("# comment\n*.tmp\n/out/\n")
    (tmp_path / "in" / IGNORE_FILE).write_text("!keep.tmp\n")
    assert read(tmp_path) == ["in/keep.tmp", "in/out/c.txt", "keep.txt"]
    assert [file.name for file in files_in(tmp_path)] == ["keep.tmp", "c.txt", "keep.txt"]


PATTERNS = st.sampled_from([
    "*.txt", "a", "a/", "/a", "!a.txt", "**/b", "b/**", "!b/", "a/*.md", "[ab].txt", "?.md", "!*.md", "/b/", "a/b",
])  # fmt: skip


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the oracle")
@settings(max_examples=12)
@given(root=st.lists(PATTERNS, max_size=4), inner=st.lists(PATTERNS, max_size=3))
def test_ignore_files_mean_what_they_mean_to_git(
    tmp_path_factory: pytest.TempPathFactory, root: list[str], inner: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("d")
    fill(
        folder,
        *(f"{at}{name}" for at in ("", "a/", "b/", "a/b/") for name in ("a.txt", "b.txt", "a.md", "c.md")),
    )
    for place, lines in ((folder, root), (folder / "a", inner)):
        (place / IGNORE_FILE).write_text("\n".join(lines) + "\n")
        (place / ".gitignore").write_text("\n".join(lines) + "\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    listed = subprocess.run(
        ["git", "-C", str(folder), "ls-files", "--others", "--exclude-standard"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert sorted(read(folder)) == sorted(name for name in listed if not Path(name).name.startswith("."))


# --- files of no known kind -------------------------------------------------------------------------


def test_files_of_no_known_kind_are_skipped_and_counted(index: Index, tmp_path: Path, image: Write) -> None:
    folder = tmp_path / "d"
    image(folder / "a.png")
    for name in ("Thumbs.db", "setup.exe", "tool.exe", "core", ".DS_Store"):
        (folder / name).write_bytes(b"\0\1\2\3" * 10)
    report = index.add(folder)
    assert report.skipped == {".exe": 2, ".db": 1, "core": 1} and report.n_skipped == 4
    assert str(report) == "1 added, 0 updated, 4 skipped, 0 failed"
    assert index.failures() == () and report.to_dict()["skipped"] == report.skipped
    estimate = index.estimate(folder)
    assert (estimate.skipped, estimate.failed, estimate.unchanged) == (4, 0, 1)


@pytest.mark.parametrize("name", ["a.jpg", "a.mp3", "a.mp4", "a.txt", "a.docx", "a.pdf", "a.py"])
def test_a_file_whose_name_claims_a_kind_fails_rather_than_being_skipped(
    index: Index, tmp_path: Path, name: str
) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / name).write_bytes(b"\0\1\2\3" * 10)
    report = index.add(tmp_path / "d")
    assert report.skipped == {} and len(report.failed) == 1


def test_a_named_file_of_no_known_kind_is_a_failure(index: Index, tmp_path: Path) -> None:
    (tmp_path / "a.exe").write_bytes(b"\0\1\2\3" * 10)
    assert len(index.add(tmp_path / "a.exe").failed) == 1
    assert index.sync(tmp_path).n_skipped == 1 and index.failures() == ()


def test_an_indexed_file_that_becomes_of_no_known_kind_is_a_failure(
    index: Index, tmp_path: Path, image: Write
) -> None:
    folder = tmp_path / "d"
    image(folder / "a.dat")
    assert index.add(folder).added == 1
    (folder / "a.dat").write_bytes(b"\0\1\2\3" * 10)
    report = index.add(folder)
    assert len(report.failed) == 1 and report.skipped == {} and len(index) == 1
