"""A family of 64 numbers a vector, enough for sketches: a text is a random direction that its words decide."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import Space

DIM = 64
CARDS = (Card("wide", (Modality.TEXT, Modality.IMAGE), DIM, "CC0", "arithmetic", 0.0),)


class _Wide(Encoder):
    dim = DIM

    def seed(self, item: Any) -> int:
        raise NotImplementedError

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        rows = [np.random.default_rng(self.seed(item)).standard_normal(DIM) for item in items]
        return {"rows": torch.tensor(np.array(rows), dtype=torch.float32)}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["rows"]

    def config(self) -> dict[str, Any]:
        return {}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        return {"nothing": torch.zeros(1)}


class WideText(_Wide):
    modality = Modality.TEXT

    def seed(self, item: Any) -> int:
        return zlib.crc32(item.load().encode())


class WideImage(_Wide):
    modality = Modality.IMAGE

    def seed(self, item: Any) -> int:
        return int(item.load().sum())


KINDS = {Modality.TEXT: WideText, Modality.IMAGE: WideImage}


def load(rest: str = "", *, device: str = "auto") -> Space:
    return Space([kind() for kind in KINDS.values()], name="wide")


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    return KINDS[saved.modality]()
