"""Augments batches of clips with other speakers and microphones; stronger and cheaper than `train_speech.vary`.

The time and mel axes of a clip are stretched overall and unevenly (a vocal tract is not a scaled copy of another), its
spectrum is tilted, bent, blurred or sharpened (synthesisers differ in spectral smoothness), and noise and masks (Park
et al. 2019) are added.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.encoders.starter.parameters import N_MELS

TEMPO, TRACT = (0.78, 1.28), (0.85, 1.17)
UNEVEN_TIME, UNEVEN_TRACT = 0.22, 0.07  # of each of the first waves
STRETCHED, BENT, BLURRED, NOISY, TELEPHONE, MASKED = 0.85, 0.75, 0.5, 0.5, 0.1, 0.4  # shares of the clips
MARGIN = 20  # frames of silence, at most, before and behind
FLOOR = -80.0  # dB


class SpeechAugmenter:
    """Augments batches of clips with a seeded generator."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """(count, 1)."""
        return low + (high - low) * torch.rand(count, 1, generator=self.generator)

    def some(self, count: int, share: float) -> Tensor:
        """(count, 1) of 1 for about this share, 0 for the rest."""
        return (self.uniform(count) < share).float()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def __call__(self, clips: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """clips (n, frames, N_MELS) in [-1, 1], lengths (n,) -> augmented clips and their lengths; 0 past an end."""
        moved, lengths = self.stretch(clips, lengths)
        real = torch.arange(moved.shape[1])[None] < lengths[:, None]
        decibels = self.colour((moved + 1) * 40 + FLOOR)
        loudest = decibels.masked_fill(~real[..., None], FLOOR).amax((1, 2), keepdim=True)
        mel = (decibels - loudest).clamp(min=FLOOR) / 40 + 1
        return self.mask(mel, lengths) * real[..., None], lengths

    def waves(self, places: Tensor, most: float, count: int) -> Tensor:
        """A smooth uneven part of a map of [0, 1] onto itself; (n, t) of places (n, t) or (1, t)."""
        result = torch.zeros(())
        for wave in range(1, count + 1):
            size = self.uniform(self.count, -most, most) * self.stretched
            result = result + size * torch.sin(torch.pi * wave * places) / (torch.pi * wave)
        return result

    def stretch(self, clips: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Time and mel axis by one bilinear look-up; silence before and behind."""
        self.count = len(clips)
        self.stretched = self.some(self.count, STRETCHED)
        tempo = 1 + self.stretched * (self.uniform(self.count, *TEMPO) - 1)
        tract = 1 + self.stretched * (self.uniform(self.count, *TRACT) - 1)
        sounding = (lengths[:, None] * tempo).round().clamp(min=12)
        silent = self.some(self.count, 0.5)
        before, behind = (silent * self.uniform(self.count, 0, MARGIN).round() for _ in range(2))
        fresh = (before + sounding + behind)[:, 0].long()
        time = (torch.arange(int(fresh.max()))[None] - before) / (sounding - 1)
        inside = ((time >= 0) & (time <= 1)).float()
        time = time.clamp(0, 1)
        time = (time + self.waves(time, UNEVEN_TIME, 4)).clamp(0, 1) * (lengths[:, None] - 1)
        band = torch.linspace(0, 1, N_MELS)[None]
        band = (band / tract + self.waves(band, UNEVEN_TRACT, 3)).clamp(0, 1)
        grid = torch.stack(
            torch.broadcast_tensors(
                2 * band[:, None] - 1, 2 * time[..., None] / max(1, clips.shape[1] - 1) - 1
            ),
            dim=-1,
        )
        moved = F.grid_sample(
            clips[:, None], grid, mode="bilinear", padding_mode="border", align_corners=True
        )[:, 0]
        return moved * inside[..., None] - (1 - inside[..., None]), fresh

    def colour(self, decibels: Tensor) -> Tensor:
        """Contrast, tilt, bends, smoothness, a telephone, noise."""
        count, axis = len(decibels), torch.linspace(-1, 1, N_MELS)[None]
        bent = self.some(count, BENT)
        contrast = 1 + bent * self.uniform(count, -0.2, 0.25)
        curve = 6 * self.normal(count, 1) * axis
        for size in (4, 2):
            phase = self.uniform(count, 0, 6)
            curve = curve + size * self.normal(count, 1) * torch.cos(axis * self.uniform(count, 1, 7) + phase)
        decibels = decibels * contrast[..., None] + (bent * curve)[:, None]
        for axes in ((1, 3), (3, 1)):  # along the bands, along time
            smooth = F.avg_pool2d(
                decibels[:, None],
                axes,
                stride=1,
                padding=tuple(axis // 2 for axis in axes),
                count_include_pad=False,
            )
            share = self.some(count, BLURRED) * self.uniform(count, -0.7, 1.0)
            decibels = decibels + share[..., None] * (smooth[:, 0] - decibels)
        cut = self.uniform(count, 44, 58) + 100 * (1 - self.some(count, TELEPHONE))
        decibels = decibels - 30.0 * (torch.arange(N_MELS)[None] > cut)[:, None]
        noisy = self.some(count, NOISY)
        level = self.uniform(count, -70, -26) + 8 * self.normal(count, 1) * axis - 200 * (1 - noisy)
        noise = level[:, None] + 4 * self.normal(*decibels.shape)
        return torch.logaddexp(decibels * 0.2302585, noise * 0.2302585) / 0.2302585  # powers add

    def mask(self, mel: Tensor, lengths: Tensor) -> Tensor:
        """Replaces up to two bands and two time spans by the mean."""
        count, frames, bands = mel.shape
        middle = mel.mean((1, 2), keepdim=True)
        for size, places, most in (
            (lengths[:, None], torch.arange(frames)[None], 10),
            (torch.full((count, 1), bands), torch.arange(bands)[None], 9),
        ) * 2:
            width = self.uniform(count, 0, most) * self.some(count, MASKED)
            first = self.uniform(count) * (size - width).clamp(min=1)
            hidden = (places >= first) & (places < first + width)
            hidden = hidden[..., None] if places.shape[1] == frames and most == 10 else hidden[:, None]
            mel = torch.where(hidden, middle, mel)
        return mel
