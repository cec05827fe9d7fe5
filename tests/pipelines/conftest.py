"""Three spaces of one text and one picture encoder, whose vectors can be worked out in the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from multimodal.core.encoder import Encoder
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Space

WORDS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "something": (1.0, 1.0, 1.0),
}


class _Counted(Encoder):
    dim = 3

    def __init__(self) -> None:
        self.encoded: list[Any] = []

    def vector(self, item: Any) -> Sequence[float]:
        raise NotImplementedError

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        self.encoded += [item.source for item in items]
        return {"rows": torch.tensor([list(self.vector(item)) for item in items])}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["rows"]

    def config(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        return {"nothing": torch.zeros(1)}


class Words(_Counted):
    """The sum of the colours named; each other word adds a quarter of red."""

    modality = Modality.TEXT

    def vector(self, item: Any) -> Sequence[float]:
        parts = [WORDS.get(word, (0.25, 0.0, 0.0)) for word in item.load().split()]
        return [sum(column) for column in zip(*parts, strict=True)]


class Colours(_Counted):
    """The mean colour."""

    modality = Modality.IMAGE

    def vector(self, item: Any) -> Sequence[float]:
        return (item.load().reshape(-1, 3).mean(axis=0) / 255).tolist()


@pytest.fixture
def clip() -> Space:
    """Trained with a softmax, as CLIP was."""
    return Space([Words(), Colours()], LogitScale(5.0, activation="softmax"), name="clip-like")


@pytest.fixture
def siglip() -> Space:
    """Trained with a sigmoid, as SigLIP was; texts among themselves with another head."""
    heads = {
        (Modality.IMAGE, Modality.TEXT): LogitScale(8.0, -4.0, "sigmoid"),
        None: LogitScale(2.0, -1.0, "sigmoid"),
    }
    return Space([Words(), Colours()], heads, name="siglip-like")
