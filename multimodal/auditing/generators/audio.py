"""Five kinds of damage to speech and other audio, in five severities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[Any]
    Others = Sequence[NDArray[Any]]
    Generator = np.random.Generator

SIGNAL_TO_NOISE_DB = (20.0, 10.0, 5.0, 0.0, -5.0)
REVERBERATION_S = (0.3, 0.6, 0.9, 1.2, 1.5)
HIGHEST_HZ = (5000.0, 3400.0, 2400.0, 1700.0, 1200.0)
TEMPO = (0.95, 0.9, 0.85, 0.78, 0.7)
SPEAKERS = 4  # of babble
RATE_HZ = 16_000


def damage_audio(samples: Samples, kind: str, severity: int, others: Others, seed: int = 0) -> Samples:
    """Damages a clip.

    Args:
        samples: Mono (n,) at RATE_HZ.
        kind: One of AUDIO_KINDS.
        severity: 1 to 5.
        others: Other clips, of which babble is mixed.
        seed: Of noise; equal for all severities of a clip, so that these are comparable.

    Returns:
        Samples; of another length for "slow".
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    damaged = AUDIO_KINDS[kind](samples.astype(np.float64), severity - 1, others, rng)
    peak = np.abs(damaged).max()
    return (damaged / max(1.0, peak)).astype(np.float32)


def _mixed(samples: Samples, noise: Samples, level: int) -> Samples:
    """Noise added at a signal-to-noise ratio over the whole clip."""
    power = (samples**2).mean() / max(float((noise**2).mean()), 1e-12)
    mixture: Samples = samples + noise * (power / 10 ** (SIGNAL_TO_NOISE_DB[level] / 10)) ** 0.5
    return mixture


def _white_noise(samples: Samples, level: int, others: Others, rng: Generator) -> Samples:
    return _mixed(samples, rng.standard_normal(len(samples)), level)


def _babble(samples: Samples, level: int, others: Others, rng: Generator) -> Samples:
    """Several other clips at once."""
    import numpy as np

    noise = np.zeros(len(samples))
    for place in rng.permutation(len(others))[:SPEAKERS]:
        voice = np.resize(np.asarray(others[place], dtype=np.float64), len(samples))
        noise += np.roll(voice, int(rng.integers(len(samples)))) / max(float(np.abs(voice).max()), 1e-9)
    return _mixed(samples, noise, level)


def _reverberation(samples: Samples, level: int, others: Others, rng: Generator) -> Samples:
    """A room: noise that decays by 60 dB, after the direct sound."""
    import numpy as np

    longest = int(REVERBERATION_S[-1] * RATE_HZ)
    tail = rng.standard_normal(longest)
    decay = np.exp(-6.9 * np.arange(longest) / (REVERBERATION_S[level] * RATE_HZ))
    response = tail * decay
    response *= 0.6 * (level + 1) / 5 / np.sqrt((response**2).sum()) * 2
    response[0] += 1.0
    size = len(samples) + longest
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    return wet[: len(samples)]


def _narrow_band(samples: Samples, level: int, others: Others, rng: Generator) -> Samples:
    """As by telephone: from 300 Hz to a highest frequency."""
    import numpy as np

    spectrum = np.fft.rfft(samples)
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    spectrum[(frequencies < 300) | (frequencies > HIGHEST_HZ[level])] = 0
    return np.fft.irfft(spectrum, len(samples))


def _slow(samples: Samples, level: int, others: Others, rng: Generator) -> Samples:
    """Played more slowly, and so lower."""
    import numpy as np

    count = int(len(samples) / TEMPO[level])
    return np.interp(np.linspace(0, len(samples) - 1, count), np.arange(len(samples)), samples)


AUDIO_KINDS: dict[str, Callable[..., Samples]] = {
    "white noise": _white_noise,
    "babble": _babble,
    "reverberation": _reverberation,
    "narrow band": _narrow_band,
    "slow": _slow,
}
