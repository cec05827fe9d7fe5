"""An index written by version 0.1, before its modules were renamed, is read and written as before."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from multimodal.index import Index

SAVED = Path(__file__).parents[1] / "saved"


@pytest.fixture
def saved(tmp_path: Path) -> Index:
    shutil.copytree(SAVED / "index-starter.lance", tmp_path / "index.lance")
    return Index.open(tmp_path / "index.lance")


def test_a_saved_index_has_its_failures_and_rows(saved: Index) -> None:
    assert [failure.stage for failure in saved.failures()] == ["decode"]
    assert sorted(row["modality"] for row in saved.rows()) == ["audio", "image", "text", "text"]


def test_a_saved_index_can_be_written_to(saved: Index) -> None:
    assert saved.add(["a pear"]).added == 1
    assert saved.search("a pear", k=1)[0].text == "a pear"
    assert saved.delete("text:09922cb7b85a80d56375d42350010985") == 1
    assert len(saved) == 4
