"""CLAP's window attention by a fused kernel, and its log-mel spectrogram by one Fourier transform for all frames.

transformers computes the attention of CLAP's audio tower (HTSAT, a Swin) as separate products, sums and a softmax over
64 windows of 64 tokens: 45 % of a forward pass in float32 on one core of an Intel CPU, of which products with inner
sizes of 24 and 64 take most (measured per operator). Its feature extractor transforms frame by frame in Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ClapFeatureExtractor
from transformers.audio_utils import window_function
from transformers.models.clap.modeling_clap import ClapAudioSelfAttention

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAMES_AT_ONCE = 64  # half a megabyte, which stays in the cache
MEL_FLOOR = 1e-10  # of upstream's spectrogram and of its decibels


class FusedWindowAttention(ClapAudioSelfAttention):  # type: ignore[misc]  # transformers has no types
    """ClapAudioSelfAttention by scaled_dot_product_attention, in inference."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        output_attentions: bool | None = False,
    ) -> tuple[Tensor, ...]:
        if output_attentions or self.training:
            upstream: tuple[Tensor, ...] = super().forward(hidden_states, attention_mask, output_attentions)
            return upstream
        n_windows, n_tokens, width = hidden_states.shape
        heads = (n_windows, n_tokens, self.num_attention_heads, self.attention_head_size)
        q, k, v = (
            layer(hidden_states).view(heads).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        bias = self.relative_position_bias_table[self.relative_position_index.view(-1)]
        bias = bias.view(1, n_tokens, n_tokens, -1).permute(0, 3, 1, 2).contiguous().to(q.dtype)
        if attention_mask is None:
            mixed = F.scaled_dot_product_attention(q, k, v, bias)
        else:  # the windows of one clip have a mask each, and all clips the same masks
            bias = bias + attention_mask[:, None].to(q.dtype)
            per_clip = zip(*(tensor.split(len(attention_mask)) for tensor in (q, k, v)), strict=True)
            mixed = torch.cat(
                [F.scaled_dot_product_attention(query, key, value, bias) for query, key, value in per_clip]
            )
        return (mixed.transpose(1, 2).reshape(n_windows, n_tokens, width),)


def use_fused_attention(net: nn.Module) -> None:
    """Exchanges the attention layers of CLAP's audio tower, in place. Weights and state dict stay as they are."""
    for module in net.modules():
        if type(module) is ClapAudioSelfAttention:
            module.__class__ = FusedWindowAttention


class BatchedFeatureExtractor(ClapFeatureExtractor):  # type: ignore[misc]  # transformers has no types
    """ClapFeatureExtractor with the Fourier transforms of all frames in one call."""

    def _np_extract_fbank_features(
        self, waveform: NDArray[Any], mel_filters: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Waveform (n,) -> log-mel spectrogram (frames, mel filters) in decibels, with upstream's roundings."""
        size = self.fft_window_size
        padded = np.pad(waveform.astype(np.float64), size // 2, mode="reflect")
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: self.hop_length]
        window = window_function(size, "hann")
        mel = np.empty((len(frames), mel_filters.shape[1]))
        for start in range(0, len(frames), FRAMES_AT_ONCE):
            part = slice(start, start + FRAMES_AT_ONCE)
            spectrum = np.fft.rfft(frames[part] * window).astype(np.complex64)
            power = np.square(spectrum.real, dtype=np.float64) + np.square(spectrum.imag, dtype=np.float64)
            mel[part] = power @ mel_filters
        decibels: NDArray[np.float32] = (10 * np.log10(np.maximum(MEL_FLOOR, mel))).astype(np.float32)
        return decibels


def batched(extractor: Any) -> Any:
    """The feature extractor with a faster spectrogram if it is CLAP's; otherwise itself."""
    if type(extractor) is ClapFeatureExtractor:
        extractor.__class__ = BatchedFeatureExtractor
    return extractor
