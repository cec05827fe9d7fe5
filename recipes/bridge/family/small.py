"""Encoders with small towers for this recipe, registered as a family by `recipes.bridge.spaces`.

Speech is passed as log-mels stored in the samples of an audio item (`as_sound`), because the starter's recipe stores
its recordings as log-mels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.items import Audio, Item
from multimodal.core.modality import Modality
from multimodal.encoders.starter.parameters import MAX_TOKENS, N_MELS
from multimodal.encoders.starter.preprocessing import pad_tokens, resize_to_square
from multimodal.encoders.starter.tokenizer import Tokenizer
from recipes.bridge import towers

CARDS: tuple[Card, ...] = ()
FRAMES_A_SECOND = 100


def as_sound(mel: Tensor) -> Audio:
    """Log-mels (frames, N_MELS) in -1 to 1 as an item."""
    return Audio({"array": mel.reshape(-1).numpy(), "sampling_rate": FRAMES_A_SECOND * N_MELS})


class _Small(Encoder):
    net: nn.Module

    def _settle(self, net: nn.Module, dim: int, tensors: Mapping[str, Tensor]) -> None:
        net.load_state_dict(dict(tensors))
        self.net, self.dim = net.eval().requires_grad_(False), dim

    def config(self) -> dict[str, Any]:
        return {"dim": self.dim}

    def state_dict(self) -> Mapping[str, Tensor]:
        return self.net.state_dict()


class SmallText(_Small):
    modality = Modality.TEXT

    def __init__(self, dim: int, tensors: Mapping[str, Tensor], vocabulary: Sequence[str]) -> None:
        self.vocabulary = list(vocabulary)
        self.tokenizer = Tokenizer(self.vocabulary)
        self._settle(towers.TextTower(len(self.vocabulary), dim), dim, tensors)

    def config(self) -> dict[str, Any]:
        return {"dim": self.dim, "vocabulary": self.vocabulary}

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        rows = self.tokenizer([str(item.load()) for item in items])
        tokens, lengths = pad_tokens([row[:MAX_TOKENS] for row in rows])
        return {"tokens": tokens, "lengths": lengths}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.net(batch["tokens"], batch["lengths"])


class SmallImage(_Small):
    modality = Modality.IMAGE

    def __init__(self, dim: int, tensors: Mapping[str, Tensor]) -> None:
        self._settle(towers.ImageTower(dim), dim, tensors)

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        return {"pixels": torch.stack([resize_to_square(item.load()) for item in items])}  # type: ignore[arg-type]

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.net(batch["pixels"])


class SmallAudio(_Small):
    modality = Modality.AUDIO

    def __init__(self, dim: int, tensors: Mapping[str, Tensor]) -> None:
        self._settle(towers.AudioTower(dim), dim, tensors)

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        mels = [torch.from_numpy(np.array(item.load().samples)).view(-1, N_MELS) for item in items]  # type: ignore[union-attr]
        lengths = torch.tensor([len(mel) for mel in mels])
        return {"mels": nn.utils.rnn.pad_sequence(mels, batch_first=True), "lengths": lengths}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.net(batch["mels"], batch["lengths"])


KINDS = {Modality.IMAGE: SmallImage, Modality.AUDIO: SmallAudio}


def load(rest: str = "") -> None:
    raise LookupError(
        f"small/{rest}: these spaces are trained by python -m recipes.bridge and opened by their folder"
    )


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    if saved.modality == Modality.TEXT:
        return SmallText(saved.config["dim"], saved.tensors, saved.config["vocabulary"])
    return KINDS[saved.modality](saved.config["dim"], saved.tensors)
