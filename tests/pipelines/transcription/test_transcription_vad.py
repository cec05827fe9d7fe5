"""Voice activity: silero-vad's own spans, and times as they are in the whole sound."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import multimodal as mm
from multimodal.core.errors import MissingExtra
from multimodal.core.paths import assets
from multimodal.pipelines.transcription import vad as vad
from multimodal.pipelines.transcription.audio_stream import as_audio_stream as opened
from multimodal.pipelines.transcription.options import TranscriptionOptions, TranscriptionOutput
from multimodal.pipelines.transcription.result import Segment, Word
from tests.pipelines.transcription import transcription_models
from tests.pipelines.transcription.transcription_models import as_audio_stream

RATE_HZ = 16_000
NAMES = ("dog", "cat", "elephant", "rocket")
needs_silero = pytest.mark.skipif(
    importlib.util.find_spec("silero_vad") is None, reason="silero-vad is not installed"
)


class Blocks:
    """A source of given samples, in blocks of a given size."""

    def __init__(self, samples: np.ndarray, size: int) -> None:
        self.samples, self.size = samples, size

    def blocks(self, rate_hz: int):
        for start in range(0, len(self.samples), self.size):
            yield self.samples[start : start + self.size]


def with_pauses(pause_s: float) -> np.ndarray:
    gap = np.zeros(round(pause_s * RATE_HZ), np.float32)
    parts = [gap]
    for name in NAMES:
        parts += [mm.Audio(assets() / "gallery" / "sounds" / f"{name}.flac").load(RATE_HZ).samples, gap]
    return np.concatenate(parts)


@needs_silero
def test_spans_are_those_of_silero_on_the_whole_sound() -> None:
    import silero_vad

    samples = with_pauses(4.0)
    model, _ = vad._silero()
    theirs = silero_vad.get_speech_timestamps(
        torch.from_numpy(samples),
        model,
        min_silence_duration_ms=vad.MIN_SILENCE_MS,
        speech_pad_ms=vad.PADDING_MS,
    )
    for size in (len(samples), 7001):
        spans, n_samples = vad.detect_speech(Blocks(samples, size))
        assert n_samples == len(samples)
        assert spans == [(their["start"], their["end"]) for their in theirs]
    assert len(spans) == len(NAMES)


@needs_silero
def test_times_are_those_of_the_whole_sound() -> None:
    transcribe = mm.pipeline("transcription")
    samples = with_pauses(4.0)
    transcription = transcribe(as_audio_stream(samples), vad=True, timestamps="word", vocabulary=None)
    spans, _ = vad.detect_speech(opened(as_audio_stream(samples)))
    assert transcription.duration_s == len(samples) / RATE_HZ
    for segment in (*transcription.segments, *transcription.words):
        assert segment.start <= segment.end
        assert any(start / RATE_HZ <= segment.start <= end / RATE_HZ for start, end in spans)
        assert any(start / RATE_HZ <= segment.end <= end / RATE_HZ + 1e-6 for start, end in spans)


@needs_silero
def test_without_speech_nothing_is_given_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    transcribe = mm.pipeline("transcription")
    monkeypatch.setattr(transcribe.backend, "transcribe", None)
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(3 * RATE_HZ) / RATE_HZ).astype(np.float32)
    transcription = transcribe(as_audio_stream(hum), vad=True)
    assert (transcription.text, transcription.segments, transcription.duration_s) == ("", (), 3.0)


@needs_silero
def test_the_threads_of_torch_are_left_as_they_were() -> None:
    before = torch.get_num_threads()
    vad._silero.cache_clear()
    vad._silero()
    assert torch.get_num_threads() == before


def test_without_the_package_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    vad._silero.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        mm.pipeline("transcription")(as_audio_stream(np.ones(16_000, np.float32)), vad=True)
    assert str(caught.value) == (
        "voice-activity detection (vad=True) needs silero-vad: pip install 'multimodal[vad]'"
    )


SPANS = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 60)), min_size=1, max_size=6)


@given(SPANS, st.integers(1, 40), st.lists(st.integers(0, 5), max_size=4))
def test_excerpts_are_what_lies_in_the_spans_however_often_they_are_read(
    steps: list[tuple[int, int]], size: int, again: list[int]
) -> None:
    spans, at = [], 0
    for pause, length in steps:
        spans.append((at + pause, at + pause + length))
        at += pause + length
    samples = np.arange(at + 10, dtype=np.float32)
    reader = vad.SequentialReader(Blocks(samples, size))
    excerpts = [vad.Excerpt(reader, start, end) for start, end in spans]
    for place in [*range(len(spans)), *(number % len(spans) for number in again)]:
        start, end = spans[place]
        for excerpt in (excerpts[place], vad.Excerpt(reader, start, end)):
            assert (np.concatenate(list(excerpt.blocks(RATE_HZ))) == samples[start:end]).all()


def test_excerpts_in_order_are_read_in_one_pass() -> None:
    samples, passes = np.arange(1000, dtype=np.float32), []

    class Counted(Blocks):
        def blocks(self, rate_hz: int):
            passes.append(rate_hz)
            return super().blocks(rate_hz)

    reader = vad.SequentialReader(Counted(samples, 70))
    for start in range(0, 900, 100):
        excerpt = vad.Excerpt(reader, start, start + 60)
        for _ in range(2):
            assert (np.concatenate(list(excerpt.blocks(RATE_HZ))) == samples[start : start + 60]).all()
    assert passes == [RATE_HZ]


class FakeBackend:
    """Writes given segments and words for each stretch of speech, in seconds from its start."""

    model_class = "a fake"
    supported_options = frozenset({"language"})
    languages = ("en", "de")

    def __init__(self, *outputs: list[tuple[float, float]]) -> None:
        self.outputs, self.heard, self.given = list(outputs), [], []

    def transcribe(self, source, options, progress) -> TranscriptionOutput:
        times = self.outputs[len(self.heard)]
        self.heard.append(np.concatenate(list(source.blocks(RATE_HZ))))
        self.given.append(options.language)
        progress(1.0, None)
        segments = [Segment(start, end, "x") for start, end in times]
        words = [Word(start, end, "x") for start, end in times]
        return TranscriptionOutput("x", "de", segments, words, len(self.heard[-1]) / RATE_HZ)


def spoken(monkeypatch: pytest.MonkeyPatch, *speech: tuple[float, float], seconds: float = 60.0) -> Blocks:
    """A source of `seconds`, in which voice-activity detection finds these (start, end) of speech."""
    padding = vad.PADDING_MS / 1000
    spans = [
        (round(max(0, start - padding) * RATE_HZ), round(min(seconds, end + padding) * RATE_HZ))
        for start, end in speech
    ]
    monkeypatch.setattr(vad, "detect_speech", lambda source: (spans, round(seconds * RATE_HZ)))
    return Blocks(np.arange(round(seconds * RATE_HZ), dtype=np.float32), 5000)


def test_stretches_between_long_pauses_are_transcribed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    source = spoken(monkeypatch, (8.4, 10.4), (36.0, 38.0))
    backend = FakeBackend([(0.4, 2.4)], [(0.4, 2.4)])
    done: list[float] = []
    result = vad.transcribe_speech(
        backend, source, TranscriptionOptions(), lambda done_s, total_s: done.append(done_s)
    )
    assert [(segment.start, segment.end) for segment in result.segments] == [(8.4, 10.4), (36.0, 38.0)]
    assert [(word.start, word.end) for word in result.words] == [(8.4, 10.4), (36.0, 38.0)]
    assert (backend.heard[1] == source.samples[round(35.6 * RATE_HZ) : round(38.4 * RATE_HZ)]).all()
    assert (result.text, result.duration_s, done) == ("x x", 60.0, [9.0, pytest.approx(36.6)])
    assert backend.given == [None, "de"]  # detected in the first stretch only


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((0.4, 2.4), (8.4, 10.4)),  # the first speech
        ((2.4, 7.0), (13.4, 15.0)),  # begins where the first speech ended: belongs to the second
        ((2.2, 7.0), (13.4, 15.0)),
        ((0.4, 4.0), (8.4, 10.4)),  # ends in the pause
        ((0.4, 5.6), (8.4, 10.4)),  # ends a little after the second speech began
        ((0.3, 2.6), (8.3, 10.6)),  # a little outside of what was detected
        ((0.4, 7.0), (8.4, 15.0)),  # holds both
        ((5.2, 7.0), (13.2, 15.0)),  # within the padding
        ((3.0, 4.9), (13.4, 13.4)),  # in the pause, nearer to the second
        ((3.0, 3.1), (10.4, 10.4)),
    ],
)
def test_a_segment_begins_and_ends_in_speech(
    monkeypatch: pytest.MonkeyPatch, times: tuple[float, float], expected: tuple[float, float]
) -> None:
    source = spoken(monkeypatch, (8.4, 10.4), (13.4, 15.0))  # a pause of 3 s, which the model hears
    result = vad.transcribe_speech(
        FakeBackend([times]), source, TranscriptionOptions(), lambda done, total: None
    )
    assert [(segment.start, segment.end) for segment in result.segments] == [
        pytest.approx(expected, abs=0.001)
    ]


@given(
    st.lists(st.tuples(st.floats(2.0, 30.0), st.floats(0.8, 12.0)), min_size=1, max_size=6),
    st.data(),
)
def test_contiguous_segments_are_given_the_times_of_their_speech(
    steps: list[tuple[float, float]], data: st.DataObject
) -> None:
    """The boundary that a model writes lies anywhere in the pause, or up to 0.25 s into the speech on either side."""
    speech, at = [], 0.0
    for pause, length in steps:
        speech.append((at + pause, at + pause + length))
        at += pause + length
    n_samples, padding = round((at + 1) * RATE_HZ), vad.PADDING_MS / 1000
    spans = [(round((start - padding) * RATE_HZ), round((end + padding) * RATE_HZ)) for start, end in speech]
    groups = vad.group_spans(spans, n_samples)
    assert [span for group in groups for span in group.speech] == [
        pytest.approx(span, abs=1e-3) for span in speech
    ]
    for group in groups:
        offset = group.start / RATE_HZ
        boundaries = [group.speech[0][0]]
        for (_, end), (start, _) in zip(group.speech, group.speech[1:], strict=False):
            boundaries.append(data.draw(st.floats(end - 0.25, start + 0.25)))
        boundaries.append(group.speech[-1][1])
        for (start, end), first, last in zip(group.speech, boundaries, boundaries[1:], strict=False):
            segment = group.place_segment(Segment(first - offset, last - offset, "x"))
            word = group.place_word(Word(first - offset, last - offset, "x"))
            for placed in (segment, word):
                assert placed.start == pytest.approx(start, abs=0.302)
                assert placed.end == pytest.approx(end, abs=0.302)


def far_apart() -> np.ndarray:
    """Two spoken clips, 25 s apart."""
    parts = [
        mm.Audio(assets() / "gallery" / "sounds" / f"{name}.flac").load(RATE_HZ).samples for name in NAMES[:2]
    ]
    gap = np.zeros(25 * RATE_HZ, np.float32)
    return np.concatenate([gap[: 8 * RATE_HZ], parts[0], gap, parts[1], gap[: 2 * RATE_HZ]])


@needs_silero
def test_words_25_s_apart_have_the_times_that_they_have_without_detection() -> None:
    transcribe = mm.pipeline("transcription")
    samples = far_apart()
    with_vad = transcribe(as_audio_stream(samples), vad=True, timestamps="word", vocabulary=NAMES)
    without = transcribe(as_audio_stream(samples), timestamps="word", vocabulary=NAMES)
    assert with_vad.text == without.text == "dog cat"
    assert with_vad.segments[1].start - with_vad.segments[0].end > 20
    for kind in ("segments", "words"):
        pairs = zip(getattr(with_vad, kind), getattr(without, kind), strict=True)
        for results, expected in pairs:
            assert (results.start, results.end) == pytest.approx((expected.start, expected.end), abs=0.3)


@needs_silero
@pytest.mark.parametrize("model", ["whisper", "wav2vec2", "moonshine"])
def test_every_backend_places_segments_in_speech(model: str, tmp_path: Path) -> None:
    transcribe = mm.pipeline("transcription", model=getattr(transcription_models, model)(tmp_path))
    samples = far_apart()
    spans, n_samples = vad.detect_speech(opened(as_audio_stream(samples)))
    assert len(vad.group_spans(spans, n_samples)) == 2
    transcription = transcribe(as_audio_stream(samples), vad=True)
    assert transcription.segments
    for segment in transcription.segments:
        assert any(
            start / RATE_HZ <= segment.start <= segment.end <= end / RATE_HZ + 0.001 for start, end in spans
        )
