"""Preprocessing of the starter, shared by inference and training: images, log-mel spectrograms and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from multimodal.core.media.windows import equal_windows
from multimodal.encoders.starter.parameters import (
    FLOOR_DB,
    HOP,
    MARGIN,
    MAX_HZ,
    MIN_HZ,
    MIN_SAMPLES,
    N_FFT,
    N_MELS,
    QUIET_DB,
    RATE_HZ,
    SIDE,
    SILENCE_DB,
    WINDOW_SAMPLES,
)
from multimodal.encoders.starter.tokenizer import token_arrays


@lru_cache(maxsize=1)
def mel_bank() -> Tensor:
    """Triangular mel filters (N_FFT // 2 + 1, N_MELS), 60 Hz to 7.6 kHz, HTK scale."""
    from torchaudio.functional import melscale_fbanks

    return melscale_fbanks(N_FFT // 2 + 1, MIN_HZ, MAX_HZ, N_MELS, RATE_HZ)


@lru_cache(maxsize=1)
def window() -> Tensor:
    """Hann window (N_FFT,)."""
    return torch.hann_window(N_FFT)


def log_mel(samples: np.ndarray) -> Tensor:
    """Log-mel spectrogram in decibels relative to the loudest band of the clip.

    The result does not depend on loudness. One frame is 10 ms.

    Args:
        samples: Waveform (n,) float32 at RATE_HZ.

    Returns:
        (frames, N_MELS) float32 in [-1, 1].
    """
    if len(samples) < MIN_SAMPLES:
        samples = np.pad(samples, (0, MIN_SAMPLES - len(samples)))
    spectrum = torch.stft(torch.from_numpy(samples), N_FFT, HOP, window=window(), return_complex=True)
    power = (spectrum.real.square() + spectrum.imag.square()).T @ mel_bank()
    decibels = 10 * power.clamp(min=1e-12).log10()
    return ((decibels - decibels.max()).clamp(min=FLOOR_DB) - FLOOR_DB) / (-FLOOR_DB / 2) - 1


def resize_to_square(rgb: np.ndarray) -> Tensor:
    """Resizes the longest edge to SIDE and pads the rest with the mean colour of the border.

    Args:
        rgb: Pixels (h, w, 3) uint8.

    Returns:
        Pixels (3, SIDE, SIDE) uint8.
    """
    height, width = rgb.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.fromarray(rgb)
    if image.size != size:
        # reducing_gap first shrinks large images by whole factors: within one level of the same result, much faster.
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    pixels = np.asarray(image)
    if size != (SIDE, SIDE):
        border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        colour = border.mean(0).round().astype(np.uint8)
        canvas = np.broadcast_to(colour, (SIDE, SIDE, 3)).copy()
        top, left = (SIDE - size[1]) // 2, (SIDE - size[0]) // 2
        canvas[top : top + size[1], left : left + size[0]] = pixels
        pixels = canvas
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def pad_tokens(rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token rows -> (tokens (n, longest) int64 padded with 0, lengths (n,) int64)."""
    tokens, lengths = token_arrays(rows)
    return torch.from_numpy(tokens), torch.from_numpy(lengths)


def speech_windows(samples: np.ndarray) -> list[Tensor]:
    """Log-mel spectrograms of equal windows of at most 6 s, with leading and trailing silence removed.

    Windows QUIET_DB below the loudest are dropped: log-mels are relative to the peak, so they would be amplified noise.

    Args:
        samples: Waveform (n,) float32 at RATE_HZ.

    Returns:
        One (frames, N_MELS) float32 tensor per window.
    """
    spans = equal_windows(len(samples), WINDOW_SAMPLES)
    energy = np.array([np.square(samples[start:stop]).mean() for start, stop in spans])
    loud = energy >= energy.max() * 10 ** (QUIET_DB / 10)
    return [
        trim_silence(log_mel(samples[start:stop]))
        for (start, stop), is_loud in zip(spans, loud, strict=True)
        if is_loud
    ]


def trim_silence(mel: Tensor) -> Tensor:
    """Removes leading and trailing frames (frames, N_MELS) below SILENCE_DB in every band, but for MARGIN frames."""
    audible = (mel.amax(dim=1) > SILENCE_DB / (-FLOOR_DB / 2) + 1).nonzero()[:, 0]
    first, last = int(audible[0]), int(audible[-1])
    return mel[max(0, first - MARGIN) : last + MARGIN + 1]
