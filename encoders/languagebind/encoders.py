"""The encoder of LanguageBind's audio tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.items import Audio, Item
from multimodal.core.modality import Modality
from multimodal.encoders.languagebind.checkpoint import TowerConfig
from multimodal.encoders.languagebind.networks import AudioTower
from multimodal.encoders.languagebind.preprocessing import MelSettings, mel_windows

CPU_FLOAT32 = Runtime()
MAX_ROWS = 16  # windows per forward pass, so that memory does not grow with the length of a recording


class LanguageBindAudio(Encoder):
    """Log-mels in windows of about 10 s -> a CLIP vision transformer.

    The vector of a clip is the mean of the unit vectors of its windows. Every part of a long recording has the same
    weight, and the result is deterministic.
    """

    modality = Modality.AUDIO

    def __init__(
        self,
        sizes: TowerConfig,
        mel_settings: MelSettings,
        tensors: Mapping[str, Tensor],
        runtime: Runtime = CPU_FLOAT32,
    ) -> None:
        self.sizes, self.mel_settings, self.dim = sizes, mel_settings, sizes.dim
        with torch.device("meta"):  # the weights are assigned below
            net = AudioTower(sizes)
        # Copied: memory-mapped tensors may be unaligned, which changes the last bits of a product
        weights = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
        net.load_state_dict(weights, assign=True)
        self.runtime, self.device, self.dtype = runtime, runtime.torch_device, runtime.cast
        self.net = net.eval().requires_grad_(False).to(self.device, self.dtype)
        self.max_input = mel_settings.seconds

    def config(self) -> dict[str, Any]:
        return {
            "tower": self.sizes.to_dict(),
            "sound": self.mel_settings.to_dict(),
            "windows": "equal, covering; short clips tiled; mean of unit vectors",
        }

    def state_dict(self) -> Mapping[str, Tensor]:
        return self.net.state_dict()

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Decodes audio and computes log-mel windows.

        Returns:
            mels (windows, mels, frames) float32, and owners (windows,) int64, the item of each window.
        """
        owners, mels = [], []
        for owner, item in enumerate(items):
            if isinstance(item, Audio):
                for window in mel_windows(
                    item.load(rate_hz=self.mel_settings.rate_hz).samples, self.mel_settings
                ):
                    owners.append(owner)
                    mels.append(window)
        return {"mels": torch.stack(mels), "owners": torch.tensor(owners)}

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        vectors = []
        for mels in batch["mels"].split(MAX_ROWS):
            channels = mels.to(self.device, self.dtype)[:, None].expand(-1, 3, -1, -1)
            vectors.append(torch.nn.functional.normalize(self.net(channels).float(), dim=1).cpu())
        owners = batch["owners"]
        sums = torch.zeros(int(owners.max()) + 1, self.dim)  # on the CPU, where the order of a sum is fixed
        return sums.index_add_(0, owners, torch.cat(vectors))
