"""Voice-activity detection: transcribes only speech, with times relative to the whole audio.

Uses silero-vad, whose weights come with its package. It processes 32 ms at a time, so audio of any length works.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.core.errors import MissingExtra
from multimodal.pipelines.transcription.options import (
    SampleSource,
    SecondsProgress,
    TranscriptionBackend,
    TranscriptionOptions,
    TranscriptionOutput,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE_HZ = 16_000
STEP = 512  # samples, as the model was trained
# Short pauses are kept, and some padding around speech: words that are cut closely are recognised worse
MIN_SILENCE_MS, PADDING_MS = 2000, 400


def transcribe_speech(
    backend: TranscriptionBackend,
    source: SampleSource,
    options: TranscriptionOptions,
    progress: SecondsProgress,
) -> TranscriptionOutput:
    """Transcribes only the speech in an audio. Raises MissingExtra without silero-vad."""
    spans, n_samples = detect_speech(source)
    duration_s = n_samples / RATE_HZ
    if not spans:
        return TranscriptionOutput("", None, (), (), duration_s)
    timeline = SpanTimeline([(start / RATE_HZ, end / RATE_HZ) for start, end in spans])

    def report(done_s: float, total_s: float | None) -> None:
        progress(timeline.end(done_s), duration_s)

    found = backend.transcribe(SpeechOnly(source, spans), options, report)
    segments = [
        replace(one, start=timeline.start(one.start), end=timeline.end(one.end)) for one in found.segments
    ]
    words = [replace(one, start=timeline.start(one.start), end=timeline.end(one.end)) for one in found.words]
    return TranscriptionOutput(found.text, found.language, segments, words, duration_s)


class SpeechOnly:
    """A source reduced to its speech spans (start, end), in samples at RATE_HZ."""

    def __init__(self, source: SampleSource, spans: Sequence[tuple[int, int]]) -> None:
        self.source, self.spans = source, spans

    def blocks(self, rate_hz: int) -> Iterator[NDArray[np.float32]]:
        spans = [(start * rate_hz // RATE_HZ, end * rate_hz // RATE_HZ) for start, end in self.spans]
        at, begun = 0, 0
        for block in self.source.blocks(rate_hz):
            for start, end in spans[begun:]:
                if start >= at + len(block):
                    break
                part = block[max(0, start - at) : end - at]
                if len(part):
                    yield part
                begun += end <= at + len(block)
            at += len(block)


class SpanTimeline:
    """Maps seconds of the concatenated spans (start, end) to seconds of the whole audio."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        self.spans = spans
        self.joined = np.concatenate([[0.0], np.cumsum([end - start for start, end in spans])]).tolist()

    def start(self, at_s: float) -> float:
        """The time of a start: at the boundary of two spans, in the later one."""
        return self._of(at_s, bisect_right(self.joined, at_s + 1e-6) - 1)

    def end(self, at_s: float) -> float:
        """The time of an end: at the boundary of two spans, in the earlier one."""
        return self._of(at_s, bisect_left(self.joined, at_s - 1e-6) - 1)

    def _of(self, at_s: float, span: int) -> float:
        span = min(max(span, 0), len(self.spans) - 1)
        start, end = self.spans[span]
        return min(start + at_s - self.joined[span], end)


def detect_speech(source: SampleSource) -> tuple[list[tuple[int, int]], int]:
    """The (start, end) of each speech span, and the length of the audio, in samples at RATE_HZ."""
    import torch

    model, spans_of = _silero()
    model.reset_states()
    probabilities: list[float] = []
    held, n_samples = np.zeros(0, np.float32), 0
    with torch.inference_mode():
        for block in source.blocks(RATE_HZ):
            n_samples += len(block)
            held = np.concatenate([held, block])
            whole = len(held) // STEP * STEP
            frames = held[:whole].reshape(-1, STEP)
            probabilities += [float(model(torch.from_numpy(frame), RATE_HZ)) for frame in frames]
            held = held[whole:]
        if len(held):
            last = np.pad(held, (0, STEP - len(held)))
            probabilities.append(float(model(torch.from_numpy(last), RATE_HZ)))
    spans = spans_of(
        probabilities,
        sampling_rate=RATE_HZ,
        audio_length_samples=n_samples,
        min_silence_duration_ms=MIN_SILENCE_MS,
        speech_pad_ms=PADDING_MS,
    )
    return [(int(span["start"]), int(span["end"])) for span in spans], n_samples


@functools.cache
def _silero() -> tuple[Any, Any]:
    if importlib.util.find_spec("silero_vad") is None:
        raise MissingExtra("voice-activity detection (vad=True)", package="silero-vad", extra="vad")
    import torch

    n_threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its model is TorchScript, which torch deprecates
        import silero_vad  # type: ignore[import-untyped, import-not-found]
        from silero_vad import utils_vad

        model = silero_vad.load_silero_vad()
    torch.set_num_threads(n_threads)  # importing silero_vad sets torch to one thread
    return model, utils_vad.get_speech_timestamps_from_probs
