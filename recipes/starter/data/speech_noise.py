"""Damages batches of log-mels as a recording does: babble, sounds behind the speech, reverberation, a narrow band.

Powers add in each band; phases are ignored. The kinds are those of `multimodal.auditing.generators.audio`, at random
severities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multimodal.encoders.starter.parameters import MAX_HZ, MIN_HZ, N_MELS

FLOOR_DB = -80.0
KINDS = ("none", "babble", "sound", "reverberation", "narrow band")
SHARES = (0.45, 0.3, 0.05, 0.05, 0.15)
BABBLE_DB, SOUND_DB = (-5.0, 20.0), (0.0, 20.0)  # signal-to-noise ratio over the clip
VOICES = 4
REVERBERATION_S = (0.2, 1.5)
HIGHEST_HZ = (1100.0, 5500.0)
FRAME_S = 0.01
LEGIBLE_DB = 3.0  # below this ratio the words cannot be transcribed


def powers(mels: Tensor) -> Tensor:
    """Log-mels in [-1, 1] as powers relative to the loudest band; 0 at the floor."""
    return (10 ** ((mels - 1) * 4)) - 10 ** (FLOOR_DB / 10)


def log_mels(power: Tensor) -> Tensor:
    """Powers (n, frames, bands) as log-mels in [-1, 1], relative to the loudest band of each clip."""
    decibels = 10 * power.clamp(min=1e-12).log10()
    return (decibels - decibels.amax((1, 2), keepdim=True)).clamp(min=FLOOR_DB) / 40 + 1


def band_hz() -> Tensor:
    """The centre of each mel band, on the HTK scale."""
    low, high = (2595 * torch.log10(1 + torch.tensor(hz) / 700) for hz in (MIN_HZ, MAX_HZ))
    return 700 * (10 ** (torch.linspace(float(low), float(high), N_MELS + 2)[1:-1] / 2595) - 1)


class Damage:
    """Damages batches of clips with a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.hertz = band_hz()

    def uniform(self, count: int, low: float, high: float) -> Tensor:
        """(count,)."""
        return low + (high - low) * torch.rand(count, generator=self.generator)

    def __call__(self, mels: Tensor, lengths: Tensor, sounds: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Damages a share of the clips.

        Args:
            mels: (n, frames, N_MELS) in [-1, 1], 0 past the end of a clip.
            lengths: (n,) frames.
            sounds: Log-mels (frames, N_MELS) of sounds that may be behind the speech.

        Returns:
            Log-mels, whether each clip is undamaged (n,), and whether its words can still be understood (n,).
        """
        count, frames = mels.shape[:2]
        kinds = torch.multinomial(torch.tensor(SHARES), count, replacement=True, generator=self.generator)
        real = torch.arange(frames)[None] < lengths[:, None]
        power = powers(mels) * real[..., None]
        ratio = torch.full((count,), 99.0)
        for row in range(count):
            kind, size = KINDS[kinds[row]], int(lengths[row])
            clip = power[row, :size]
            if kind in ("babble", "sound"):
                behind = self.babble(power, lengths, row) if kind == "babble" else self.behind(sounds, size)
                ratio[row] = self.uniform(1, *(BABBLE_DB if kind == "babble" else SOUND_DB))
                level = clip.mean() / behind.mean().clamp(min=1e-9) / 10 ** (ratio[row] / 10)
                clip = clip + behind * level
            elif kind == "reverberation":
                clip = self.room(clip)
            elif kind == "narrow band":
                highest = float(HIGHEST_HZ[0] * (HIGHEST_HZ[1] / HIGHEST_HZ[0]) ** self.uniform(1, 0, 1))
                clip = clip * ((self.hertz > 300) & (self.hertz < highest))
            if kind != "none":
                mels = mels.clone() if row == 0 else mels
                mels[row, :size] = log_mels(clip[None])[0]
        return mels, kinds == 0, ratio > LEGIBLE_DB

    def babble(self, power: Tensor, lengths: Tensor, row: int) -> Tensor:
        """Up to VOICES other clips of the batch at once, as long as the clip of a row."""
        size = int(lengths[row])
        voices = int(torch.randint(1, VOICES + 1, (1,), generator=self.generator))
        voices = VOICES if self.uniform(1, 0, 1) < 0.5 else voices
        total = torch.zeros(size, N_MELS)
        for other in torch.randint(len(power), (voices,), generator=self.generator).tolist():
            other = (row + 1) % len(power) if other == row else other
            total += self.fitted(power[other, : lengths[other]], size)
        return total

    def behind(self, sounds: list[Tensor], size: int) -> Tensor:
        """One of the sounds, as long as a clip."""
        place = int(torch.randint(len(sounds), (1,), generator=self.generator))
        return self.fitted(powers(sounds[place]), size)

    def fitted(self, power: Tensor, size: int) -> Tensor:
        """Repeated or cut to a length, from a random place on."""
        repeats = -(-size // len(power))
        shift = int(torch.randint(len(power), (1,), generator=self.generator))
        return power.repeat(repeats, 1)[:size].roll(shift, 0)

    def room(self, clip: Tensor) -> Tensor:
        """The power of a tail that falls by 60 dB, added to the direct sound."""
        seconds = float(self.uniform(1, *REVERBERATION_S))
        fall = torch.exp(-13.8 * FRAME_S / seconds * torch.arange(len(clip)))
        fall = fall / fall.sum() * (0.24 + 0.96 * seconds / REVERBERATION_S[1]) ** 2
        size = 2 * len(clip)
        wet = torch.fft.irfft(
            torch.fft.rfft(clip, size, dim=0) * torch.fft.rfft(fall, size)[:, None], size, dim=0
        )
        return clip + wet[: len(clip)].clamp(min=0)
