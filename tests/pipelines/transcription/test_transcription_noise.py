"""Faint noise, silence and clips of a few samples have no words; faint speech has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import multimodal as mm
from multimodal.core.paths import assets
from multimodal.pipelines.transcription.result import Segment, Word, within
from multimodal.pipelines.transcription.speech_presence import SpeechPresence, can_hold_speech
from tests.pipelines.transcription import transcription_models as models

RATE_HZ = 16_000
SOUNDS = sorted((assets() / "gallery" / "sounds").glob("*.flac"))
MAKERS: dict[str, Callable[[Path], Path] | None] = {
    "starter": None,
    "whisper": models.whisper,
    "ctc": models.wav2vec2,
    "seq2seq": models.moonshine,
}


def noise(kind: str, n: int, seed: int = 0) -> np.ndarray:
    """(n,) float64 with a root mean square of 1."""
    random = np.random.default_rng(seed)
    if kind == "uniform":
        samples = random.uniform(-1, 1, n)
    elif kind == "hum":
        samples = np.sin(2 * np.pi * 50 * np.arange(n) / RATE_HZ)
    else:
        slope = {"white": 0.0, "pink": 1.0, "brown": 2.0, "blue": -1.0}[kind]
        spectrum = np.fft.rfft(random.standard_normal(n))
        samples = np.fft.irfft(spectrum * np.maximum(np.arange(len(spectrum)), 1.0) ** (-slope / 2), n)
    return samples / np.sqrt(np.square(samples).mean())


def at_level(samples: np.ndarray, decibels: float) -> np.ndarray:
    """float32 with this root mean square relative to full scale."""
    return (samples * 10 ** (decibels / 20)).astype(np.float32)


def loudest_frame(samples: np.ndarray) -> float:
    """The root mean square of the loudest 20 ms."""
    frames = samples[: len(samples) // 320 * 320].reshape(-1, 320)
    return float(np.sqrt(np.square(frames).mean(axis=1).max()))


@pytest.fixture(scope="module", params=sorted(MAKERS))
def transcribe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    make = MAKERS[request.param]
    model = "starter" if make is None else make(tmp_path_factory.mktemp(request.param))
    return mm.pipeline("transcription", model=model, device="cpu")


@pytest.mark.parametrize("decibels", [-60, -80, -100])
@pytest.mark.parametrize("kind", ["white", "pink"])
def test_noise_has_no_words(transcribe: Any, kind: str, decibels: float) -> None:
    result = transcribe((at_level(noise(kind, 48_000), decibels), RATE_HZ))
    assert (result.text, result.segments, result.duration_s) == ("", (), 3.0)


@pytest.mark.parametrize("value", [0.0, 1e-5, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 320])
def test_a_clip_of_a_few_samples_has_no_words(transcribe: Any, n: int, value: float) -> None:
    result = transcribe((np.full(n, value, np.float32), RATE_HZ))
    assert (result.text, result.segments, result.words) == ("", (), ())
    assert result.duration_s == pytest.approx(n / RATE_HZ)


@given(st.sampled_from(["white", "pink", "brown", "blue", "uniform", "hum"]), st.floats(-100, -60), st.integers(0, 99),
       st.integers(700, 48_000), st.booleans())  # fmt: skip
def test_no_noise_is_taken_for_speech(
    kind: str, decibels: float, seed: int, n: int, in_16_bits: bool
) -> None:
    samples = at_level(noise(kind, n, seed), decibels)
    if in_16_bits:
        samples = np.round(samples * 32_768) / np.float32(32_768)
    padded = np.concatenate([np.zeros(8_000, np.float32), samples, np.zeros(4_000, np.float32)])
    if kind != "brown":  # half of its power can lie in a few frames, which are then louder than -50 dB
        assert not can_hold_speech(samples, RATE_HZ)
        if kind != "hum":  # where it is cut off there is a click
            assert not can_hold_speech(padded, RATE_HZ)


@pytest.mark.parametrize("decibels", [-52, -60, -70, -80, -90])
def test_every_spoken_word_is_taken_for_speech_however_faint(decibels: float) -> None:
    for path in SOUNDS:
        samples = mm.Audio(path).load(RATE_HZ).samples
        faint = at_level(samples / loudest_frame(samples), decibels)
        assert can_hold_speech(faint, RATE_HZ), path.name


def test_a_faint_word_is_written_as_a_loud_one() -> None:
    transcribe = mm.pipeline("transcription", model="starter", device="cpu")
    for path in SOUNDS[:3]:
        samples = mm.Audio(path).load(RATE_HZ).samples
        faint = at_level(samples / loudest_frame(samples), -60)
        assert transcribe((faint, RATE_HZ)).text == transcribe((samples, RATE_HZ)).text != ""


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=6), st.floats(-100, -30))
def test_the_cut_into_blocks_changes_nothing(lengths: list[int], decibels: float) -> None:
    samples = at_level(noise("pink", sum(lengths), 3), decibels) if sum(lengths) else np.zeros(0, np.float32)
    presence = SpeechPresence(RATE_HZ)
    for end, length in zip(np.cumsum(lengths).tolist(), lengths, strict=True):
        presence.add(samples[end - length : end])
    assert presence.is_possible == can_hold_speech(samples, RATE_HZ)


@given(st.floats(-5, 50), st.floats(-5, 50), st.floats(0, 30))
def test_no_word_ends_before_it_begins_or_after_the_audio(
    start: float, end: float, duration_s: float
) -> None:
    for piece in (within(Word(start, end, "x"), duration_s), within(Segment(start, end, "x"), duration_s)):
        assert 0 <= piece.start <= piece.end <= duration_s
