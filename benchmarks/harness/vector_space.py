"""A space without a model, for an index that is filled and searched with vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from multimodal.core.encoder import Encoder
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import Space


class VectorEncoder(Encoder):
    """An encoder that only defines a dimension."""

    modality = Modality.TEXT

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        raise NotImplementedError("this space has no model; search with a vector instead of a text")

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        raise NotImplementedError("this space has no model; search with a vector instead of a text")

    def config(self) -> dict[str, Any]:
        return {"dim": self.dim}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        return {}


def vector_space(dim: int) -> Space:
    return Space([VectorEncoder(dim)], name="vectors")
