"""The second accent: what is kept back stays back, augmentation keeps the words, errors are counted right."""

import ctypes.util
import functools
import itertools
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import multimodal as mm
from multimodal.encoders.starter.parameters import N_MELS
from recipes.starter.captioner import captions
from recipes.starter.data import accents, flite, speech_augment
from recipes.starter.data.concepts import Concept
from recipes.starter.data.prepare_speech import Recorder
from recipes.starter.data.spelling import distance, letters_only, spelled
from recipes.starter.figures import evaluate, evaluation_rows, judges, read
from recipes.starter.towers import train_accents, train_speech

NAMES = [f"thing{chr(97 + row // 26)}{chr(97 + row % 26)}" for row in range(60)]
WORLD = [Concept("x", name, (f"key{row}", NAMES[11]), (), None, "g") for row, name in enumerate(NAMES)]
needs_flite = pytest.mark.skipif(
    ctypes.util.find_library("flite_cmu_us_slt") is None, reason="flite's voices are not installed"
)


def test_no_speaker_that_judges_is_trained_on() -> None:
    judging = {speaker for speakers in evaluate.SPEAKERS.values() for speaker in speakers}
    assert not judging & set(flite.SPEAKERS)


def test_the_ways_that_judge_the_training_lie_outside_of_it() -> None:
    rng = random.Random(0)
    ways = [flite.training_way(rng) for _ in range(300)]
    assert {way.speaker for way in ways} == set(flite.SPEAKERS)
    for fresh in flite.fresh_ways():
        same = [way for way in ways if way.speaker == fresh.speaker]
        for part in ("stretch", "pitch_hz"):
            values = [getattr(way, part) for way in same]
            assert not min(values) <= getattr(fresh, part) <= max(values)


def test_names_that_are_kept_back_are_never_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "held_out", lambda count: captions.HeldOut((), ()))
    monkeypatch.setattr(accents, "CAPTIONS", 400)
    lines = list(accents.training_lines(WORLD, ["word", NAMES[31]], random.Random(1)))
    back = [name for row, name in enumerate(NAMES) if accents.kept_back(row)]
    assert back == [NAMES[11], NAMES[31], NAMES[51]]
    assert not any(name in text for text, _ in lines for name in back)
    spoken = [row for _, row in lines if row >= 0]
    assert spoken.count(0) == accents.NAME_TAKES and len(set(spoken)) == len(NAMES) - len(back)
    assert ("word", -1) in lines and ("key11", -1) in lines


@needs_flite
def test_flite_options_change_length_and_pitch() -> None:
    voice = flite.Flite()

    def pitch_hz(samples: np.ndarray) -> float:
        middle = samples[len(samples) // 2 - 2000 : len(samples) // 2 + 2000]
        likeness = np.correlate(middle, middle, "full")[4000:]
        return 16_000 / (50 + int(likeness[50:270].argmax()))  # 59 to 320 Hz

    usual, rate_hz = voice.say("a moon", flite.Way("awb", 1.0, 100.0, 1.0))
    high, _ = voice.say("a moon", flite.Way("awb", 1.0, 200.0, 1.0))
    slow, _ = voice.say("a moon", flite.Way("awb", 1.5, 100.0, 1.0))
    assert rate_hz == 16_000 and 0.05 < np.abs(usual).max() <= 1
    assert pitch_hz(usual) == pytest.approx(100, rel=0.15)
    assert pitch_hz(high) == pytest.approx(200, rel=0.15)
    assert len(slow) > 1.3 * len(usual)


def ramps(along: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Sixteen clips whose values rise from -0.9 to 0.9 along time or along the bands."""
    lengths = torch.arange(40, 120, 5)
    clips = torch.zeros(16, int(lengths.max()), N_MELS)
    for row, length in enumerate(lengths.tolist()):
        rise = torch.linspace(-0.9, 0.9, length if along == "time" else N_MELS)
        clips[row, :length] = rise[:, None] if along == "time" else rise
    return clips, lengths


@pytest.mark.parametrize("along", ["time", "bands"])
def test_a_stretch_never_turns_back(along: str) -> None:
    clips, lengths = ramps(along)
    for seed in range(8):
        moved, fresh = speech_augment.SpeechAugmenter(seed).stretch(clips, lengths)
        for clip, length in zip(moved, fresh.tolist(), strict=True):
            sounding = clip[:length][(clip[:length] > -1).all(1)]
            steps = sounding.diff(dim=0 if along == "time" else 1)
            assert steps.min() >= -1e-5
            assert sounding.max() > (
                0.85 if along == "time" else 0.4
            )  # a longer tract loses its highest bands


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_disguised_clips_are_log_mels_and_nothing_lies_past_an_end(seed: int) -> None:
    clips, lengths = ramps("time")
    results, fresh = speech_augment.SpeechAugmenter(seed)(clips, lengths)
    assert results.shape == (16, int(fresh.max()), N_MELS) and fresh.min() >= 12
    assert results.min() >= -1 and results.max() <= 1 and bool(results.isfinite().all())
    for clip, length in zip(results, fresh.tolist(), strict=True):
        assert not clip[length:].any()
    again, _ = speech_augment.SpeechAugmenter(seed)(clips, lengths)
    assert torch.equal(results, again)


def test_no_two_are_disguised_alike() -> None:
    clips = torch.linspace(-1, 1, N_MELS).expand(8, 60, N_MELS)
    results, lengths = speech_augment.SpeechAugmenter(3)(clips, torch.full((8,), 60))
    short = int(lengths.min())
    for item, other in itertools.combinations(results, 2):
        assert (item[:short] - other[:short]).abs().mean() > 1e-3


class TextsAsNumbers:
    """Vectors of texts without a tower."""

    def encode(self, texts: list[str]) -> torch.Tensor:
        return torch.arange(len(texts), dtype=torch.float32)[:, None]


def recorded(path: Path, texts: list[str], pitch_hz: float) -> Path:
    recorder = Recorder(20_000)
    for number, text in enumerate(texts):
        samples = np.sin(2 * np.pi * pitch_hz * np.arange(8_000 + 800 * number) / 16_000)
        recorder.add(samples.astype(np.float32), 16_000, text, number, "voice")
    recorder.save(path)
    return path


def test_clips_of_several_files_are_one_after_another(tmp_path: Path) -> None:
    first = recorded(tmp_path / "a.npz", ["dog", "cat", "a dog"], 300)
    second = recorded(tmp_path / "b.npz", ["cat", "pizza"], 900)
    apart = [train_speech.Clips(TextsAsNumbers(), file) for file in (first, second)]  # type: ignore[arg-type]
    both = train_speech.Clips(TextsAsNumbers(), first, second)  # type: ignore[arg-type]
    assert both.texts == ["dog", "cat", "a dog", "cat", "pizza"]
    assert both.text_rows.tolist() == [0, 1, 2, 1, 3]
    for row in range(5):
        assert torch.equal(both.clip(row), apart[row // 3].clip(row % 3))
    assert [rows.tolist() for rows in both.usable()] == [[0, 1, 2], [3, 4]]


def test_a_batch_has_its_part_of_every_file_and_clips_of_like_length() -> None:
    class Lengths:
        lengths = np.random.default_rng(0).integers(20, 260, 900)

    rng = np.random.default_rng(1)
    usable = [np.arange(800), np.arange(800, 900)]
    rows = [train_speech.draw_rows(Lengths, usable, 40, rng) for _ in range(50)]  # type: ignore[arg-type]
    assert np.mean([(row >= 800).mean() for row in rows]) == pytest.approx(0.5, abs=0.06)
    spread = np.mean([np.ptp(Lengths.lengths[row]) for row in rows])
    assert {len(row) for row in rows} == {40} and spread < 120


@given(first=st.text("abc", max_size=6), second=st.text("abc", max_size=6))
@settings(deadline=None)
def test_the_distance_is_the_fewest_edits(first: str, second: str) -> None:
    @functools.cache
    def fewest(a: str, b: str) -> int:
        if not a or not b:
            return len(a) + len(b)
        return min(fewest(a[1:], b) + 1, fewest(a, b[1:]) + 1, fewest(a[1:], b[1:]) + (a[0] != b[0]))

    assert distance(first, second) == fewest(first, second)


def test_repeats_and_blanks_are_not_spelled() -> None:
    # class 0 is the blank, 1 the space, 2 "a"
    assert spelled(torch.tensor([0, 2, 2, 0, 2, 3, 1, 1, 4, 0])) == "aab c"
    assert letters_only("person: red hair!") == "person red hair"


class Parrot:
    """Reads the first name whatever it hears, and takes the last for the likeliest."""

    beams = 4

    def logs(self, mel: torch.Tensor) -> np.ndarray:
        logs = np.full((6, 39), -9.0, np.float32)
        logs[np.arange(6), [5, 5, 0, 16, 8, 0]] = 0.0  # "dog"
        return logs

    def words(self, mel: torch.Tensor, logs: np.ndarray, beams: int) -> list[object]:
        class Word:
            text = "dog"

        return [Word()]

    def scores(self, mel: torch.Tensor, logs: np.ndarray, names: list[str]) -> np.ndarray:
        return np.arange(len(names))


def test_reading_is_counted_in_letters_and_names(tmp_path: Path) -> None:
    recorded(tmp_path / "speech_judge.npz", ["dog", "fog", "pizza"], 300)
    results = read.figures(Parrot(), tmp_path, ("voice",), 1)  # type: ignore[arg-type]
    assert (results["clips"], results["closed"]) == (3, 33.3)
    assert results["open CER"] == results["open CER, letters alone"] == round(100 * (0 + 1 + 5) / 11, 1)


def test_a_line_of_the_card_counts_stored_speech_as_the_tower_hears_it(tmp_path: Path) -> None:
    recorded(tmp_path / "speech_judge.npz", ["dog", "pizza", "rocket", "cat"], 120)
    space = mm.load("starter")
    model = SimpleNamespace(listener=evaluation_rows.for_stored_speech(space), cache=tmp_path / "cache")
    spoken = evaluate.spoken_rows(evaluation_rows.clips(tmp_path, "voice"))
    names = ["dog", "pizza", "rocket", "cat"]
    data = spoken + evaluation_rows.numbered("text", names)
    line = evaluate.recall_of(evaluate.Shipped.retrieval(model, data, "audio", "text"))  # type: ignore[arg-type]
    heard, own = judges.hear(space.encoders["audio"].net, tmp_path, "voice")  # type: ignore[index, attr-defined]
    texts = torch.from_numpy(space.encode(names))
    assert evaluate.recall(heard, texts, [{row} for row in own]).items() <= line.items()
    vectors = model.listener.encode([row["audio"] for row in spoken])
    torch.testing.assert_close(torch.from_numpy(vectors), heard, atol=1e-5, rtol=0)


def test_what_is_kept_lies_most_of_the_way_to_what_was_learned() -> None:
    result = train_accents.between({"a": torch.tensor([1.0, 5.0])}, {"a": torch.tensor([2.0, 5.0])})
    torch.testing.assert_close(result["a"], torch.tensor([1.0 + train_accents.LEARNED, 5.0]))
    assert 0.5 < train_accents.LEARNED < 1
