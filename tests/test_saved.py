"""A space and an index written by version 0.1 open and give the numbers that 0.1 gave."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import multimodal
from multimodal.core.space import Space

SAVED = Path(__file__).parent / "saved"
EXPECTED: dict[str, Any] = json.loads((SAVED / "expected.json").read_text(encoding="utf-8"))
# What expected.json was computed from.
TEXTS = ["a cat", "rain"]
PIXELS = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
QUERY = "an apple"


@pytest.fixture(scope="module")
def space() -> Space:
    return multimodal.load(SAVED / "space-hf-clip", device="cpu")


def test_a_space_saved_by_0_1_gives_the_same_vectors(space: Space) -> None:
    np.testing.assert_allclose(space.encode(TEXTS), EXPECTED["vectors"]["text"], atol=1e-5)
    np.testing.assert_allclose(
        space.encode([multimodal.Image(PIXELS)]), EXPECTED["vectors"]["image"], atol=1e-5
    )
    assert space.fingerprint == EXPECTED["fingerprint"]


def test_a_space_saved_by_0_1_keeps_its_logit_scale_when_saved_again(space: Space, tmp_path: Path) -> None:
    old = json.loads((SAVED / "space-hf-clip" / "config.json").read_text(encoding="utf-8"))
    (head,) = [entry["head"] for entry in old["heads"]]
    logit_scale = space.logit_scale_for("image", "text")
    assert (logit_scale.scale, logit_scale.bias, logit_scale.activation) == (
        head["scale"],
        head["bias"],
        head["kind"],
    )
    space.save_pretrained(tmp_path / "again")
    again = multimodal.load(tmp_path / "again", device="cpu")
    assert again.logit_scales == space.logit_scales
    assert again.fingerprint == EXPECTED["fingerprint"]


def test_an_index_written_by_0_1_gives_the_same_hits(tmp_path: Path) -> None:
    path = tmp_path / "index-starter.lance"
    shutil.copytree(SAVED / "index-starter.lance", path)
    index = multimodal.Index.open(path)
    hits = index.search(QUERY, k=len(EXPECTED["hits"]))
    assert [(hit.id, str(hit.modality), hit.probability) for hit in hits] == [
        (hit["id"], hit["modality"], hit["probability"]) for hit in EXPECTED["hits"]
    ]
    scores = [hit["score"] for hit in EXPECTED["hits"]]
    np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-5)
