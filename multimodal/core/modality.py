"""Modality, and the decoded forms of audio and video. Imports nothing but the standard library."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Modality(StrEnum):
    """The kind of content an item holds. Compares equal to its name: `Modality.TEXT == "text"`."""

    TEXT = "text"
    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"

    @classmethod
    def _missing_(cls, value: object) -> Modality:
        from multimodal.core.errors import InvalidInput

        raise InvalidInput(f"a modality is one of {', '.join(cls)}, got {value!r}")


@dataclass(frozen=True, eq=False)
class Waveform:
    """Decoded audio.

    Attributes:
        samples: float32 (n,), mono, nominally in -1 to 1.
        rate_hz: Samples per second.
    """

    samples: NDArray[np.float32]
    rate_hz: int

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return len(self.samples) / self.rate_hz


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded video frames.

    Attributes:
        frames: uint8 (t, h, w, 3), RGB.
        times_s: float32 (t,), presentation time of each frame in seconds from the start of the clip.
        seconds: Duration of the whole clip, which may be longer than the decoded frames cover.
    """

    frames: NDArray[np.uint8]
    times_s: NDArray[np.float32]
    seconds: float

    def __len__(self) -> int:
        return len(self.frames)
