"""CLAP's audio tower, from the waveform on: log-mels are computed in the graph.

The Fourier basis is made in the graph too, from whole numbers: a stored one would be ten times the size of the rest,
and one rounded to float16 moves vectors by 1e-3.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.models.clap.modeling_clap import ClapAudioSelfAttention

from multimodal.core.errors import InvalidInput
from multimodal.encoders.hf.clap import MEL_FLOOR, FusedWindowAttention
from multimodal.encoders.hf.encoders import HFAudio
from multimodal.exporting.towers import TowerSpec


class LogMels(nn.Module):
    """Waveforms (n, samples) -> log-mel spectrograms (n, 1, frames, bands) in decibels."""

    def __init__(self, size: int, hop: int, filters: np.ndarray[Any, Any]) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        self.filters: Tensor
        self.register_buffer("filters", torch.from_numpy(np.ascontiguousarray(filters, np.float32)))

    def forward(self, waveforms: Tensor) -> Tensor:
        times = torch.arange(self.size)
        turns = (
            torch.arange(self.size // 2 + 1)[:, None] * times
        ) % self.size  # exact, unlike an angle of many turns
        angles = turns.float() * (2 * math.pi / self.size)
        window = 0.5 - 0.5 * torch.cos(times.float() * (2 * math.pi / self.size))
        basis = torch.cat([torch.cos(angles) * window, torch.sin(angles) * window])[:, None]
        padded = nn.functional.pad(waveforms[:, None], (self.size // 2, self.size // 2), mode="reflect")
        real, imaginary = nn.functional.conv1d(padded, basis, stride=self.hop).chunk(2, dim=1)
        power = (real.square() + imaginary.square()).transpose(1, 2) @ self.filters
        return 10 * torch.log10(power.clamp(min=MEL_FLOOR))[:, None]


class _Tower(nn.Module):
    def __init__(self, encoder: HFAudio, mels: LogMels) -> None:
        super().__init__()
        self.net, self.tower, self.mels = copy.deepcopy(encoder.net), encoder.tower, mels
        for module in self.net.modules():  # one call for each clip of a batch cannot be exported
            if type(module) is FusedWindowAttention:
                module.__class__ = ClapAudioSelfAttention

    def forward(self, waveforms: Tensor) -> Tensor:
        rows = self.tower(self.net, {"input_features": self.mels(waveforms)})
        return nn.functional.normalize(rows.float(), dim=-1)


def spec(encoder: HFAudio) -> TowerSpec:
    """The tower of a ClapModel. Raises InvalidInput for one that fuses views of a long recording."""
    extractor: Any = encoder.extractor
    if extractor.truncation == "fusion" or extractor.padding not in ("repeat", "repeatpad"):
        raise InvalidInput(
            f"this CLAP truncates by {extractor.truncation!r} and pads by {extractor.padding!r}; only checkpoints with "
            "'rand_trunc' and 'repeatpad' or 'repeat' are exported, such as laion/clap-htsat-unfused"
        )
    samples = int(encoder.settings["window_samples"])
    mels = LogMels(extractor.fft_window_size, extractor.hop_length, extractor.mel_filters_slaney)
    waveforms = torch.randn(2, samples, generator=torch.Generator().manual_seed(0)) / 10
    preprocessing = {
        "kind": "waveform", "waveforms": "waveforms", "rate_hz": int(extractor.sampling_rate), "samples": samples,
        "padding": extractor.padding,
    }  # fmt: skip
    return TowerSpec(_Tower(encoder, mels).eval(), {"waveforms": waveforms}, {}, preprocessing)
