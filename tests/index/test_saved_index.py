"""An index written by version 0.1, before its modules were renamed, is read and written as before."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch

import multimodal
from multimodal.core.errors import IndexStateError
from multimodal.core.modality import Modality
from multimodal.encoders.starter.parameters import EARLIER_FINGERPRINTS
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


def test_an_index_outlives_further_training_of_an_encoder_for_the_same_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = multimodal.load("starter", device="cpu")
    index = Index.create(tmp_path / "index.lance", before)
    index.add(["a pear", "a dog"])
    own = before.encoders[Modality.IMAGE]
    net = copy.deepcopy(own.net)
    with torch.no_grad():
        net.project.weight.mul_(1.01)
    trained = own.with_network(net)
    after = multimodal.Space(
        {**before.encoders, Modality.IMAGE: trained}, before.logit_scales, name=before.name
    )
    with pytest.raises(IndexStateError, match="vectors cannot be compared"):
        Index.open(index.path, after)
    monkeypatch.setitem(EARLIER_FINGERPRINTS, trained.fingerprint, (own.fingerprint,))
    opened = Index.open(index.path, after)
    assert opened.add(["a cat"]).added == 1
    assert opened.search("a dog", k=1)[0].text == "a dog"
