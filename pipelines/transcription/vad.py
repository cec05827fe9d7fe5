"""Voice-activity detection: find what is speech, transcribe that alone, and tell its times as they are in the sound.

By silero-vad, whose model comes with its package. It listens to 32 ms at a time, so a sound of any length will do.
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
# Pauses within what is said are kept, and some room around it: a model hears words worse where they are cut close
MIN_SILENCE_MS, ROOM_MS = 2000, 400


def transcribe_speech(
    reader: TranscriptionBackend,
    source: SampleSource,
    options: TranscriptionOptions,
    progress: SecondsProgress,
) -> TranscriptionOutput:
    """What `reader` makes of the speech in a sound. Raises MissingExtra without silero-vad."""
    spans, n_samples = detect_speech(source)
    duration_s = n_samples / RATE_HZ
    if not spans:
        return TranscriptionOutput("", None, (), (), duration_s)
    place = SpanTimeline([(start / RATE_HZ, end / RATE_HZ) for start, end in spans])

    def told(done_s: float, total_s: float | None) -> None:
        progress(place.end(done_s), duration_s)

    found = reader.transcribe(SpeechOnly(source, spans), options, told)
    segments = [replace(one, start=place.start(one.start), end=place.end(one.end)) for one in found.segments]
    words = [replace(one, start=place.start(one.start), end=place.end(one.end)) for one in found.words]
    return TranscriptionOutput(found.text, found.language, segments, words, duration_s)


class SpeechOnly:
    """A source without what lies between spans (start, end), in samples of RATE_HZ."""

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
    """Seconds of the joined spans (start, end) -> seconds of the whole."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        self.spans = spans
        self.joined = np.concatenate([[0.0], np.cumsum([end - start for start, end in spans])]).tolist()

    def start(self, at_s: float) -> float:
        """Of what begins there: on a seam, in the later span."""
        return self._of(at_s, bisect_right(self.joined, at_s + 1e-6) - 1)

    def end(self, at_s: float) -> float:
        """Of what ends there: on a seam, in the earlier span."""
        return self._of(at_s, bisect_left(self.joined, at_s - 1e-6) - 1)

    def _of(self, at_s: float, span: int) -> float:
        span = min(max(span, 0), len(self.spans) - 1)
        start, end = self.spans[span]
        return min(start + at_s - self.joined[span], end)


def detect_speech(source: SampleSource) -> tuple[list[tuple[int, int]], int]:
    """(start, end) of each stretch of speech, and the length of the sound, in samples of RATE_HZ."""
    import torch

    model, spans_of = _silero()
    model.reset_states()
    likely: list[float] = []
    held, n_samples = np.zeros(0, np.float32), 0
    with torch.inference_mode():
        for block in source.blocks(RATE_HZ):
            n_samples += len(block)
            held = np.concatenate([held, block])
            whole = len(held) // STEP * STEP
            likely += [float(model(torch.from_numpy(one), RATE_HZ)) for one in held[:whole].reshape(-1, STEP)]
            held = held[whole:]
        if len(held):
            last = np.pad(held, (0, STEP - len(held)))
            likely.append(float(model(torch.from_numpy(last), RATE_HZ)))
    found = spans_of(
        likely,
        sampling_rate=RATE_HZ,
        audio_length_samples=n_samples,
        min_silence_duration_ms=MIN_SILENCE_MS,
        speech_pad_ms=ROOM_MS,
    )
    return [(int(one["start"]), int(one["end"])) for one in found], n_samples


@functools.cache
def _silero() -> tuple[Any, Any]:
    if importlib.util.find_spec("silero_vad") is None:
        raise MissingExtra("leaving out what is no speech (vad=True)", package="silero-vad", extra="vad")
    import torch

    n_threads = torch.get_num_threads()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its model is a TorchScript, which torch warns is of the past
        import silero_vad  # type: ignore[import-untyped, import-not-found]
        from silero_vad import utils_vad

        model = silero_vad.load_silero_vad()
    torch.set_num_threads(n_threads)  # importing it leaves torch with one thread
    return model, utils_vad.get_speech_timestamps_from_probs
