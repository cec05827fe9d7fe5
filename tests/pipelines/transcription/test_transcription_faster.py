"""faster-whisper: a tiny Whisper, converted by CTranslate2, writes here what it writes when called by hand."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

import multimodal as mm
from multimodal.core.errors import CheckpointError, InvalidInput, MissingExtra, UnknownModel
from multimodal.pipelines.transcription.backends import faster_whisper as faster
from tests.pipelines.transcription.transcription_models import as_audio_stream, noise, whisper

installed = importlib.util.find_spec("faster_whisper") is not None
needs_faster = pytest.mark.skipif(not installed, reason="faster-whisper is not installed")
SECONDS = 8.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("faster_whisper")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ctranslate2.converters import TransformersConverter

        checkpoint = whisper(tmp_path_factory.mktemp("whisper"), longest=448)
        out = tmp_path_factory.mktemp("converted") / "model"
        TransformersConverter(
            str(checkpoint), copy_files=["tokenizer.json", "preprocessor_config.json"]
        ).convert(str(out))
    return out


@pytest.fixture(scope="module")
def transcribe(folder: Path) -> mm.TranscriptionPipeline:
    return mm.pipeline("transcription", model=f"faster-whisper/{folder}", device="cpu")


def test_it_writes_what_faster_whisper_writes(transcribe: mm.TranscriptionPipeline) -> None:
    samples = noise(SECONDS)
    transcription = transcribe(as_audio_stream(samples), temperature=0, beams=2)
    made, about = transcribe.backend.model.transcribe(
        samples, temperature=[0.0], beam_size=2, condition_on_previous_text=False
    )
    theirs = [item for item in made if item.text.strip() and item.start < SECONDS]
    assert len(theirs) > 0
    assert [segment.tokens for segment in transcription.segments] == [tuple(their.tokens) for their in theirs]
    assert [segment.start for segment in transcription.segments] == [their.start for their in theirs]
    assert transcription.text == " ".join(their.text.strip() for their in theirs)
    assert (transcription.language, transcription.duration_s) == (about.language, SECONDS)


def test_long_audio_is_given_in_parts(
    transcribe: mm.TranscriptionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faster, "AT_ONCE_S", 5.0)
    given: list[float] = []
    run = transcribe.backend.model.transcribe

    def watched(samples: np.ndarray, **options: object) -> object:
        given.append(len(samples) / faster.RATE_HZ)
        return run(samples, **options)

    monkeypatch.setattr(transcribe.backend.model, "transcribe", watched)
    transcription = transcribe(as_audio_stream(noise(9.0)), temperature=0, beams=1)
    assert sum(given) == pytest.approx(9.0) and len(given) >= 2
    starts = [segment.start for segment in transcription.segments]
    assert starts == sorted(starts) and starts[-1] >= given[0]
    assert all(segment.end <= 9.0 for segment in transcription.segments)


def test_english_alone_takes_no_language(transcribe: mm.TranscriptionPipeline) -> None:
    with pytest.raises(InvalidInput) as caught:
        transcribe(as_audio_stream(noise(1.0)), language="de")
    assert str(caught.value) == (
        f"{transcribe.name!r} was trained on English only: leave out language and task, or use a multilingual "
        "checkpoint (a name that does not end in '.en')"
    )


@needs_faster
def test_an_unknown_name_is_answered_with_what_is_meant() -> None:
    with pytest.raises(UnknownModel, match="faster-whisper has no model 'smal'; did you mean 'small'"):
        mm.pipeline("transcription", model="faster-whisper/smal")


@needs_faster
def test_a_folder_that_was_not_converted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        mm.pipeline("transcription", model=f"faster-whisper/{tmp_path}")
    assert str(caught.value) == (
        f"'faster-whisper/{tmp_path}' has no config.json, model.bin, tokenizer.json, so it is not a "
        "CTranslate2 checkpoint; make one with ct2-transformers-converter --model FOLDER --output_dir NEW --copy_files "
        "tokenizer.json preprocessor_config.json"
    )


def test_without_the_package_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        mm.pipeline("transcription", model="faster-whisper/tiny", device="cpu")
    assert str(caught.value) == (
        "running 'faster-whisper/tiny' needs faster-whisper: pip install 'multimodal[faster]'"
    )
