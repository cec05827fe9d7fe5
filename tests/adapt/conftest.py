"""Two spaces trained apart, found by `load` as if their family lay in encoders/, and a corpus both can read."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from types import ModuleType

import pytest

from multimodal.adapt.bridging import mlp
from multimodal.core.space import Space
from tests import plugins

SYLLABLES = [first + last for first in "bdfgklmn" for last in ("ab", "el", "in", "or", "um")]


def sentences(n: int, words: int = 3, seed: int = 0) -> list[str]:
    """n different texts of so many made-up words."""
    rng, texts = random.Random(seed), set()
    while len(texts) < n:
        texts.add(" ".join(rng.sample(SYLLABLES, words)))
    return sorted(texts)


@pytest.fixture(scope="module")
def apart() -> Iterator[ModuleType]:
    """The family `apart`."""
    with plugins.family("apart") as module:
        yield module


@pytest.fixture
def ears(apart: ModuleType) -> Space:
    """Text and audio, 20 dimensions."""
    return apart.load("ears")


@pytest.fixture
def eyes(apart: ModuleType) -> Space:
    """Text and image, 16 dimensions."""
    return apart.load("eyes")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short training: what is learned here is small."""
    monkeypatch.setattr(mlp, "TrainingConfig", partial(mlp.TrainingConfig, steps=80, batch=128))
