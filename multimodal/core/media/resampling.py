"""Resamples audio to another rate, by torchaudio's windowed sinc."""

from __future__ import annotations

import functools
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING

from multimodal.core.errors import InvalidInput
from multimodal.core.limits import get_limits
from multimodal.core.modality import Waveform

if TYPE_CHECKING:
    import torch

MAX_KERNEL = 4_000_000  # the largest product of a resampling ratio kept exact; see _ratio


def resample(waveform: Waveform, rate_hz: int) -> Waveform:
    """Resamples to `rate_hz` (windowed sinc, torchaudio). Raises InvalidInput for a rate below 1."""
    if rate_hz < 1 or rate_hz != int(rate_hz):
        raise InvalidInput(f"rate_hz must be a whole number above 0, got {rate_hz!r}")
    if rate_hz == waveform.rate_hz:
        return waveform
    import torch

    get_limits().check_bytes(len(waveform.samples) * rate_hz // waveform.rate_hz * 4, "<resampled audio>")
    ratio = _ratio(waveform.rate_hz, rate_hz)
    with torch.inference_mode():
        resampled = _resampler(ratio.denominator, ratio.numerator)(torch.from_numpy(waveform.samples))
    return Waveform(resampled.numpy(), rate_hz)


def _ratio(old_hz: int, new_hz: int) -> Fraction:
    """new / old in lowest terms, exact for every usual pair of rates.

    The kernel has about as many taps as the product of both terms: 44,101 -> 16,000 Hz would need gigabytes. Such a
    ratio is rounded to the nearest with smaller terms; tempo and pitch then change by less than 3 parts in 10,000 (half
    a hundredth of a semitone). Raises InvalidInput if the rates are too far apart for that.
    """
    exact = Fraction(new_hz, old_hz)
    if prod(exact.as_integer_ratio()) <= MAX_KERNEL:
        return exact
    rounded = exact.limit_denominator(max(1, int((MAX_KERNEL / exact) ** 0.5)))
    if rounded == 0 or rounded > MAX_KERNEL:
        raise InvalidInput(f"cannot resample from {old_hz:,} to {new_hz:,} Hz: the rates are too far apart")
    return rounded


@functools.lru_cache(maxsize=32)
def _resampler(old: int, new: int) -> torch.nn.Module:
    import torchaudio.transforms

    resampler: torch.nn.Module = torchaudio.transforms.Resample(old, new)
    return resampler
