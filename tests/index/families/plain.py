"""A family whose vectors can be worked out in the head, so that tests know every cosine beforehand. Dim 4.

text   "1 0 0 2" is the vector (1, 0, 0, 2); other words are counted by their first letters a, b, c, others
image  mean red, green, blue, and 0.25
sound  0, its peak, its mean loudness, and 0.25
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Space

DIM = 4
CARDS = (Card("plain", (Modality.TEXT, Modality.IMAGE, Modality.AUDIO), DIM, "CC0", "arithmetic", 0.0),)


class _Plain(Encoder):
    dim = DIM

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.seen: list[Item] = []

    def vector(self, item: Any) -> Sequence[float]:
        raise NotImplementedError

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        self.seen += items
        return {"rows": torch.tensor([list(self.vector(item)) for item in items], dtype=torch.float32)}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["rows"]

    def config(self) -> dict[str, Any]:
        return {"version": self.version}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        return {"nothing": torch.zeros(1)}


class PlainText(_Plain):
    modality = Modality.TEXT

    def vector(self, item: Any) -> Sequence[float]:
        text = item.load()
        if text == "boom":
            raise ZeroDivisionError("a bug far below")
        try:
            numbers = [float(word) for word in text.split()]
        except ValueError:
            letters = ["abc".find(word[0].lower()) for word in text.split()]
            numbers = [sum(letter == n for letter in letters) for n in (0, 1, 2, -1)]
        return numbers


class PlainImage(_Plain):
    modality = Modality.IMAGE

    def vector(self, item: Any) -> Sequence[float]:
        return [*(item.load().reshape(-1, 3).mean(axis=0) / 255), 0.25]


class PlainAudio(_Plain):
    modality = Modality.AUDIO

    def vector(self, item: Any) -> Sequence[float]:
        samples = item.load(8000).samples
        return [0.0, float(np.abs(samples).max()), float(np.abs(samples).mean()), 0.25]


KINDS = {Modality.TEXT: PlainText, Modality.IMAGE: PlainImage, Modality.AUDIO: PlainAudio}


def load(rest: str = "", *, device: str = "auto") -> Space:
    """ "plain" and "plain/2" are two spaces: the same sizes, other fingerprints. "plain/words" knows only text."""
    kinds = [PlainText] if rest == "words" else list(KINDS.values())
    version = int(rest) if rest.isdigit() else 1
    return Space(
        [kind(version) for kind in kinds], LogitScale(10.0), name=f"plain/{rest}" if rest else "plain"
    )


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    return KINDS[saved.modality](saved.config["version"])
