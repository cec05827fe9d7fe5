"""Log-mel windows for LanguageBind's audio tower.

The filter bank, mean subtraction, tiling of short clips and scaling are upstream's (its `processing_audio.py`, MIT).
Long clips differ: upstream puts three randomly placed windows, from the first, middle and last third, on the three
colour channels, so its vectors differ between calls. Here a long clip is split into windows that cover all of it; see
`core.media.windows`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.media.windows import windows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

FRAME_MS, SHIFT_MS = 25, 10


@dataclass(frozen=True)
class MelSettings:
    """Settings of the log-mel windows.

    Attributes:
        rate_hz: Sampling rate of the waveform.
        mels: Number of mel filters.
        frames: Frames per window.
        mean: Log-mels are scaled as (x - mean) / (2 * std).
        std: See `mean`.
    """

    rate_hz: int
    mels: int
    frames: int
    mean: float
    std: float

    @property
    def frame_samples(self) -> int:
        """Samples per frame."""
        return self.rate_hz * FRAME_MS // 1000  # 400

    @property
    def shift_samples(self) -> int:
        """Samples between the starts of consecutive frames."""
        return self.rate_hz * SHIFT_MS // 1000  # 160

    @property
    def seconds(self) -> float:
        """Length of the longest clip that fits one window."""
        return ((self.frames - 1) * self.shift_samples + self.frame_samples) / self.rate_hz  # 10.375

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MelSettings:
        """Restores what `to_dict` returned."""
        return cls(**values)


def log_mel(samples: Tensor, settings: MelSettings) -> Tensor:
    """Zero-mean waveform (n,) float32 of at least one frame -> (frames, mels), natural logarithm."""
    from torchaudio.compliance import kaldi

    return kaldi.fbank(
        samples[None],
        sample_frequency=settings.rate_hz,
        num_mel_bins=settings.mels,
        frame_length=FRAME_MS,
        frame_shift=SHIFT_MS,
        window_type="hanning",
        htk_compat=True,
        use_energy=False,
        dither=0.0,
    )


def fit_window(mel: Tensor, settings: MelSettings) -> Tensor:
    """Tiles or truncates log-mels (frames, mels) to one window and scales them -> (mels, settings.frames)."""
    times = -(-settings.frames // len(mel))
    tiled = mel.repeat(times, 1)[: settings.frames]
    return ((tiled - settings.mean) / (2 * settings.std)).T.contiguous()


def mel_windows(samples: NDArray[np.float32], settings: MelSettings) -> list[Tensor]:
    """Splits a waveform (n,) at `settings.rate_hz` into windows of scaled log-mels (mels, frames).

    A clip shorter than a window is repeated until it fills one; one shorter than a frame (25 ms) is first padded with
    silence. Windows are transformed separately, which gives the same values with less memory.
    """
    import torch

    wave = torch.from_numpy(samples)
    wave = wave - wave.mean()
    if len(wave) < settings.frame_samples:
        wave = torch.nn.functional.pad(wave, (0, settings.frame_samples - len(wave)))
    n_frames = 1 + (len(wave) - settings.frame_samples) // settings.shift_samples
    mels = []
    for start, stop in windows(n_frames, settings.frames):
        last = (stop - 1) * settings.shift_samples + settings.frame_samples
        segment = wave[start * settings.shift_samples : last]
        mels.append(fit_window(log_mel(segment, settings), settings))
    return mels
