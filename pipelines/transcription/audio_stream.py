"""A sound in pieces: read in blocks and resampled block by block, so that hours of it need no more memory than minutes.

The samples are those of `Audio.load(rate_hz=…)` (to rounding); only they never lie in memory together, unless they were
given as an array.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.items import Audio, Image, Text, Video
from multimodal.core.media.audio import resample
from multimodal.core.media.inputs import describe_type, is_array, is_audio_mapping
from multimodal.core.modality import Waveform

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_S = 20  # resampled at a time
CONTEXT_S = 1  # on both sides of what is resampled, and thrown away: far more than the filter is long
QUIET_S = 0.02  # what is loud or quiet is judged over this
SILENT = 1e-6  # below this no sample of a 16-bit file can be but 0


class AudioStream:
    """Something to transcribe. It can be read any number of times; nothing of it is kept between."""

    def __init__(self, audio: Audio) -> None:
        self.audio = audio

    def blocks(self, rate_hz: int) -> Iterator[NDArray[np.float32]]:
        """Mono samples at this rate, in blocks of some seconds. Raises what `Audio.load` raises, on the way."""
        return resampled(self.audio.stream(), rate_hz)

    def __repr__(self) -> str:
        return repr(self.audio)


def as_audio_stream(value: Any) -> AudioStream:
    """A path (str or Path), the bytes of a file, {"array", "sampling_rate"}, an Audio, or a Video with a sound track.

    Raises InvalidInput, UnsupportedModality for what is no sound by its type, MediaError for a video without sound.
    """
    if isinstance(value, Video):
        if (track := value.audio()) is None:
            raise UnsupportedModality(f"{value!r} has no sound track, so there is nothing to transcribe")
        return AudioStream(track)
    if isinstance(value, Text | Image):
        raise UnsupportedModality(
            f"transcription takes sound, got {value.modality} ({value!r:.80}); give a path, or Audio(…)"
        )
    if isinstance(value, Audio):
        return AudioStream(value)
    if isinstance(value, str | os.PathLike | bytes | bytearray) or is_audio_mapping(value):
        return AudioStream(Audio(value))
    about = "; say its rate: {'array': samples, 'sampling_rate': Hz}" if is_array(value) else ""
    raise InvalidInput(
        "transcription takes a path, the bytes of a file, {'array': samples, 'sampling_rate': Hz}, Audio or Video, "
        f"got {describe_type(value)}{about}"
    )


def resampled(blocks: Iterable[Waveform], rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Waveforms that follow on each other -> their samples at another rate, as if resampled in one.

    What is resampled at a time begins and ends on whole seconds, where both rates have a sample, and has CONTEXT_S
    around it that the filter sees.
    """
    kept: list[NDArray[np.float32]] = []
    n_kept, lead, old_hz = 0, 0, rate_hz  # lead: seconds of context at the front
    for block in blocks:
        old_hz = block.rate_hz
        if old_hz == rate_hz:
            yield block.samples
            continue
        kept.append(block.samples)
        n_kept += len(block.samples)
        if n_kept < (lead + BLOCK_S + CONTEXT_S) * old_hz:
            continue
        samples = np.concatenate(kept)
        seconds = len(samples) // old_hz - CONTEXT_S  # done up to here
        changed = resample(Waveform(samples[: (seconds + CONTEXT_S) * old_hz], old_hz), rate_hz).samples
        yield changed[lead * rate_hz : seconds * rate_hz]
        kept = [samples[(seconds - CONTEXT_S) * old_hz :].copy()]
        n_kept, lead = len(kept[0]), CONTEXT_S
    if kept:
        rest = resample(Waveform(np.concatenate(kept), old_hz), rate_hz).samples[lead * rate_hz :]
        if len(rest):
            yield rest


def overlapping_windows(
    blocks: Iterable[NDArray[np.float32]], length: int, step: int
) -> Iterator[tuple[int, NDArray[np.float32], bool]]:
    """(start, samples, whether it is the last) of windows `length` long that begin every `step` samples.

    As transformers has them: the first window that reaches the end is the last.
    """
    held, start = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > length:
            yield start, held[:length], False
            start, held = start + step, held[step:]
    yield start, held, True


def split_at_quiet(
    blocks: Iterable[NDArray[np.float32]], rate_hz: int, longest_s: float
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(start, samples) of windows of at most longest_s seconds, cut where it is quietest in the second half of each."""
    longest, frame = int(longest_s * rate_hz), max(1, int(QUIET_S * rate_hz))
    held, start = np.zeros(0, np.float32), 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > longest:
            half = longest // 2
            frames = held[half : half + (longest - half) // frame * frame].reshape(-1, frame)
            quiet = np.convolve(np.square(frames).mean(axis=1), np.full(5, 0.2), "same")
            cut = half + (int(quiet.argmin()) * frame + frame // 2 if len(quiet) else longest - half)
            yield start, held[:cut]
            start, held = start + cut, held[cut:]
    if len(held):
        yield start, held


def is_silent(samples: NDArray[np.float32]) -> bool:
    """Whether there is nothing at all in it: digital silence. A model given that makes words up."""
    return not len(samples) or float(np.abs(samples).max()) < SILENT
