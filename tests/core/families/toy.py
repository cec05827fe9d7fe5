"""A whole encoder family, tiny but real: torch weights, padding that must be masked, preprocessing in its config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from multimodal.core.backends.runtime import Decode, Precision, Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Space

DIM = 16
FRAME = 512
CARDS = (
    Card("toy", (Modality.TEXT, Modality.IMAGE, Modality.AUDIO), DIM, "CC0", "drawn by lot", 0.01, "a toy"),
)


class _Toy(Encoder):
    dim = DIM
    inputs: int
    defaults: Mapping[str, Any]

    def __init__(self, config: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        self._config = dict(self.defaults) if config is None else dict(config)
        generator = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(self.inputs, DIM, generator=generator)

    def config(self) -> dict[str, Any]:
        return dict(self._config)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"weight": self.weight}


class ToyText(_Toy):
    modality = Modality.TEXT
    inputs = 256
    defaults = {"lower": True}  # noqa: RUF012

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        texts = [item.load() for item in items]
        rows = [torch.tensor(list((t.lower() if self._config["lower"] else t).encode())) for t in texts]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True)
        return {"ids": ids, "mask": mask}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = batch["mask"][..., None]
        return (self.weight[batch["ids"]] * mask).sum(1) / mask.sum(1)


class ToyImage(_Toy):
    modality = Modality.IMAGE
    inputs = 3
    defaults = {"mean": 0.5}  # noqa: RUF012

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        colours = [item.load().reshape(-1, 3).mean(axis=0) / 255 - self._config["mean"] for item in items]
        return {"colours": torch.from_numpy(np.stack(colours)).float()}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["colours"] @ self.weight


class ToyAudio(_Toy):
    modality = Modality.AUDIO
    inputs = FRAME // 2 + 1
    defaults = {"rate_hz": 16_000}  # noqa: RUF012

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        spectra = []
        for item in items:
            samples = item.load(self._config["rate_hz"]).samples
            frames = np.pad(samples, (0, -len(samples) % FRAME)).reshape(-1, FRAME)
            spectra.append(np.abs(np.fft.rfft(frames)).mean(axis=0))
        return {"spectra": torch.from_numpy(np.stack(spectra)).float()}

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["spectra"] @ self.weight


KINDS = {Modality.TEXT: ToyText, Modality.IMAGE: ToyImage, Modality.AUDIO: ToyAudio}


def load(
    rest: str = "", *, device: str = "auto", precision: Precision = "float32", decode: Decode = "exact"
) -> Space:
    return Space(
        [kind() for kind in KINDS.values()],
        LogitScale(10.0),
        name=f"toy/{rest}" if rest else "toy",
        card=CARDS[0],
    )


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    encoder = KINDS[saved.modality](saved.config)
    encoder.weight = saved.tensors["weight"]
    return encoder
