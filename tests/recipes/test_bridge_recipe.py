"""The parts of the bridge's proof that need no data: what it never names, its losses, its encoders."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import multimodal as mm
from multimodal.adapt import bridge
from multimodal.core.families import unregister_family
from multimodal.core.space import Space
from recipes.bridge import data, measure, spaces, towers
from recipes.starter.data.concepts import Concept

NAMES = [f"{first} {second}" for first in ("red", "old", "small", "wild", "cold") for second in
         ("cat", "dog", "key", "car", "sun", "tree", "hat", "cake")]  # fmt: skip
WORDS = ["[UNK]", *sorted({word for name in NAMES for word in name.split()})]


@pytest.fixture(autouse=True)
def small_family() -> Iterator[None]:
    """The recipe's family is registered for the length of a test."""
    spaces.family()
    yield
    unregister_family("small")


@pytest.fixture
def world() -> list[Concept]:
    return [Concept("x", name, (name.split()[1], f"{name} indeed"), (), None, "g") for name in NAMES]


def test_the_corpus_never_names_what_is_held_out(
    world: list[Concept], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "CORPUS_SCENES", 400)
    held = [NAMES[row] for row in data.held_out_concepts(world)]
    texts = data.corpus(world)
    assert len(held) == 4
    assert not [text for text in texts for name in held if re.search(rf"\b{name}\b", text)]
    assert {name for name in NAMES if any(name in text for text in texts)} == set(NAMES) - set(held)
    assert len(set(texts)) == len(texts) > 200


def test_subjects_with_the_same_words_are_not_each_others_negatives() -> None:
    rows = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    texts = torch.stack([rows[0], rows[1], rows[0]])
    apart = spaces.contrast(
        torch.stack([rows[0], rows[1], rows[0]]), texts, ["a", "b", "c"], torch.tensor(50.0)
    )
    alike = spaces.contrast(
        torch.stack([rows[0], rows[1], rows[0]]), texts, ["a", "b", "a"], torch.tensor(50.0)
    )
    assert alike < 1e-3 < 0.3 < apart


def tiny(images: bool, dim: int, seed: int) -> Space:
    small, generator = spaces.family(), torch.manual_seed(seed)
    del generator
    text = small.SmallText(dim, towers.TextTower(len(WORDS), dim).state_dict(), WORDS)  # type: ignore[attr-defined]
    kind, tower = (
        (small.SmallImage, towers.ImageTower) if images else (small.SmallAudio, towers.AudioTower)  # type: ignore[attr-defined]
    )
    return Space(
        [text, kind(dim, tower(dim).state_dict())], mm.LogitScale(20.0), name="eyes" if images else "ears"
    )


def sounds(n: int) -> list[mm.Audio]:
    generator = torch.Generator().manual_seed(0)
    return [
        spaces.family().as_sound(torch.rand(20 + 7 * k, 64, generator=generator) * 2 - 1)  # type: ignore[attr-defined]
        for k in range(n)
    ]


def test_company_in_the_batch_changes_no_vector() -> None:
    ears, eyes = tiny(False, 12, 1), tiny(True, 16, 2)
    images = measure.as_images(torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8))
    for space, items in ((ears, sounds(4)), (eyes, images), (eyes, ["red cat", "wild old sun tree"])):
        together = space.encode(list(items))
        assert np.abs(together - np.stack([space.encode(item) for item in items])).max() < 1e-5


def test_a_bridge_between_the_recipes_spaces_is_saved_and_opens(tmp_path: Path) -> None:
    folder = tmp_path / "joined"
    texts = [f"{a} and {b}" for a in NAMES for b in NAMES if a < b]
    ears, eyes = tiny(False, 12, 1), tiny(True, 16, 2)
    made = bridge(ears, eyes, corpus=texts, media=sounds(5), method="ridge", out=folder)
    again = mm.load(folder)
    # what was loaded may multiply by another library than what was made by hand: the last digits
    np.testing.assert_allclose(again.encode(sounds(3)), made.space.encode(sounds(3)), atol=2e-6)
