"""CLAP's faster attention and spectrogram, beside those of transformers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ClapAudioConfig, ClapFeatureExtractor
from transformers.models.clap.modeling_clap import ClapAudioSelfAttention

from multimodal.encoders.hf import clap


def attention(width: int, heads: int, window: int) -> ClapAudioSelfAttention:
    torch.manual_seed(width)
    layer = ClapAudioSelfAttention(ClapAudioConfig(), width, heads, window).eval().requires_grad_(False)
    torch.nn.init.normal_(layer.relative_position_bias_table)
    return layer


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 3), st.integers(1, 4), st.sampled_from([(8, 2, 2), (24, 3, 3), (48, 2, 4)]), st.booleans()
)
def test_fused_attention_is_that_of_transformers(
    n_clips: int, n_windows: int, shape: tuple[int, int, int], is_shifted: bool
) -> None:
    upstream = attention(*shape)
    fused = copy.deepcopy(upstream)
    clap.use_fused_attention(fused)
    assert type(fused) is clap.FusedWindowAttention
    n_tokens = shape[2] ** 2
    rows = torch.randn(n_clips * n_windows, n_tokens, shape[0])
    mask = None
    if is_shifted:  # -100 hides tokens that were not neighbours before the shift
        mask = torch.where(torch.rand(n_windows, n_tokens, n_tokens) < 0.3, -100.0, 0.0)
    with torch.inference_mode():
        expected = upstream(rows, mask)[0]
        torch.testing.assert_close(fused(rows, mask)[0], expected, atol=1e-5, rtol=1e-5)
        rounded = copy.deepcopy(fused).bfloat16()(rows.bfloat16(), None if mask is None else mask.bfloat16())[
            0
        ]
    assert (rounded.float() - expected).abs().max() < 0.1


def test_fused_attention_returns_weights_where_they_are_needed() -> None:
    upstream = attention(24, 3, 3)
    fused = pickle.loads(pickle.dumps(upstream))
    clap.use_fused_attention(torch.nn.ModuleList([fused]))
    rows = torch.randn(2, 9, 24)
    for output, expected in zip(fused(rows, None, True), upstream(rows, None, True), strict=True):
        assert torch.equal(output, expected)
    assert fused.state_dict().keys() == upstream.state_dict().keys()


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("n_samples", [1, 700, 16_000, 47_999, 48_000])
def test_the_spectrogram_is_that_of_transformers(truncation: str, padding: str, n_samples: int) -> None:
    upstream = ClapFeatureExtractor(max_length_s=1, truncation=truncation, padding=padding)
    ours = clap.batched(ClapFeatureExtractor(max_length_s=1, truncation=truncation, padding=padding))
    assert type(ours) is clap.BatchedFeatureExtractor
    noise = np.random.default_rng(n_samples)
    time = np.arange(n_samples) / 48_000
    for samples in (noise.standard_normal(n_samples), np.sin(2 * np.pi * 440 * time), np.zeros(n_samples)):
        waveform = samples.astype(np.float32)
        output, expected = (
            extractor(waveform, sampling_rate=48_000, return_tensors="pt")["input_features"]
            for extractor in (ours, upstream)
        )
        assert output.dtype is expected.dtype and output.shape == expected.shape
        torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


def test_another_extractor_stays_as_it_is() -> None:
    extractor = object()
    assert clap.batched(extractor) is extractor
