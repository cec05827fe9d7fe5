"""The starter's three encoders: text, image and audio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.encoders.starter import preprocessing
from multimodal.encoders.starter.networks import (
    DIM,
    MAX_TOKENS,
    N_MELS,
    SIDE,
    AudioTower,
    ImageTower,
    TextTower,
)

CPU_FLOAT32 = Runtime()


class _StarterEncoder(Encoder):
    """A tower on its device. Subclasses differ in `prepare` and in how `forward` calls the tower."""

    dim = DIM
    net: nn.Module

    def _set_network(self, net: nn.Module, tensors: Mapping[str, Tensor], runtime: Runtime) -> None:
        # BatchNorm counts its training batches in a buffer that inference does not read and that is not saved.
        net.load_state_dict(
            {name: tensor.float() for name, tensor in tensors.items()} | _integer_buffers(net)
        )
        self.runtime, self.device = runtime, runtime.torch_device
        self.net = net.eval().requires_grad_(False).to(self.device, runtime.cast)

    def state_dict(self) -> Mapping[str, Tensor]:
        """The float16 weights, identical to the shipped ones; float32 where fine-tuning made them finer."""
        tensors = self.net.state_dict().items()
        return {name: _as_stored(tensor) for name, tensor in tensors if tensor.is_floating_point()}

    def _sum_by_item(self, vectors: Tensor, owners: Tensor) -> Tensor:
        """Window vectors (windows, dim) -> their sum per item (n, dim), which has the direction of the mean."""
        owners = owners.to(self.device)
        rows = vectors.new_zeros(int(owners.max()) + 1, self.dim)
        return rows.index_add_(0, owners, vectors)


def _as_stored(tensor: Tensor) -> Tensor:
    half = tensor.half()
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def _integer_buffers(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if not tensor.is_floating_point()}


class StarterText(_StarterEncoder):
    """WordPiece tokens -> transformer.

    Texts of more than 48 tokens are split into equal windows whose vectors are averaged.
    """

    modality = Modality.TEXT
    max_input = 200  # characters: 48 tokens of a little more than four characters
    net: TextTower

    def __init__(
        self, vocabulary: Sequence[str], tensors: Mapping[str, Tensor], runtime: Runtime = CPU_FLOAT32
    ) -> None:
        self.vocabulary = list(vocabulary)
        self.tokenizer = preprocessing.Tokenizer(self.vocabulary)
        self._set_network(TextTower(len(self.vocabulary)), tensors, runtime)

    def config(self) -> dict[str, Any]:
        return {"max_tokens": MAX_TOKENS, "lowercase": True, "vocabulary": self.vocabulary}

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Tokenises texts.

        Returns:
            tokens (windows, t) int64, lengths (windows,) int64, and owners (windows,) int64, the item of each window.
        """
        token_rows = self.tokenizer([str(item.load()) for item in items])
        owners, windows = [], []
        for owner, row in enumerate(token_rows):
            for start, stop in preprocessing.equal_windows(len(row), MAX_TOKENS):
                owners.append(owner)
                windows.append(row[start:stop])
        tokens, lengths = preprocessing.pad_tokens(windows)
        return {"tokens": tokens, "lengths": lengths, "owners": torch.tensor(owners)}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        vectors = self.net(batch["tokens"].to(self.device), batch["lengths"].to(self.device))
        return self._sum_by_item(vectors, batch["owners"])


class StarterImage(_StarterEncoder):
    """A ConvNet on 64 × 64 pixels; other aspect ratios are padded with the mean colour of the border."""

    modality = Modality.IMAGE
    net: ImageTower

    def __init__(self, tensors: Mapping[str, Tensor], runtime: Runtime = CPU_FLOAT32) -> None:
        self._set_network(ImageTower(), tensors, runtime)

    def config(self) -> dict[str, Any]:
        return {"side": SIDE, "resize": "bicubic, longest edge, border-mean fill"}

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Decodes and resizes images.

        Returns:
            pixels (n, 3, 64, 64) uint8.
        """
        min_side = SIDE if self.runtime.decode == "fast" else None
        decoded = [item.load(min_side=min_side) for item in items]  # type: ignore[call-arg, union-attr]
        return {"pixels": torch.stack([preprocessing.resize_to_square(rgb) for rgb in decoded])}  # type: ignore[arg-type]

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        vectors: Tensor = self.net(batch["pixels"].to(self.device))
        return vectors


class StarterAudio(_StarterEncoder):
    """Log-mel spectrograms of speech -> transformer.

    Clips of more than 6 s are split into equal windows whose vectors are averaged.
    """

    modality = Modality.AUDIO
    max_input = 6
    net: AudioTower

    def __init__(self, tensors: Mapping[str, Tensor], runtime: Runtime = CPU_FLOAT32) -> None:
        self._set_network(AudioTower(), tensors, runtime)

    def config(self) -> dict[str, Any]:
        return {
            "rate_hz": preprocessing.RATE_HZ, "n_fft": preprocessing.N_FFT, "hop": preprocessing.HOP, "n_mels": N_MELS,
            "floor_db": preprocessing.FLOOR_DB, "silence_db": preprocessing.SILENCE_DB,
            "quiet_db": preprocessing.QUIET_DB, "margin": preprocessing.MARGIN,
            "window_samples": preprocessing.WINDOW_SAMPLES,
        }  # fmt: skip

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Decodes audio and computes log-mel windows.

        Returns:
            mels (windows, frames, 64) float32, lengths (windows,) int64 in frames, and owners (windows,) int64, the
            item of each window.
        """
        owners, mels = [], []
        for owner, item in enumerate(items):
            waveform = item.load(rate_hz=preprocessing.RATE_HZ)  # type: ignore[call-arg, union-attr]
            for mel in preprocessing.speech_windows(waveform.samples):  # type: ignore[union-attr]
                owners.append(owner)
                mels.append(mel)
        return {
            "mels": torch.nn.utils.rnn.pad_sequence(mels, batch_first=True),
            "lengths": torch.tensor([len(mel) for mel in mels]),
            "owners": torch.tensor(owners),
        }

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        vectors = self.net(batch["mels"].to(self.device), batch["lengths"].to(self.device))
        return self._sum_by_item(vectors, batch["owners"])
