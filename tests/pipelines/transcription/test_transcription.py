"""The pipeline: who is loaded by which name, what may be asked, and what the starter hears."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import multimodal as mm
from multimodal.core.errors import InvalidInput, MediaNotFound, UnknownModel
from multimodal.core.paths import assets
from multimodal.pipelines.transcription.backends.starter import StarterBackend
from multimodal.pipelines.transcription.backends.starter import character_ids as letters_of
from multimodal.pipelines.transcription.options import DEFAULTS
from tests.pipelines.transcription.transcription_models import RATE_HZ, as_audio_stream

SOUNDS = assets() / "gallery" / "sounds"
NAMES = sorted(path.stem.replace("-", " ") for path in SOUNDS.glob("*.flac"))


@pytest.fixture(scope="module")
def transcribe() -> mm.TranscriptionPipeline:
    return mm.pipeline("transcription")


def spoken(name: str) -> Path:
    return SOUNDS / f"{name.replace(' ', '-')}.flac"


def joined(*names: str, pause_s: float = 1.0) -> np.ndarray:
    gap = np.zeros(round(pause_s * RATE_HZ), np.float32)
    parts = [part for name in names for part in (mm.Audio(spoken(name)).load(RATE_HZ).samples, gap)]
    return np.concatenate(parts)


# --- the starter -------------------------------------------------------------------------------------


def test_the_starter_writes_down_most_of_the_gallery(transcribe: mm.TranscriptionPipeline) -> None:
    transcription = transcribe([spoken(name) for name in NAMES])
    right = sum(item.text == name for item, name in zip(transcription, NAMES, strict=True))
    assert right >= 0.7 * len(NAMES)
    assert {item.language for item in transcription} == {"en"}


def test_the_starter_chooses_from_a_vocabulary(transcribe: mm.TranscriptionPipeline) -> None:
    transcription = transcribe([spoken(name) for name in NAMES], vocabulary=NAMES)
    assert [item.text for item in transcription] == NAMES


def test_words_are_placed_where_they_are_said(transcribe: mm.TranscriptionPipeline) -> None:
    names = ("dog", "elephant", "fish", "rocket")
    samples = joined(*names)
    transcription = transcribe(as_audio_stream(samples), timestamps="word")
    assert [word.text for word in transcription.words] == list(names)
    ends = np.cumsum([mm.Audio(spoken(name)).load().seconds + 1.0 for name in names])
    for word, end in zip(transcription.words, ends, strict=True):
        assert end - 2.5 < word.start < word.end <= end - 1.0 + 0.1
    assert [segment.text for segment in transcription.segments] == list(
        names
    )  # a second of silence ends a segment


def test_one_beam_is_the_likeliest_path(transcribe: mm.TranscriptionPipeline) -> None:
    reader = transcribe.backend
    assert isinstance(reader, StarterBackend)
    transcription = transcribe(spoken("bicycle"), beams=1)
    assert transcription.text and set(transcription.text) <= set("abcdefghijklmnopqrstuvwxyz0123456789' ")


def test_hours_are_heard_in_parts_of_seconds(
    transcribe: mm.TranscriptionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, lengths = transcribe.backend, []
    logs = StarterBackend.logs
    monkeypatch.setattr(
        StarterBackend, "logs", lambda self, mel: (lengths.append(len(mel)), logs(self, mel))[1]
    )
    block = joined("dog", "cat")

    class Long:
        def blocks(self, rate_hz: int):
            for _ in range(20):
                yield block

    transcription = reader.transcribe(Long(), DEFAULTS, lambda done, total: None)
    assert transcription.text.split().count("dog") >= 18
    assert max(lengths) <= 600


@pytest.mark.parametrize("seconds", [0.001, 3.0])
def test_silence_is_an_empty_transcription(transcribe: mm.TranscriptionPipeline, seconds: float) -> None:
    transcription = transcribe(
        as_audio_stream(np.zeros(max(1, round(seconds * RATE_HZ)), np.float32)), vocabulary=None
    )
    assert (transcription.text, transcription.segments, transcription.words) == ("", (), ())
    assert transcription.duration_s == pytest.approx(seconds)
    assert transcription.to_srt() == ""


def test_a_click_is_no_error(transcribe: mm.TranscriptionPipeline) -> None:
    samples = np.zeros(8, np.float32)
    samples[3] = 0.5
    assert transcribe(as_audio_stream(samples)).duration_s == 8 / RATE_HZ
    assert transcribe(as_audio_stream(samples), vocabulary=["a very long name indeed"]).text == ""


@pytest.mark.parametrize("name", ["日本", "!!"])
def test_a_vocabulary_that_cannot_be_written_is_refused(
    transcribe: mm.TranscriptionPipeline, name: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        transcribe(spoken("dog"), vocabulary=["dog", name])
    assert str(caught.value) == (
        f"{name!r} contains none of the characters that the starter can write: "
        '"abcdefghijklmnopqrstuvwxyz0123456789\'"'
    )


def test_letters_are_the_classes_of_the_tower() -> None:
    assert letters_of("  A  b ") == [2, 1, 3]


# --- what is given -----------------------------------------------------------------------------------


def test_a_str_is_a_path_here(transcribe: mm.TranscriptionPipeline, tmp_path: Path) -> None:
    by_str, by_path = transcribe(str(spoken("dog"))), transcribe(spoken("dog"))
    by_bytes, by_item = transcribe(spoken("dog").read_bytes()), transcribe(mm.Audio(spoken("dog")))
    assert by_str == by_path == by_bytes == by_item
    with pytest.raises(MediaNotFound, match="no such file"):
        transcribe(str(tmp_path / "none.mp3"))


def test_a_list_in_is_a_list_out(transcribe: mm.TranscriptionPipeline) -> None:
    transcription = transcribe([spoken("dog"), spoken("cat")])
    assert [item.text for item in transcription] == ["dog", "cat"]
    with pytest.raises(InvalidInput, match="the list of inputs is empty"):
        transcribe([])


def test_another_rate_and_channels_are_heard(transcribe: mm.TranscriptionPipeline, tmp_path: Path) -> None:
    samples = mm.Audio(spoken("dog")).load(44_100).samples
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([samples, samples], 1), 44_100)
    assert transcribe(path).text == "dog"


def test_it_pickles_and_prints(transcribe: mm.TranscriptionPipeline) -> None:
    import pickle

    transcription = transcribe(spoken("dog"))
    assert pickle.loads(pickle.dumps(transcription)) == transcription
    assert str(transcription) == "dog"


BAD_OPTIONS = {
    "the temperatures are empty; leave them out, or give at least one": {"temperature": ()},
    "timestamps must be 'segment', 'word' or None, got 'char'": {"timestamps": "char"},
    "task must be 'transcribe' or 'translate', got 'sing'": {"task": "sing"},
    "beams must be a whole number of at least 1, got 0": {"beams": 0},
    "batch_size must be a whole number of windows of at least 1, got 0": {"batch_size": 0},
    "a temperature must be a number of at least 0, got -1": {"temperature": -1},
    "language must be words, or be left out, got ''": {"language": ""},
    "prompt must be words, or be left out, got ' '": {"prompt": " "},
    "the vocabulary is empty; leave it out, or name what may have been said": {"vocabulary": []},
    "a vocabulary must hold words, got 3": {"vocabulary": [3]},
    "vocabulary must be a list of names such as ['cat', 'dog'], got 'cat'": {"vocabulary": "cat"},
    "'starter' is the starter's speech tower, which takes no language, task; it takes beams, vocabulary": {
        "language": "de",
        "task": "translate",
    },
}


@pytest.mark.parametrize("message", BAD_OPTIONS)
def test_nonsense_is_refused(transcribe: mm.TranscriptionPipeline, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        transcribe(spoken("dog"), **BAD_OPTIONS[message])  # type: ignore[arg-type]
    assert str(caught.value) == message


# --- names -------------------------------------------------------------------------------------------


def test_a_slip_in_the_name_is_answered_with_what_is_meant() -> None:
    with pytest.raises(UnknownModel) as caught:
        mm.pipeline("transcription", model="whisper-tny")
    assert str(caught.value) == (
        "no speech model is called 'whisper-tny'; did you mean 'hf/openai/whisper-tiny' or "
        "'hf/openai/whisper-tiny.en'? write 'starter', 'hf/<owner>/<name>' as in 'hf/openai/whisper-tiny', "
        "'faster-whisper/<name>', or a folder as './my-whisper'"
    )


def test_a_space_without_an_audio_encoder_is_refused() -> None:
    space = mm.load("starter")
    blind = mm.Space(
        [space.encoders[mm.Modality.TEXT], space.encoders[mm.Modality.IMAGE]], space.logit_scales, name="eyes"
    )
    with pytest.raises(UnknownModel) as caught:
        mm.TranscriptionPipeline.from_pretrained(blind)
    assert str(caught.value) == (
        "the space 'eyes' has no audio encoder: transcription takes 'starter', or a speech model such as "
        "'hf/openai/whisper-tiny'"
    )


def test_a_saved_starter_reads_as_the_shipped_one(
    transcribe: mm.TranscriptionPipeline, tmp_path: Path
) -> None:
    mm.load("starter").save_pretrained(tmp_path / "mine")
    saved = mm.TranscriptionPipeline.from_pretrained(tmp_path / "mine")
    assert saved(spoken("dog")).text == transcribe(spoken("dog")).text
    assert saved.name == str(tmp_path / "mine")


def test_an_option_that_loading_does_not_know_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'presicion'"):
        mm.pipeline("transcription", presicion="float32")


def test_progress_true_shows_a_bar_on_standard_error(
    transcribe: mm.TranscriptionPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert transcribe([spoken("dog"), spoken("cat")], progress=True) == transcribe(
        [spoken("dog"), spoken("cat")]
    )
    captured = capsys.readouterr()
    assert "transcribing" in captured.err and "100%" in captured.err
    assert captured.out == ""


def test_progress_that_cannot_be_called_is_refused(transcribe: mm.TranscriptionPipeline) -> None:
    with pytest.raises(InvalidInput, match=r"^progress must be True, False or a function to call, got 3$"):
        transcribe(spoken("dog"), progress=3)  # type: ignore[arg-type]


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=r"names the folder .*, which does not exist"):
        mm.TranscriptionPipeline.from_pretrained(tmp_path / "none")
