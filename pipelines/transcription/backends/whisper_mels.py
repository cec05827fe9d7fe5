"""Whisper's log-mels of audio of any length, window by window, identical to the feature extractor's for all of it.

Values are clamped to 80 dB below the maximum of the whole audio, so audio longer than a window is read twice: first for
the maximum, then for the values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from multimodal.pipelines.transcription.options import SampleSource
from multimodal.pipelines.transcription.speech_presence import SpeechPresence, can_hold_speech

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAST_POWER = 1e-10
RANGE = 8.0  # powers of ten
FRAMES_AT_ONCE = 6000


class LogMels:
    """The log-mels of an audio.

    n_frames: the number of frames; for audio shorter than a window, that of a padded window, as in transformers. real:
    the number of frames without padding. silent: whether the samples cannot hold speech.
    """

    def __init__(self, source: SampleSource, extractor: Any) -> None:
        self.extractor = extractor
        rate_hz, hop = int(extractor.sampling_rate), int(extractor.hop_length)
        self.frame_s = hop / rate_hz
        self.held = torch.zeros(0)
        self.held_from, self.loudest = 0, 0.0  # the first frame held; log10 of the loudest power
        head: list[NDArray[np.float32]] = []
        blocks, n_samples = source.blocks(rate_hz), 0
        for block in blocks:
            head.append(block)
            n_samples += len(block)
            if n_samples > extractor.n_samples:
                break
        if n_samples <= extractor.n_samples:
            self._read_whole(np.concatenate(head), rate_hz)
            return
        self.coming: Iterator[Tensor] = iter(())
        seen = _Counted(chain(head, blocks), rate_hz)
        self.loudest = max(float(part.max()) for part in powers(seen, extractor))
        self.n_samples, self.n_frames = seen.n, seen.n // hop
        self.real, self.silent = self.n_frames, not seen.presence.is_possible
        self.coming = powers(source.blocks(rate_hz), extractor)
        self.held = torch.zeros(len(extractor.mel_filters[0]), 0)

    def _read_whole(self, samples: NDArray[np.float32], rate_hz: int) -> None:
        features = self.extractor(
            samples, sampling_rate=rate_hz, return_tensors="pt", return_attention_mask=True
        )
        self.held, self.coming = features["input_features"][0], iter(())
        self.n_samples, self.n_frames = len(samples), self.held.shape[1]
        self.real = int(features["attention_mask"].sum())
        self.silent = not can_hold_speech(samples, rate_hz)

    @property
    def duration_s(self) -> float:
        return self.n_samples / int(self.extractor.sampling_rate)

    def window(self, start: int, length: int) -> Tensor:
        """(1, mels, frames) from frame `start`, at most `length` frames. `start` must not decrease between calls."""
        while True:
            done = min(start - self.held_from, self.held.shape[1])
            self.held, self.held_from = self.held[:, done:], self.held_from + done
            if self.held_from == start and self.held.shape[1] >= min(length, self.n_frames - start):
                return self.held[None, :, :length]
            values = next(self.coming)
            self.held = torch.cat([self.held, (values.clamp(min=self.loudest - RANGE) + 4.0) / 4.0], dim=1)

    def mask(self, start: int, length: int) -> Tensor:
        """The attention mask (1, length): 1 for audio, 0 for padding."""
        return (torch.arange(start, start + length)[None] < self.real).long()


class _Counted:
    """Blocks, with the number of samples and the levels of those read so far."""

    def __init__(self, blocks: Iterable[NDArray[np.float32]], rate_hz: int) -> None:
        self.blocks, self.n, self.presence = blocks, 0, SpeechPresence(rate_hz)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        for block in self.blocks:
            self.n += len(block)
            self.presence.add(block)
            yield block


def powers(blocks: Iterable[NDArray[np.float32]], extractor: Any) -> Iterator[Tensor]:
    """Yields log10 of the mel powers, (mels, frames), as `WhisperFeatureExtractor` computes them before clamping.

    The audio must be longer than a Fourier window.
    """
    size, hop = int(extractor.n_fft), int(extractor.hop_length)
    filters = torch.from_numpy(extractor.mel_filters).to(torch.float32).T
    shape, half = torch.hann_window(size), size // 2
    held, n_samples, n_done = np.zeros(0, np.float32), 0, 0

    def frames(count: int) -> Tensor:
        part = torch.from_numpy(held[: (count - 1) * hop + size])
        if not part.any():
            return torch.full((len(filters), count), float(np.log10(LEAST_POWER)))
        spectrum = torch.stft(part, size, hop, window=shape, center=False, return_complex=True)
        return (filters @ spectrum.abs().square()).clamp(min=LEAST_POWER).log10()

    for block in blocks:
        begun = n_samples > size
        held, n_samples = np.concatenate([held, block]), n_samples + len(block)
        if n_samples <= size:
            continue
        if not begun:
            held = np.concatenate([held[half:0:-1], held])  # both ends are mirrored, as torch.stft does
        while (count := (len(held) - size) // hop + 1) > 0:
            count = min(count, FRAMES_AT_ONCE)
            yield frames(count)
            held, n_done = held[count * hop :], n_done + count
    if (left := n_samples // hop - n_done) > 0:
        held = np.concatenate([held, held[-2 : -half - 2 : -1]])
        yield frames(left)
