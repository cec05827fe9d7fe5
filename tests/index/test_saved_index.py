"""An index written by version 0.1, before its modules were renamed, opens and answers as it did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from multimodal.index import Index

SAVED = Path(__file__).parents[1] / "saved"


@pytest.fixture
def saved(tmp_path: Path) -> Index:
    shutil.copytree(SAVED / "index-starter.lance", tmp_path / "index.lance")
    return Index.open(tmp_path / "index.lance")


def test_a_saved_index_gives_the_hits_it_gave_when_it_was_written(saved: Index) -> None:
    expected = json.loads((SAVED / "expected.json").read_text())["hits"]
    hits = saved.search("an apple", k=4)
    assert [(hit.id, hit.modality, hit.probability) for hit in hits] == [
        (hit["id"], hit["modality"], hit["probability"]) for hit in expected
    ]
    assert [hit.score for hit in hits] == pytest.approx([hit["score"] for hit in expected], abs=1e-4)
    assert [failure.stage for failure in saved.failures()] == ["decode"]


def test_a_saved_index_can_be_written_to(saved: Index) -> None:
    assert saved.add(["a pear"]).added == 1
    assert saved.search("a pear", k=1)[0].text == "a pear"
    assert saved.delete("text:09922cb7b85a80d56375d42350010985") == 1
    assert len(saved) == 4
