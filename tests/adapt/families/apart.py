"""Two spaces trained apart, as it were: both see a hidden meaning of 12 numbers, each through a map of its own.

A word means a vector drawn by its letters, a text the sum of its words. "apart/ears" (dim 20) knows text and sound,
"apart/eyes" (dim 16) text and pictures; in "ears" the sounds lie at a distance from the texts. Sounds and pictures hold
their meaning as their samples or pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.items import Audio, Image, Item
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Space

MEANING = 12
GAP = 1.5  # times the length of a meaning
DIMS = {"ears": 20, "eyes": 16}
CARDS = (
    Card("apart/ears", (Modality.TEXT, Modality.AUDIO), 20, "CC0", "arithmetic", 0.5),
    Card("apart/eyes", (Modality.TEXT, Modality.IMAGE), 16, "CC-BY-NC-4.0", "lot", 0.25, commercial=False),
)


def word(letters: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(letters.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).standard_normal(MEANING)


def meaning(text: str) -> np.ndarray:
    total = sum(map(word, text.lower().split()))
    return np.asarray(total / np.linalg.norm(total))


def heard(text: str) -> Audio:
    return Audio({"array": meaning(text).astype(np.float32), "sampling_rate": 8000})


def seen(text: str) -> Image:
    return Image(
        np.round((meaning(text) + 1) * 127).astype(np.uint8).reshape(1, MEANING, 1).repeat(3, axis=2)
    )


class _Apart(Encoder):
    side: ClassVar[str]
    gap = 0.0

    def __init__(self, weight: torch.Tensor | None = None) -> None:
        self.dim = DIMS[self.side]
        generator = torch.Generator().manual_seed(len(self.side) + ord(self.side[1]))
        drawn = torch.randn(MEANING + 1, self.dim, generator=generator, dtype=torch.float64)
        self.weight = drawn.float() if weight is None else weight
        self.seen = 0

    def understood(self, item: Any) -> np.ndarray:
        return meaning(item.load())

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        self.seen += len(items)
        rows = np.stack([np.append(self.understood(item), self.gap) for item in items])
        return {"rows": torch.from_numpy(rows).float()}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tanh(batch["rows"] @ self.weight)

    def config(self) -> dict[str, Any]:
        return {"side": self.side}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        return {"weight": self.weight}


class EarsText(_Apart):
    side, modality = "ears", Modality.TEXT


class EarsAudio(_Apart):
    side, modality, gap = "ears", Modality.AUDIO, GAP

    def understood(self, item: Any) -> np.ndarray:
        return np.asarray(item.load().samples, dtype=np.float64)

    def files(self) -> Mapping[str, bytes]:
        return {"note.txt": b"beside the weights"}


class EyesText(_Apart):
    side, modality = "eyes", Modality.TEXT


class EyesImage(_Apart):
    side, modality = "eyes", Modality.IMAGE

    def understood(self, item: Any) -> np.ndarray:
        return np.asarray(item.load()[0, :, 0] / 127 - 1)


KINDS = {
    ("ears", "text"): EarsText,
    ("ears", "audio"): EarsAudio,
    ("eyes", "text"): EyesText,
    ("eyes", "image"): EyesImage,
}


def load(rest: str = "") -> Space:
    encoders = [kind() for (side, _), kind in KINDS.items() if side == rest]
    card = next(card for card in CARDS if card.name == f"apart/{rest}")
    return Space(encoders, LogitScale(20.0), name=f"apart/{rest}", card=card)


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    return KINDS[saved.config["side"], str(saved.modality)](saved.tensors["weight"])
