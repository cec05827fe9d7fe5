"""Whisper: the tokens and times of transformers, called by hand on the same checkpoint."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import multimodal as mm
from multimodal.core.errors import CheckpointError, InvalidInput
from multimodal.core.media.audio_decoders import BLOCK_SAMPLES
from multimodal.pipelines.transcription.audio_stream import as_audio_stream as opened
from multimodal.pipelines.transcription.backends import whisper_mels as mels
from multimodal.pipelines.transcription.options import (
    COMPRESSION_RATIO,
    FALLBACK,
    LOG_PROBABILITY,
    NO_SPEECH,
)
from tests.pipelines.transcription.transcription_models import RATE_HZ, as_audio_stream, noise, whisper

SHORT_S, LONG_S = 12.0, 47.123
AS_UPSTREAM = {
    "temperature": FALLBACK,
    "compression_ratio_threshold": COMPRESSION_RATIO,
    "logprob_threshold": LOG_PROBABILITY,
    "no_speech_threshold": NO_SPEECH,
}


class Upstream:
    """transformers, called as its documentation says."""

    def __init__(self, folder: Path) -> None:
        transformers.logging.disable_progress_bar()
        transformers.logging.set_verbosity_error()
        self.model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
        self.extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
        self.tokenizer = transformers.WhisperTokenizer.from_pretrained(folder)

    def segments(self, samples: np.ndarray, **options: Any) -> list[tuple[float, float, tuple[int, ...]]]:
        """(start, end, tokens) of what is said before the sound ends."""
        whole = {"truncation": False, "padding": "longest"} if len(samples) > 30 * RATE_HZ else {}
        inputs = self.extractor(
            samples, sampling_rate=RATE_HZ, return_tensors="pt", return_attention_mask=True, **whole
        )
        options = {"language": "en", "task": "transcribe", "return_timestamps": True} | options
        with torch.inference_mode():
            made = self.model.generate(**inputs, return_segments=True, **options)["segments"][0]
        duration = len(samples) / RATE_HZ
        results = [(float(item["start"]), float(item["end"]), item["tokens"].tolist()) for item in made]
        return [(a, min(b, duration), tuple(t)) for a, b, t in results if a < duration and self.words(t)]

    def words(self, tokens: list[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def pipeline(self, samples: np.ndarray, **options: Any) -> dict[str, Any]:
        asr = transformers.pipeline(
            "automatic-speech-recognition",
            model=self.model,
            tokenizer=self.tokenizer,
            feature_extractor=self.extractor,
        )
        how = {"language": "en", "task": "transcribe", "num_beams": 1, "max_new_tokens": None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(asr(samples.copy(), generate_kwargs=how, ignore_warning=True, **options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def upstream(folder: Path) -> Upstream:
    return Upstream(folder)


@pytest.fixture(scope="module")
def transcribe(folder: Path) -> mm.TranscriptionPipeline:
    return mm.TranscriptionPipeline.from_pretrained(folder, device="cpu")


def rows(transcription: mm.Transcription) -> list[tuple[float, float, tuple[int, ...]]]:
    return [(segment.start, segment.end, segment.tokens) for segment in transcription.segments]


def close(mine: list[Any], theirs: list[Any]) -> bool:
    assert len(theirs) > 0
    assert [item[2] for item in mine] == [their[2] for their in theirs]
    return np.allclose([item[:2] for item in mine], [their[:2] for their in theirs], atol=1e-6)


# --- the same as transformers ------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [5.0, 30.0, 30.01, LONG_S])
def test_tokens_and_times_are_those_of_transformers(
    transcribe: mm.TranscriptionPipeline, upstream: Upstream, seconds: float
) -> None:
    samples = noise(seconds, seed=int(seconds))
    transcription = transcribe(as_audio_stream(samples), language="en")
    assert close(rows(transcription), upstream.segments(samples))
    assert transcription.duration_s == len(samples) / RATE_HZ
    assert transcription.language == "en"
    assert transcription.text == upstream.words(
        [token for segment in transcription.segments for token in segment.tokens]
    )


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "beams": ({"beams": 3}, {"num_beams": 3}),
    "conditioned": ({"condition_on_previous": True}, {"condition_on_prev_tokens": True}),
    "translated": (
        {"language": "German", "task": "translate"},
        {"language": "de", "task": "translate"},
    ),
    "exact": ({"temperature": 0}, {"temperature": 0.0}),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_do_what_they_do_in_transformers(
    transcribe: mm.TranscriptionPipeline, upstream: Upstream, option: str
) -> None:
    mine, theirs = OPTIONS[option]
    samples = noise(LONG_S)
    transcription = transcribe(as_audio_stream(samples), **({"language": "en"} | mine))
    assert close(rows(transcription), upstream.segments(samples, **theirs))


@pytest.mark.parametrize("conditioned", [False, True])
def test_a_prompt_is_shown_as_transformers_shows_it(
    transcribe: mm.TranscriptionPipeline, upstream: Upstream, conditioned: bool
) -> None:
    samples = noise(LONG_S)
    transcription = transcribe(
        as_audio_stream(samples), language="en", prompt="the hat", condition_on_previous=conditioned
    )
    ids = torch.tensor(upstream.tokenizer.get_prompt_ids("the hat"))
    theirs = upstream.segments(samples, prompt_ids=ids, condition_on_prev_tokens=conditioned)
    assert close(rows(transcription), theirs)
    assert rows(transcription) != rows(transcribe(as_audio_stream(samples), language="en"))


@pytest.mark.parametrize("conditioned", [False, True])
def test_the_temperature_falls_back_as_in_transformers(
    transcribe: mm.TranscriptionPipeline, upstream: Upstream, conditioned: bool
) -> None:
    samples = noise(35.0)
    transcription = transcribe(
        as_audio_stream(samples),
        language="en",
        temperature=FALLBACK,
        condition_on_previous=conditioned,
        seed=7,
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        theirs = upstream.segments(samples, condition_on_prev_tokens=conditioned, **AS_UPSTREAM)
    assert close(rows(transcription), theirs)
    assert rows(transcription) != rows(transcribe(as_audio_stream(samples), language="en"))


def test_what_is_likely_no_speech_is_left_out_as_in_transformers(folder: Path, tmp_path: Path) -> None:
    """The token of no speech made all but certain: every window is unlikely, and nothing is said."""
    silent = Path(shutil.copytree(folder, tmp_path / "silent"))
    theirs = Upstream(silent)
    number = theirs.tokenizer.convert_tokens_to_ids("<|nospeech|>")
    with torch.no_grad():
        theirs.model.proj_out.weight[number] = theirs.model.proj_out.weight[number] * 40
    samples = noise(LONG_S, seed=3)
    theirs.model.save_pretrained(silent)
    ours = mm.TranscriptionPipeline.from_pretrained(silent)
    greedy = rows(ours(as_audio_stream(samples), language="en"))
    results = ours(as_audio_stream(samples), language="en", temperature=FALLBACK)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        made = theirs.segments(samples, **AS_UPSTREAM) if greedy else []
    assert rows(results) == made
    assert len(results.segments) < len(greedy)


def test_sampling_leaves_the_random_state_of_others_alone_and_is_repeatable(
    transcribe: mm.TranscriptionPipeline,
) -> None:
    before = torch.get_rng_state()
    first, second = (
        transcribe(as_audio_stream(noise(SHORT_S)), language="en", temperature=0.8) for _ in range(2)
    )
    assert torch.equal(before, torch.get_rng_state())
    assert first == second
    assert first != transcribe(as_audio_stream(noise(SHORT_S)), language="en", temperature=0.8, seed=1)


def test_the_language_is_heard_in_the_first_window(
    transcribe: mm.TranscriptionPipeline, upstream: Upstream
) -> None:
    samples = noise(LONG_S)
    transcription = transcribe(as_audio_stream(samples))
    features = upstream.extractor(samples, sampling_rate=RATE_HZ, return_tensors="pt", truncation=False)
    heard = int(upstream.model.detect_language(features["input_features"])[0])
    assert f"<|{transcription.language}|>" == upstream.tokenizer.convert_ids_to_tokens(heard)
    assert close(rows(transcription), upstream.segments(samples, language=None))


@pytest.mark.filterwarnings("ignore:std:UserWarning")
def test_words_are_timed_as_by_transformers(transcribe: mm.TranscriptionPipeline, upstream: Upstream) -> None:
    samples = noise(LONG_S)
    transcription = transcribe(as_audio_stream(samples), language="en", timestamps="word")
    made = upstream.pipeline(samples, return_timestamps="word")["chunks"]
    theirs = [(item["text"].strip(), *item["timestamp"]) for item in made]
    mine = [(word.text, word.start, word.end) for word in transcription.words]
    assert len(mine) >= 2
    # transformers goes on into the silence behind the sound; its last words are not of the sound
    assert mine == [their for their in theirs if their[0]][: len(mine)]
    assert rows(transcription) == rows(transcribe(as_audio_stream(samples), language="en"))


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning", "ignore:std:UserWarning")
@pytest.mark.parametrize(("seconds", "timestamps"), [(SHORT_S, "segment"), (LONG_S, None), (LONG_S, "word")])
def test_windows_in_batches_are_joined_as_by_transformers(
    transcribe: mm.TranscriptionPipeline, upstream: Upstream, seconds: float, timestamps: str | None
) -> None:
    samples = noise(seconds)
    theirs = upstream.pipeline(
        samples,
        chunk_length_s=30,
        batch_size=2,
        return_timestamps={None: False, "segment": True, "word": "word"}[timestamps],
    )
    transcription = transcribe(as_audio_stream(samples), language="en", batch_size=2, timestamps=timestamps)
    assert transcription.text == theirs["text"].strip()
    mine = transcription.words if timestamps == "word" else transcription.segments
    made = [item["text"].strip() for item in theirs.get("chunks", ())]
    assert [item.text for item in mine] == [item for item in made if item]
    if timestamps == "word":
        times = [chunk["timestamp"] for chunk in theirs["chunks"] if chunk["text"].strip()]
        duration = len(samples) / RATE_HZ
        assert [item.start for item in mine] == [min(start, duration) for start, _ in times]


def test_text_alone_is_what_transformers_writes_without_times(
    transcribe: mm.TranscriptionPipeline, upstream: Upstream
) -> None:
    samples = noise(SHORT_S)
    transcription = transcribe(as_audio_stream(samples), language="en", timestamps=None)
    made = upstream.segments(samples, return_timestamps=False)
    assert transcription.text == upstream.words([token for item in made for token in item[2]])
    assert (transcription.segments, transcription.words) == ((), ())


def test_a_checkpoint_of_english_alone_gets_no_language(tmp_path: Path) -> None:
    english = whisper(tmp_path / "english", english=True)
    samples = noise(SHORT_S)
    result = mm.TranscriptionPipeline.from_pretrained(english)(as_audio_stream(samples))
    made = Upstream(english).segments(samples, language=None, task=None)
    assert close(rows(result), made)
    assert result.language is None


def test_half_the_precision_still_writes(folder: Path) -> None:
    result = mm.TranscriptionPipeline.from_pretrained(folder, precision="bfloat16")(
        as_audio_stream(noise(5.0))
    )
    assert result.duration_s == 5.0


# --- memory ------------------------------------------------------------------------------------------


def test_log_mels_window_by_window_are_those_of_the_whole(upstream: Upstream) -> None:
    samples = noise(61.0071)
    whole = upstream.extractor(
        samples, sampling_rate=RATE_HZ, return_tensors="pt", truncation=False, padding="longest"
    )["input_features"]
    made = mels.LogMels(opened(as_audio_stream(samples)), upstream.extractor)
    assert made.n_frames == whole.shape[2]
    starts = [0, 17, 1500, made.n_frames - 40]
    for start in starts:
        window = made.window(start, 3000)
        assert torch.allclose(window, whole[:, :, start : start + 3000], atol=2e-5)


def test_no_more_than_some_blocks_are_held_at_a_time(
    transcribe: mm.TranscriptionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two minutes and a half from a source that makes each block when it is asked for one."""
    block, made = noise(20.0), []

    class Endless:
        def blocks(self, rate_hz: int) -> Iterator[np.ndarray]:
            for number in range(8):
                made.append(number)
                yield block

    held: list[int] = []
    window = mels.LogMels.window

    def watched(self: mels.LogMels, start: int, length: int) -> torch.Tensor:
        transcription = window(self, start, length)
        held.append(self.held.shape[1])
        return transcription

    monkeypatch.setattr(mels.LogMels, "window", watched)
    transcription = transcribe.backend.transcribe(Endless(), _options(), lambda done, total: None)
    assert transcription.duration_s == 160
    assert made == [*range(8), *range(8)]  # read twice: for the loudest, and for the rest
    assert max(held) <= 3000 + max(BLOCK_SAMPLES, len(block)) // 160 + mels.FRAMES_AT_ONCE


def _options() -> Any:
    from multimodal.pipelines.transcription.options import TranscriptionOptions

    return TranscriptionOptions(language="en")


def test_a_window_of_digital_silence_is_not_given_to_the_model(
    transcribe: mm.TranscriptionPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = np.concatenate([noise(10.0), np.zeros(120 * RATE_HZ, np.float32)])
    calls = []
    generate = transcribe.backend.model.generate
    monkeypatch.setattr(
        transcribe.backend.model, "generate", lambda *a, **k: (calls.append(1), generate(*a, **k))[1]
    )
    transcribe(as_audio_stream(samples), language="en")
    assert 1 <= len(calls) <= 3


def test_progress_is_reported_in_seconds(transcribe: mm.TranscriptionPipeline) -> None:
    reported: list[tuple[float, float | None]] = []
    transcribe(as_audio_stream(noise(LONG_S)), progress=lambda done, total: reported.append((done, total)))
    done = [item for item, _ in reported]
    assert done == sorted(done)
    assert reported[-1] == (pytest.approx(LONG_S, abs=0.01), pytest.approx(LONG_S))


# --- bad input ---------------------------------------------------------------------------------------


def test_an_unknown_language_is_refused_with_what_is_meant(transcribe: mm.TranscriptionPipeline) -> None:
    with pytest.raises(InvalidInput) as caught:
        transcribe(as_audio_stream(noise(1.0)), language="germn")
    assert str(caught.value) == (
        f"{transcribe.name!r} knows no language 'germn'; did you mean 'german'? it knows de, en, es, fr"
    )


def test_a_language_of_whisper_that_this_checkpoint_lacks_is_refused(
    transcribe: mm.TranscriptionPipeline,
) -> None:
    with pytest.raises(InvalidInput, match="knows no language 'welsh'"):
        transcribe(as_audio_stream(noise(1.0)), language="welsh")


@pytest.mark.parametrize("options", [{"language": "en"}, {"task": "translate"}])
def test_english_alone_takes_no_language_and_no_task(tmp_path: Path, options: dict[str, str]) -> None:
    english = mm.TranscriptionPipeline.from_pretrained(whisper(tmp_path / "english", english=True))
    ((name, value),) = options.items()
    with pytest.raises(InvalidInput) as caught:
        english(as_audio_stream(noise(1.0)), **options)
    assert str(caught.value) == (
        f"{english.name!r} was trained on English only, so it takes no {name}={value!r}: leave it out, or use a "
        "multilingual checkpoint (a Whisper whose name does not end in '.en')"
    )


def test_a_prompt_that_does_not_fit_is_refused(transcribe: mm.TranscriptionPipeline) -> None:
    with pytest.raises(InvalidInput) as caught:
        transcribe(as_audio_stream(noise(1.0)), prompt="x y z " * 9)
    assert str(caught.value).startswith("the prompt has ")
    assert f"tokens, and {transcribe.name!r} takes at most 15; shorten it" in str(caught.value)


def test_a_prompt_with_a_token_of_whispers_own_is_refused(transcribe: mm.TranscriptionPipeline) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be used .*; remove the text between <\| and \|>"):
        transcribe(as_audio_stream(noise(1.0)), prompt="so <|endoftext|> it ends")


def test_windows_in_batches_take_no_option_that_needs_one_after_another(
    transcribe: mm.TranscriptionPipeline,
) -> None:
    with pytest.raises(InvalidInput) as caught:
        transcribe(
            as_audio_stream(noise(1.0)), batch_size=4, temperature=FALLBACK, condition_on_previous=True
        )
    assert str(caught.value) == (
        "with batch_size=4 windows are independent and decoded once: leave out condition_on_previous and temperature, "
        "or use batch_size=1"
    )


def test_words_need_a_checkpoint_that_says_which_heads_align_with_the_audio(tmp_path: Path) -> None:
    without = mm.TranscriptionPipeline.from_pretrained(whisper(tmp_path / "without", heads=False))
    with pytest.raises(
        InvalidInput,
        match=r"has no alignment_heads in its generation_config\.json, which word timestamps need",
    ):
        without(as_audio_stream(noise(1.0)), timestamps="word")


def test_an_incomplete_checkpoint_is_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    cut = Path(shutil.copytree(folder, tmp_path / "cut"))
    tensors = load_file(cut / "model.safetensors")
    tensors.pop("model.encoder.conv1.weight")
    save_file(tensors, cut / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError) as caught:
        mm.TranscriptionPipeline.from_pretrained(cut)
    assert str(caught.value) == (
        f"the tensors of {str(cut)!r} do not match a WhisperForConditionalGeneration as described by its config.json "
        "(1 missing, 0 of another shape: model.encoder.conv1.weight); the checkpoint is incomplete or of another model"
    )


def test_a_model_that_writes_down_no_speech_is_refused_by_what_it_is(tmp_path: Path) -> None:
    config = transformers.CLIPConfig(architectures=["CLIPModel"])
    config.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        mm.TranscriptionPipeline.from_pretrained(tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path}' is a CLIPModel, which does not transcribe speech: use a Whisper, CTC or speech-to-text "
        "checkpoint, such as 'hf/openai/whisper-tiny' or 'hf/facebook/wav2vec2-base-960h'"
    )


def test_a_classifier_of_audio_is_refused_by_what_it_is(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    config = json.loads((other / "config.json").read_text())
    config["architectures"] = ["WhisperForAudioClassification"]
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match="is a WhisperForAudioClassification, which does not transcribe speech"
    ):
        mm.TranscriptionPipeline.from_pretrained(other)


@pytest.mark.parametrize(
    ("error", "options", "advice"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), {}, "precision='bfloat16', or a smaller model"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            {"batch_size": 8, "beams": 4},
            "batch_size=4, beams=2, precision='bfloat16', or a smaller model",
        ),
    ],
)
def test_a_full_memory_says_what_to_turn_down(
    transcribe: mm.TranscriptionPipeline,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    options: dict[str, int],
    advice: str,
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(transcribe.backend.model, "generate", full)
    with pytest.raises(RuntimeError) as caught:
        transcribe(as_audio_stream(noise(1.0)), language="en", **options)
    assert str(caught.value) == f"{transcribe.name!r} ran out of memory: try {advice}"
