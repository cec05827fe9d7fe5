"""Audio as a stream: read and resampled in blocks, so that memory does not grow with the length.

The samples equal those of `Audio.load(rate_hz=…)` to rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.core.errors import InvalidInput, UnsupportedModality
from multimodal.core.items import Audio, Image, Text, Video
from multimodal.core.media.audio import resample
from multimodal.core.media.inputs import describe_type, is_array, is_audio_mapping, samples_and_rate
from multimodal.core.modality import Waveform

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_S = 20  # resampled at once
CONTEXT_S = 1  # on both sides of a resampled block, then discarded: much longer than the filter
QUIET_S = 0.02  # the window over which loudness is measured
SILENT = 1e-6  # below one step of a 16-bit file


class AudioStream:
    """An audio that can be read any number of times; nothing is cached between reads."""

    def __init__(self, audio: Audio) -> None:
        self.audio = audio

    def blocks(self, rate_hz: int) -> Iterator[NDArray[np.float32]]:
        """Mono samples (n,) at a sampling rate, in blocks of a few seconds. Raises what `Audio.load` raises."""
        return resampled(self.audio.stream(), rate_hz)

    def __repr__(self) -> str:
        return repr(self.audio)


def as_audio_stream(value: Any) -> AudioStream:
    """The audio of a path (str or Path), the bytes of a file, {"array", "sampling_rate"}, an Audio or a Video.

    Raises InvalidInput or UnsupportedModality for other types, MediaError for a video without an audio track.
    """
    if isinstance(value, Video):
        if (track := value.audio()) is None:
            raise UnsupportedModality(f"{value!r} has no audio track, so there is nothing to transcribe")
        return AudioStream(track)
    if isinstance(value, Text | Image):
        raise UnsupportedModality(
            f"transcription takes audio, got {value.modality} ({value!r:.80}); give a path, or Audio(…)"
        )
    if isinstance(value, Audio):
        return AudioStream(value)
    if isinstance(value, str | os.PathLike | bytes | bytearray) or is_audio_mapping(value):
        return AudioStream(Audio(value))
    if (mapping := samples_and_rate(value)) is not None:
        return AudioStream(Audio(mapping))
    hint = "; give its sampling rate: {'array': samples, 'sampling_rate': Hz}" if is_array(value) else ""
    raise InvalidInput(
        "transcription takes a path, the bytes of a file, {'array': samples, 'sampling_rate': Hz}, (samples, Hz), "
        f"Audio or Video, got {describe_type(value)}{hint}"
    )


def resampled(blocks: Iterable[Waveform], rate_hz: int) -> Iterator[NDArray[np.float32]]:
    """Consecutive waveforms -> their samples at another sampling rate, as if resampled at once.

    Each resampled block begins and ends on whole seconds, where both rates have a sample, and has CONTEXT_S of
    context for the filter on both sides.
    """
    pending: list[NDArray[np.float32]] = []
    n_pending, lead, old_hz = 0, 0, rate_hz  # lead: seconds of context at the front
    for block in blocks:
        old_hz = block.rate_hz
        if old_hz == rate_hz:
            yield block.samples
            continue
        pending.append(block.samples)
        n_pending += len(block.samples)
        if n_pending < (lead + BLOCK_S + CONTEXT_S) * old_hz:
            continue
        samples = np.concatenate(pending)
        seconds = len(samples) // old_hz - CONTEXT_S  # the end of what is complete
        changed = resample(Waveform(samples[: (seconds + CONTEXT_S) * old_hz], old_hz), rate_hz).samples
        yield changed[lead * rate_hz : seconds * rate_hz]
        pending = [samples[(seconds - CONTEXT_S) * old_hz :].copy()]
        n_pending, lead = len(pending[0]), CONTEXT_S
    if pending:
        rest = resample(Waveform(np.concatenate(pending), old_hz), rate_hz).samples[lead * rate_hz :]
        if len(rest):
            yield rest


def overlapping_windows(
    blocks: Iterable[NDArray[np.float32]], length: int, step: int
) -> Iterator[tuple[int, NDArray[np.float32], bool]]:
    """(start, samples, whether it is the last) of windows of `length` samples that begin every `step` samples.

    As in transformers, the first window that reaches the end is the last.
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
    """(start, samples) of windows of at most longest_s seconds, each cut at the quietest place of its second half."""
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
