"""Whether audio can hold speech at all. Models write words for silence, faint noise and clips of a few samples.

Two properties of speech are tested. It lasts longer than a click. And its level changes from sound to sound, while the
level of noise, of hum and of a recorder's own hiss stays the same. The second is tested only for audio so quiet that
speech is improbable: a sung vowel is steady too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SPEECH_S = 0.04  # shorter than any syllable
FRAME_S = 0.02
SILENCE_DB = -120.0  # relative to full scale: below one step of a 16-bit file
FAINT_DB = -50.0  # root mean square of the loudest frame, relative to full scale
MODULATION_DB = 8.0  # between the loudest frame and the quiet ones: 13 and more in words, 1 to 2 in noise
QUIET_SHARE = 0.1  # of the frames that are not silent


class SpeechPresence:
    """Collects the levels of consecutive blocks. Memory does not grow with their length.

    Args:
        rate_hz: Samples per second.
    """

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz, self.n_samples = rate_hz, 0
        self._frame = max(1, round(FRAME_S * rate_hz))
        self._rest: NDArray[np.float32] = np.zeros(0, np.float32)
        self._loudest_db = SILENCE_DB
        self._levels = np.zeros(int(-SILENCE_DB) + 40, np.int64)  # frames by level, in steps of 1 dB

    def add(self, samples: NDArray[np.float32]) -> None:
        """Adds the next samples (n,)."""
        self.n_samples += len(samples)
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // self._frame * self._frame
        self._rest = joined[whole:]
        if whole:
            self._count(joined[:whole].reshape(-1, self._frame))

    @property
    def is_possible(self) -> bool:
        """Whether the samples so far can hold speech."""
        if self.n_samples < MIN_SPEECH_S * self.rate_hz or self._loudest_db <= SILENCE_DB:
            return False
        if self._loudest_db >= FAINT_DB:
            return True
        levels = self._levels.nonzero()[0]
        if not len(levels):
            return False
        quiet = np.searchsorted(self._levels.cumsum(), QUIET_SHARE * self._levels.sum())
        return bool(levels[-1] - quiet >= MODULATION_DB)

    def _count(self, frames: NDArray[np.float32]) -> None:
        """Frames (n, samples)."""
        loudness = _decibels(frames)
        self._loudest_db = max(self._loudest_db, float(loudness.max()))
        # Frames in which digital silence begins or ends say nothing of the level of the sound
        halves = np.array_split(frames, 2, axis=1) if self._frame > 1 else [frames]
        is_full = np.all([_decibels(half) > SILENCE_DB for half in halves], axis=0)
        # The difference of neighbours has no rumble, whose level changes from frame to frame
        levels = _decibels(np.diff(frames, axis=1))[is_full]
        steps = np.clip(levels - SILENCE_DB, 0, len(self._levels) - 1).astype(np.int64)
        self._levels += np.bincount(steps, minlength=len(self._levels))


def can_hold_speech(samples: NDArray[np.float32], rate_hz: int) -> bool:
    """Whether samples (n,) can hold speech; see the docstring of the module."""
    presence = SpeechPresence(rate_hz)
    presence.add(samples)
    return presence.is_possible


def _decibels(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n,) levels relative to full scale, at least SILENCE_DB."""
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    return np.asarray(10 * np.log10(np.maximum(power, 10 ** (SILENCE_DB / 10))))
