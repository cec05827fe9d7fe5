"""Voice activity: silero-vad's own spans, and times as they are in the whole sound."""

from __future__ import annotations

import importlib.util

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
        assert spans == [(one["start"], one["end"]) for one in theirs]
    assert len(spans) == len(NAMES)


@needs_silero
def test_times_are_those_of_the_whole_sound() -> None:
    transcribe = mm.pipeline("transcription")
    samples = with_pauses(4.0)
    found = transcribe(as_audio_stream(samples), vad=True, timestamps="word", vocabulary=None)
    spans, _ = vad.detect_speech(opened(as_audio_stream(samples)))
    assert found.duration_s == len(samples) / RATE_HZ
    for segment in (*found.segments, *found.words):
        assert segment.start <= segment.end
        assert any(start / RATE_HZ <= segment.start <= end / RATE_HZ for start, end in spans)
        assert any(start / RATE_HZ <= segment.end <= end / RATE_HZ + 1e-6 for start, end in spans)


@needs_silero
def test_without_speech_nothing_is_given_to_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    transcribe = mm.pipeline("transcription")
    monkeypatch.setattr(transcribe.backend, "transcribe", None)
    hum = 0.1 * np.sin(2 * np.pi * 50 * np.arange(3 * RATE_HZ) / RATE_HZ).astype(np.float32)
    found = transcribe(as_audio_stream(hum), vad=True)
    assert (found.text, found.segments, found.duration_s) == ("", (), 3.0)


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


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 60)), min_size=1, max_size=6),
    st.integers(1, 40),
)
def test_speech_is_what_lies_in_the_spans(steps: list[tuple[int, int]], size: int) -> None:
    spans, at = [], 0
    for pause, length in steps:
        spans.append((at + pause, at + pause + length))
        at += pause + length
    samples = np.arange(at + 10, dtype=np.float32)
    found = np.concatenate(list(vad.SpeechOnly(Blocks(samples, size), spans).blocks(vad.RATE_HZ)))
    assert (found == np.concatenate([samples[start:end] for start, end in spans])).all()


@given(st.lists(st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)), min_size=1, max_size=6), st.floats(0, 1))
def test_a_place_in_the_speech_is_found_in_the_whole(steps: list[tuple[float, float]], share: float) -> None:
    spans, at = [], 0.0
    for pause, length in steps:
        spans.append((at + pause, at + pause + length))
        at += pause + length
    place, before = vad.SpanTimeline(spans), 0.0
    for start, end in spans:
        inside = before + share * (end - start)
        assert place.start(before) == pytest.approx(start, abs=1e-5)
        assert place.end(before + end - start) == pytest.approx(end, abs=1e-5)
        if 0.01 < share < 0.99:
            assert place.start(inside) == pytest.approx(start + share * (end - start), abs=1e-5)
            assert place.end(inside) == pytest.approx(start + share * (end - start), abs=1e-5)
        before += end - start
