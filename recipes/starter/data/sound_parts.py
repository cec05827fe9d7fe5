"""What synthetic sounds are made of: tones, noises, envelopes and events, float32 (n,) at RATE_HZ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from multimodal.encoders.starter.parameters import RATE_HZ

HELD_OUT = (0.45, 0.65)  # the part of every range of parameters that training never draws
Samples = np.ndarray
Pitch = float | np.ndarray


@dataclass(frozen=True)
class Dial:
    """Draws the parameters of a sound; `judging` draws them from the parts that training leaves out."""

    rng: np.random.Generator
    judging: bool = False

    def __call__(self, low: float, high: float) -> float:
        """A number in [low, high], uniform in its logarithm where both are positive."""
        first, last = HELD_OUT
        if self.judging:
            place = self.rng.uniform(first, last)
        else:
            place = self.rng.uniform(0, 1 - (last - first))
            place += (last - first) * (place >= first)
        if low > 0:
            return float(low * (high / low) ** place)
        return float(low + (high - low) * place)

    def jitter(self, value: float, share: float) -> float:
        """A number near another: what differs between the events of one sound, not between sounds."""
        return float(value * (1 + share * self.rng.uniform(-1, 1)))


def times(seconds: float) -> Samples:
    """The time of each sample."""
    return np.arange(round(seconds * RATE_HZ), dtype=np.float32) / RATE_HZ


def phase(pitch: Pitch, seconds: float) -> Samples:
    """Cycles since the start, of a pitch in Hz that may change from sample to sample."""
    return np.cumsum(np.broadcast_to(pitch, times(seconds).shape) / RATE_HZ)


def sine(pitch: Pitch, seconds: float) -> Samples:
    """A pure tone."""
    return np.sin(2 * np.pi * phase(pitch, seconds))


def rich(pitch: Pitch, seconds: float, harmonics: int, fall: float = 1.0) -> Samples:
    """A tone with harmonics whose amplitude falls as 1 / number**fall; those above half the rate are left out."""
    cycles = phase(pitch, seconds)
    most = min(harmonics, max(1, int(0.45 * RATE_HZ / np.max(pitch))))
    return np.asarray(sum(np.sin(2 * np.pi * k * cycles) / k**fall for k in range(1, most + 1)))


def slide(start: float, stop: float, seconds: float) -> Samples:
    """A pitch that moves evenly in octaves."""
    return start * (stop / start) ** np.linspace(0, 1, len(times(seconds)))


def wobble(rate_hz: float, seconds: float) -> Samples:
    """A slow sine between 0 and 1 that starts at 0."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * rate_hz * times(seconds))


def noise(dial: Dial, seconds: float, low_hz: float, high_hz: float, tilt: float = 0.0) -> Samples:
    """Noise of unit deviation between two frequencies; its amplitude falls as 1 / f**tilt."""
    count = len(times(seconds))
    spectrum = np.fft.rfft(dial.rng.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    kept = 1 / (1 + (np.maximum(hertz, 1) / high_hz) ** 8) / (1 + (low_hz / np.maximum(hertz, 1)) ** 8)
    shaped = np.fft.irfft(spectrum * kept * np.maximum(hertz, 20) ** -tilt, count)
    return shaped / (shaped.std() + 1e-9)


def drift(dial: Dial, seconds: float, rate_hz: float) -> Samples:
    """A slowly changing level in [0, 1], with about `rate_hz` changes a second."""
    knots = dial.rng.random(max(3, int(seconds * rate_hz) + 2))
    return np.interp(np.linspace(0, len(knots) - 1, len(times(seconds))), np.arange(len(knots)), knots)


def fading(seconds: float, decay: float, attack: float = 0.003) -> Samples:
    """An envelope that rises in `attack` seconds and falls to 1/e every `decay` seconds."""
    clock = times(seconds)
    return np.minimum(1, clock / attack) * np.exp(-clock / decay)


def held(seconds: float, edge: float = 0.01) -> Samples:
    """An envelope that stays at 1 between short edges."""
    clock = times(seconds)
    return np.clip(np.minimum(clock, clock[-1:] - clock) / edge, 0, 1)


def struck(pitch: float, ratios: Sequence[float], seconds: float, decay: float) -> Samples:
    """A struck body: partials at ratios of a pitch, the higher ones fading sooner."""
    parts = [
        sine(pitch * ratio, seconds) * fading(seconds, decay / ratio**0.7) / (1 + 0.3 * place)
        for place, ratio in enumerate(ratios)
        if pitch * ratio < 0.45 * RATE_HZ
    ]
    return np.asarray(sum(parts))


def placed(seconds: float, starts: Sequence[float], event: Callable[[int], Samples]) -> Samples:
    """Events, each made by its number, at their starts in seconds; what reaches beyond the end is cut."""
    result = np.zeros(len(times(seconds)))
    for number, start in enumerate(starts):
        first = round(start * RATE_HZ)
        if first < len(result):
            sound = event(number)[: len(result) - first]
            result[first : first + len(sound)] += sound
    return result


def steady(dial: Dial, seconds: float, apart: float, loose: float = 0.03) -> list[float]:
    """Starts at about equal distances."""
    starts = np.arange(0, seconds, apart)
    return [max(0.0, float(start + loose * apart * dial.rng.standard_normal())) for start in starts]


def scattered(dial: Dial, seconds: float, rate_hz: float) -> list[float]:
    """Starts at random, `rate_hz` of them a second on average."""
    count = max(1, int(dial.rng.poisson(rate_hz * seconds)))
    return sorted(dial.rng.uniform(0, seconds, count).tolist())


def finished(samples: Samples) -> Samples:
    """float32 with a peak of 0.9."""
    samples = samples - samples.mean()
    return np.asarray(0.9 * samples / (np.abs(samples).max() + 1e-9), np.float32)
