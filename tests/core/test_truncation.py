"""A truncated space: the first numbers of each vector, saved, pickled, indexed and joined like any other."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import multimodal as mm
from multimodal.core.errors import InvalidInput, SpaceMismatch


@pytest.fixture(scope="module")
def text() -> mm.Space:
    return mm.load("starter").select("text")


def test_truncated_vectors_are_the_first_numbers_at_length_one(text: mm.Space, tmp_path: Path) -> None:
    words = ["a red apple", "rain"]
    whole, short = text.encode(words), text.truncate(64)
    expected = whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True)
    assert short.dim == 64 and np.abs(short.encode(words) - expected).max() < 1e-6
    assert short.fingerprint not in (text.fingerprint, text.truncate(32).fingerprint)
    assert short.truncate(32).fingerprint == text.truncate(32).fingerprint
    assert text.truncate(256).fingerprint == text.fingerprint
    short.save_pretrained(tmp_path / "short")
    saved = mm.load(tmp_path / "short")
    assert saved.fingerprint == short.fingerprint and np.array_equal(saved.encode(words), short.encode(words))


def test_a_truncated_space_is_loaded_again_by_its_address(tmp_path: Path) -> None:
    space = mm.load("starter", dims=32)
    assert pickle.loads(pickle.dumps(space)).fingerprint == space.fingerprint
    mm.Index.create(tmp_path / "i", space)
    assert mm.Index.open(tmp_path / "i").fingerprint == space.fingerprint
    parts = space.select("text") | space.select("image")
    assert parts.dim == 32
    with pytest.raises(SpaceMismatch):
        space.select("text") | mm.load("starter").truncate(64).select("image")


@pytest.mark.parametrize("dims", [0, 257, 1.5, True])
def test_unusable_dims_are_refused(dims: int, text: mm.Space) -> None:
    with pytest.raises(InvalidInput, match="dims must be a whole number from 1 to 256"):
        text.truncate(dims)
