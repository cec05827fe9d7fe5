"""Log-mel spectrograms of speech in numpy, equal to those that the starter was trained on within float32 rounding."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multimodal.core.media.windows import equal_windows


@dataclass(frozen=True)
class SpeechNumbers:
    """Numbers of the preprocessing, as in `encoders.starter.parameters`. Levels are relative to the loudest band."""

    rate_hz: int
    n_fft: int
    hop: int
    n_mels: int
    min_hz: float
    max_hz: float
    floor_db: float
    silence_db: float
    quiet_db: float
    margin: int
    window_samples: int


def speech_windows(samples: NDArray[np.float32], numbers: SpeechNumbers) -> list[NDArray[np.float32]]:
    """Log-mels (frames, n_mels) of equal windows of a waveform (n,), without leading and trailing silence.

    Windows quiet_db below the loudest are dropped.
    """
    spans = equal_windows(len(samples), numbers.window_samples)
    energy = np.array([np.square(samples[start:stop]).mean() for start, stop in spans])
    loud = energy >= energy.max() * 10 ** (numbers.quiet_db / 10)
    return [
        _trimmed(log_mel(samples[start:stop], numbers), numbers)
        for (start, stop), is_loud in zip(spans, loud, strict=True)
        if is_loud
    ]


def log_mel(samples: NDArray[np.float32], numbers: SpeechNumbers) -> NDArray[np.float32]:
    """A waveform (n,) -> (frames, n_mels) in [-1, 1], relative to its loudest band."""
    least = numbers.rate_hz // 10
    if len(samples) < least:
        samples = np.pad(samples, (0, least - len(samples)))
    padded = np.pad(samples, numbers.n_fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, numbers.n_fft)[:: numbers.hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(numbers.n_fft) / numbers.n_fft)
    spectrum = np.fft.rfft(frames * window)
    power = (spectrum.real**2 + spectrum.imag**2) @ _bank(numbers)
    decibels = 10 * np.log10(np.maximum(power, 1e-12))
    floor = numbers.floor_db
    return (((decibels - decibels.max()).clip(floor) - floor) / (-floor / 2) - 1).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _bank(numbers: SpeechNumbers) -> NDArray[np.float64]:
    """Triangular filters (n_fft // 2 + 1, n_mels) on the HTK mel scale."""
    frequencies = np.linspace(0, numbers.rate_hz // 2, numbers.n_fft // 2 + 1)
    mels = np.linspace(_to_mel(numbers.min_hz), _to_mel(numbers.max_hz), numbers.n_mels + 2)
    points = 700 * (10 ** (mels / 2595) - 1)
    steps = np.diff(points)
    slopes = points[None] - frequencies[:, None]
    return np.maximum(0, np.minimum(-slopes[:, :-2] / steps[:-1], slopes[:, 2:] / steps[1:]))


def _to_mel(hz: float) -> float:
    return float(2595 * np.log10(1 + hz / 700))


def _trimmed(mel: NDArray[np.float32], numbers: SpeechNumbers) -> NDArray[np.float32]:
    """Without frames below silence_db at both ends, but for a margin."""
    audible = np.flatnonzero(mel.max(axis=1) > numbers.silence_db / (-numbers.floor_db / 2) + 1)
    return mel[max(0, audible[0] - numbers.margin) : audible[-1] + numbers.margin + 1]
