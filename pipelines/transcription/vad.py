"""Voice-activity detection: transcribes only speech, with times relative to the whole audio.

Uses silero-vad, whose weights come with its package. It processes 32 ms at a time, so audio of any length works.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
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
from multimodal.pipelines.transcription.result import Segment, Word

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATE_HZ = 16_000
STEP = 512  # samples, as the model was trained
# Short pauses are kept, and some padding around speech: words that are cut closely are recognised worse
MIN_SILENCE_MS, PADDING_MS = 2000, 400
MAX_PAUSE_S = 5.0  # longer pauses are cut out: the model does not hear them
TOLERANCE_S = 0.3  # how far the times of models and those of detection are off
KEPT_S = 600  # excerpts up to this length stay in memory while they are transcribed


def transcribe_speech(
    backend: TranscriptionBackend,
    source: SampleSource,
    options: TranscriptionOptions,
    progress: SecondsProgress,
) -> TranscriptionOutput:
    """Transcribes only the speech in an audio. Raises MissingExtra without silero-vad.

    Stretches of speech are transcribed one by one, as they are in the audio: if they were joined, the result would have
    to be split again by the times that a model gives, and Whisper lets a sentence begin where the one before it ended.
    """
    spans, n_samples = detect_speech(source)
    duration_s = n_samples / RATE_HZ
    reader = SequentialReader(source)
    texts: list[str] = []
    segments: list[Segment] = []
    words: list[Word] = []
    language = None
    for group in group_spans(spans, n_samples):
        offset_s = group.start / RATE_HZ

        def report(done_s: float, total_s: float | None, offset_s: float = offset_s) -> None:
            progress(min(offset_s + done_s, duration_s), duration_s)

        found = backend.transcribe(Excerpt(reader, group.start, group.end), options, report)
        texts.append(found.text)
        segments += [group.place_segment(segment) for segment in found.segments]
        words += [group.place_word(word) for word in found.words]
        language = language or found.language
        if language and options.language is None and len(getattr(backend, "languages", ())) > 1:
            options = replace(
                options, language=language
            )  # detected once, as without voice-activity detection
    return TranscriptionOutput(" ".join(filter(None, texts)), language, segments, words, duration_s)


@dataclass(frozen=True)
class SpeechGroup:
    """A stretch of audio with speech in it, and no long pause.

    start, end: in samples at RATE_HZ. speech: (start, end) of each speech span in it, without padding, in seconds from
    the start of the audio.
    """

    start: int
    end: int
    speech: tuple[tuple[float, float], ...]

    def place_segment(self, segment: Segment) -> Segment:
        """A segment with its times in the audio; it may hold several speech spans.

        It begins in the first span that it overlaps by more than TOLERANCE_S, and ends in the last: models place the
        boundary between two segments anywhere in the pause between them.
        """
        start, end = self._in_audio(segment)
        overlaps = self._overlaps(start, end)
        held = [place for place, overlap in enumerate(overlaps) if overlap > TOLERANCE_S]
        if not held:
            held = [self._nearest(overlaps)]
        start, end = self._within(start, end, held[0], held[-1])
        return replace(segment, start=start, end=end)

    def place_word(self, word: Word) -> Word:
        """A word with its times in the audio; it belongs to one speech span."""
        start, end = self._in_audio(word)
        place = self._nearest(self._overlaps(start, end))
        start, end = self._within(start, end, place, place)
        return replace(word, start=start, end=end)

    def _in_audio(self, timed: Segment | Word) -> tuple[float, float]:
        start_s, end_s = self.start / RATE_HZ, self.end / RATE_HZ
        start = min(timed.start + start_s, end_s)
        return start, min(max(start, timed.end + start_s), end_s)

    def _overlaps(self, start: float, end: float) -> list[float]:
        return [min(end, last) - max(start, first) for first, last in self.speech]

    @staticmethod
    def _nearest(overlaps: Sequence[float]) -> int:
        """The span with the greatest overlap, or the least distance; an overlap below zero is a distance."""
        return max(range(len(overlaps)), key=overlaps.__getitem__)

    def _within(self, start: float, end: float, first: int, last: int) -> tuple[float, float]:
        """Times limited to the spans first … last; those close to a span stay, since detection is not exact either."""
        speech_start, speech_end = self.speech[first][0], self.speech[last][1]
        if not speech_start - TOLERANCE_S <= start <= speech_end + TOLERANCE_S:
            start = speech_start if start < speech_start else speech_end
        if not speech_start - TOLERANCE_S <= end <= speech_end + TOLERANCE_S:
            end = speech_end if end > speech_end else speech_start
        return round(start, 3), round(max(start, end), 3)


def group_spans(spans: Sequence[tuple[int, int]], n_samples: int) -> list[SpeechGroup]:
    """Joins padded speech spans (start, end), in samples, with the pauses between them that last up to MAX_PAUSE_S."""
    padding = PADDING_MS * RATE_HZ // 1000
    groups: list[list[tuple[int, int]]] = []
    for span in spans:
        if groups and span[0] - groups[-1][-1][1] + 2 * padding <= MAX_PAUSE_S * RATE_HZ:
            groups[-1].append(span)
        else:
            groups.append([span])
    return [
        SpeechGroup(
            group[0][0],
            group[-1][1],
            tuple(
                (
                    (start + padding * (start > 0)) / RATE_HZ,
                    max(start + padding * (start > 0), end - padding * (end < n_samples)) / RATE_HZ,
                )
                for start, end in group
            ),
        )
        for group in groups
    ]


class SequentialReader:
    """Reads parts of a source in order, in one pass for each sampling rate: going back starts a new pass."""

    def __init__(self, source: SampleSource) -> None:
        self.source = source
        self._passes: dict[int, tuple[Iterator[NDArray[np.float32]], NDArray[np.float32], int]] = {}

    def read(self, start: int, end: int, rate_hz: int) -> Iterator[NDArray[np.float32]]:
        """The samples from start to end, in blocks."""
        blocks, held, at = self._passes.pop(rate_hz, (iter([]), np.zeros(0, np.float32), end))
        if at > start:
            blocks, held, at = iter(self.source.blocks(rate_hz)), np.zeros(0, np.float32), 0
        while at < end:
            if not len(held):
                following = next(blocks, None)
                if following is None:
                    return
                held = following
            taken, part = min(len(held), end - at), held[max(0, start - at) : end - at]
            at, held = at + taken, held[taken:]
            if len(part):
                yield part
        self._passes[rate_hz] = (blocks, held, at)


class Excerpt:
    """A source that is a part of another, from start to end in samples at RATE_HZ. Short ones are read only once."""

    def __init__(self, reader: SequentialReader, start: int, end: int) -> None:
        self.reader, self.start, self.end = reader, start, end
        self._kept: dict[int, list[NDArray[np.float32]]] = {}

    def blocks(self, rate_hz: int) -> Iterator[NDArray[np.float32]]:
        if rate_hz in self._kept:
            yield from self._kept[rate_hz]
            return
        keeps = self.end - self.start <= KEPT_S * RATE_HZ
        read = []
        start, end = (sample * rate_hz // RATE_HZ for sample in (self.start, self.end))
        for block in self.reader.read(start, end, rate_hz):
            if keeps:
                read.append(block)
            yield block
        if keeps:
            self._kept[rate_hz] = read


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
