"""CTC and other models of transformers: what transformers itself makes of the same sound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import multimodal as mm
from multimodal.core.errors import InvalidInput
from multimodal.pipelines.transcription.pipeline import Word
from multimodal.pipelines.transcription.segmentation import LONGEST_CHARS, LONGEST_S, PAUSE_S, group_words
from tests.pipelines.transcription.transcription_models import (
    RATE_HZ,
    as_audio_stream,
    moonshine,
    noise,
    speech_to_text,
    wav2vec2,
)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wav2vec2(tmp_path_factory.mktemp("wav2vec2"))


def asr(folder: Path) -> Any:
    transformers.logging.disable_progress_bar()
    transformers.logging.set_verbosity_error()
    return transformers.pipeline(
        "automatic-speech-recognition",
        model=transformers.Wav2Vec2ForCTC.from_pretrained(folder),
        tokenizer=transformers.Wav2Vec2CTCTokenizer.from_pretrained(folder),
        feature_extractor=transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder),
    )


@pytest.mark.parametrize("seconds", [2.0, 30.0, 71.37])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_ctc_reads_the_letters_of_transformers(letters: Path, seconds: float, batch_size: int) -> None:
    samples = noise(seconds, seed=int(seconds))
    result = mm.TranscriptionPipeline.from_pretrained(letters)(
        as_audio_stream(samples), timestamps="word", batch_size=batch_size
    )
    how = {"chunk_length_s": 30} if seconds > 30 else {}
    theirs = asr(letters)(samples.copy(), return_timestamps="word", **how)
    assert result.text == theirs["text"].strip()
    assert len(result.text) > 5
    assert [word.text for word in result.words] == [chunk["text"] for chunk in theirs["chunks"]]
    times = [(word.start, word.end) for word in result.words]
    assert np.allclose(times, [chunk["timestamp"] for chunk in theirs["chunks"]], atol=1e-6)


def test_segments_of_ctc_hold_every_word(letters: Path) -> None:
    result = mm.TranscriptionPipeline.from_pretrained(letters)(
        as_audio_stream(noise(40.0)), timestamps="word"
    )
    assert " ".join(segment.text for segment in result.segments) == " ".join(
        word.text for word in result.words
    )
    assert result.segments[0].start == result.words[0].start
    assert result.segments[-1].end == result.words[-1].end


def test_an_option_of_whisper_is_refused_by_ctc(letters: Path) -> None:
    read = mm.TranscriptionPipeline.from_pretrained(letters)
    with pytest.raises(InvalidInput) as caught:
        read(as_audio_stream(noise(1.0)), language="en", beams=4)
    assert str(caught.value) == (
        f"{str(letters)!r} is a Wav2Vec2ForCTC, which takes no beams, language; it takes batch_size"
    )


def test_silence_reads_as_nothing(letters: Path) -> None:
    result = mm.TranscriptionPipeline.from_pretrained(letters)(as_audio_stream(np.zeros(RATE_HZ, np.float32)))
    assert (result.text, result.segments, result.duration_s) == ("", (), 1.0)


MAKERS = {"speech_to_text": speech_to_text, "moonshine": moonshine}


@pytest.fixture(scope="module", params=MAKERS)
def sequences(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.mark.parametrize("beams", [None, 3])
def test_models_that_generate_write_the_tokens_of_transformers(sequences: Path, beams: int | None) -> None:
    samples = noise(3.0)
    result = mm.TranscriptionPipeline.from_pretrained(sequences)(
        as_audio_stream(samples), **({} if beams is None else {"beams": beams})
    )
    model = transformers.AutoModelForSpeechSeq2Seq.from_pretrained(sequences)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(sequences)
    inputs = extractor(samples, sampling_rate=RATE_HZ, return_tensors="pt", return_attention_mask=True)
    with torch.inference_mode():
        made = model.generate(**inputs, **({} if beams is None else {"num_beams": beams}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(sequences)
    assert result.text == tokenizer.decode(made[0], skip_special_tokens=True).strip()
    assert len(result.text) > 3
    assert result.segments[0].tokens == tuple(made[0].tolist())
    assert (result.segments[0].start, result.segments[0].end) == (0.0, 3.0)


def test_long_audio_is_given_in_utterances(sequences: Path) -> None:
    read = mm.TranscriptionPipeline.from_pretrained(sequences)
    loaded = read(as_audio_stream(noise(70.0)))
    assert loaded.duration_s == 70.0
    assert len(loaded.segments) >= 2
    assert all(segment.end - segment.start <= 30 for segment in loaded.segments)
    assert loaded.segments[-1].end == 70.0


def test_times_of_words_are_refused_where_there_are_none(sequences: Path) -> None:
    read = mm.TranscriptionPipeline.from_pretrained(sequences)
    with pytest.raises(InvalidInput, match=r"which gives no word timestamps: use timestamps='segment'"):
        read(as_audio_stream(noise(1.0)), timestamps="word")


# --- segments of words -------------------------------------------------------------------------------


def test_a_pause_ends_a_segment() -> None:
    words = [Word(0.0, 0.5, "a"), Word(0.6, 1.0, "b"), Word(1.0 + PAUSE_S, 2.0, "c")]
    assert [word.text for word in group_words(words)] == ["a b", "c"]


def test_no_segment_is_too_long_to_be_read() -> None:
    words = [Word(0.3 * n, 0.3 * n + 0.3, "word" * (1 + n % 3)) for n in range(200)]
    segments = group_words(words)
    assert " ".join(segment.text for segment in segments) == " ".join(word.text for word in words)
    for segment in segments:
        assert segment.end - segment.start <= LONGEST_S + 1e-9
        assert len(segment.text) <= LONGEST_CHARS
