"""Sound as LanguageBind's audio tower sees it: log-mels in windows of a fixed number of frames.

The filter bank, the mean taken off, the tiling of short clips and the scaling are upstream's (its
`processing_audio.py`, MIT). What differs is long clips: upstream puts three windows, begun at random within the
first, middle and last third, on the three colour channels, so its vector for one file differs from call to call.
Here a long clip is cut into equal windows that cover all of it; see `core.windows`.
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
class Sound:
    """rate_hz: of the waveform. mels: filters. frames: in one window. Log-mels become (x - mean) / (2 * std)."""

    rate_hz: int
    mels: int
    frames: int
    mean: float
    std: float

    @property
    def frame_samples(self) -> int:
        return self.rate_hz * FRAME_MS // 1000  # 400

    @property
    def shift_samples(self) -> int:
        return self.rate_hz * SHIFT_MS // 1000  # 160

    @property
    def seconds(self) -> float:
        """The longest clip that is one window."""
        return ((self.frames - 1) * self.shift_samples + self.frame_samples) / self.rate_hz  # 10.375

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sound:
        return cls(**values)


def log_mel(samples: Tensor, sound: Sound) -> Tensor:
    """Waveform (n,) float32 whose mean is zero -> (frames, mels), natural logarithms. At least one frame long."""
    from torchaudio.compliance import kaldi

    return kaldi.fbank(
        samples[None],
        sample_frequency=sound.rate_hz,
        num_mel_bins=sound.mels,
        frame_length=FRAME_MS,
        frame_shift=SHIFT_MS,
        window_type="hanning",
        htk_compat=True,
        use_energy=False,
        dither=0.0,
    )


def picture(mel: Tensor, sound: Sound) -> Tensor:
    """Log-mels (frames, mels), tiled or cut to one window and scaled -> (mels, sound.frames)."""
    times = -(-sound.frames // len(mel))
    tiled = mel.repeat(times, 1)[: sound.frames]
    return ((tiled - sound.mean) / (2 * sound.std)).T.contiguous()


def pictures(samples: NDArray[np.float32], sound: Sound) -> list[Tensor]:
    """Waveform (n,) at `sound.rate_hz` -> a picture (mels, frames) for each window of it.

    A clip shorter than a window is repeated until it fills one, one shorter than a frame (25 ms) is first filled up
    with silence. Each window is transformed on its own, which gives the same numbers and needs the memory of one.
    """
    import torch

    wave = torch.from_numpy(samples)
    wave = wave - wave.mean()
    if len(wave) < sound.frame_samples:
        wave = torch.nn.functional.pad(wave, (0, sound.frame_samples - len(wave)))
    n_frames = 1 + (len(wave) - sound.frame_samples) // sound.shift_samples
    cut = []
    for start, stop in windows(n_frames, sound.frames):
        last = (stop - 1) * sound.shift_samples + sound.frame_samples
        cut.append(picture(log_mel(wave[start * sound.shift_samples : last], sound), sound))
    return cut
