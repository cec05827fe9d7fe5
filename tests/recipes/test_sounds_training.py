"""The speech tower's training on sounds: what they are to match, speech in noise, and how the weights are chosen."""

import json
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import multimodal as mm
from multimodal.auditing.generators.audio import RATE_HZ, damage_audio
from multimodal.encoders.starter.networks import AudioTower
from multimodal.encoders.starter.preprocessing import log_mel
from recipes.starter.data import prepare_sounds, sounds, speech_noise
from recipes.starter.data.speech_noise import Damage, log_mels, powers
from recipes.starter.towers import train_sounds

WORLD = [*sorted({concept for concepts in prepare_sounds.CONCEPTS.values() for concept in concepts}), "pizza"]


class Anchors:
    """A random unit vector of each text."""

    names = WORLD

    def __init__(self) -> None:
        self.name_vectors = self.encode(WORLD)

    def encode(self, texts: list[str]) -> torch.Tensor:
        rows = [
            torch.from_numpy(np.random.default_rng(sum(map(ord, text))).standard_normal(256))
            for text in texts
        ]
        return F.normalize(torch.stack(rows).float(), dim=-1)


def noise(seed: int, seconds: float = 0.6) -> np.ndarray:
    """A band that comes and goes."""
    rng = np.random.default_rng(seed)
    clock = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    tone = np.sin(2 * np.pi * rng.uniform(200, 3000) * clock) * (
        np.sin(2 * np.pi * rng.uniform(2, 6) * clock) > 0
    )
    return (tone + 0.01 * rng.standard_normal(len(clock))).astype(np.float32)


def test_only_classes_are_mapped_and_no_concept_answers_many_of_them() -> None:
    assert set(prepare_sounds.CONCEPTS) <= set(sounds.KINDS)
    answers = Counter(chain.from_iterable(prepare_sounds.CONCEPTS.values()))
    assert max(answers.values()) <= 3


def test_log_mels_survive_the_way_to_powers_and_back() -> None:
    mel = log_mel(noise(1))[None]
    assert torch.allclose(log_mels(powers(mel) + 1e-8), mel, atol=2e-3)


def test_babble_mixed_in_powers_is_near_babble_mixed_in_samples() -> None:
    """Both lower the contrast of a clip as much."""
    voices = [noise(seed) for seed in range(5)]
    mixed = log_mel(damage_audio(voices[0], "babble", 3, voices[1:], seed=2))
    damage, power = Damage(0), powers(torch.stack([log_mel(voice) for voice in voices]))
    lengths = torch.full((5,), power.shape[1])
    behind = damage.babble(power, lengths, 0)
    level = power[0].mean() / behind.mean() / 10 ** (5.0 / 10)
    ours = log_mels((power[0] + behind * level)[None])[0]
    assert abs(float(mixed.mean() - ours.mean())) < 0.25
    assert float(ours.mean()) > float(log_mel(voices[0]).mean())


def test_damage_leaves_some_clips_as_they_are_and_says_which_can_be_understood() -> None:
    mels = torch.stack([log_mel(noise(seed)) for seed in range(40)])
    lengths = torch.full((40,), mels.shape[1])
    damaged, plain, legible = Damage(1)(mels.clone(), lengths, [log_mel(noise(50, 0.3))])
    assert torch.equal(damaged[plain], mels[plain]) and 5 < int(plain.sum()) < 30
    assert not torch.isclose(damaged[~plain], mels[~plain]).flatten(1).all(1).any()
    assert bool(legible[plain].all()) and not bool(legible.all())
    assert float(damaged.min()) >= -1 and float(damaged.max()) <= 1 and bool(torch.isfinite(damaged).all())


def test_a_narrow_band_keeps_nothing_below_it() -> None:
    hertz = speech_noise.band_hz()
    assert 60 < float(hertz[0]) < 130 and 7000 < float(hertz[-1]) < 7600 and bool((hertz.diff() > 0).all())


def test_the_losses_of_sounds_are_least_where_a_sound_lies_at_its_texts() -> None:
    goals = train_sounds.Goals(Anchors())  # type: ignore[arg-type]
    assert torch.allclose(goals.open_right.sum(1), torch.ones(50))
    kinds = torch.arange(50)
    images = goals.open_names[50:]
    right, wrong = (
        sum(goals.losses(vectors, kinds, images).values())
        for vectors in (goals.texts, goals.texts.roll(1, 0))
    )
    assert float(right) < 0.5 * float(wrong)


def test_the_starter_names_sounds_with_new_parameters_and_writes_nothing_down_for_some() -> None:
    space, classes = mm.load("starter"), list(sounds.KINDS)
    some = np.arange(1, 50, 2)
    clips = {
        classes[row]: mm.Audio((sounds.sound(classes[row], np.random.default_rng(5), judging=True), RATE_HZ))
        for row in some
    }
    scores = space.encode(list(clips.values())) @ space.encode(classes).T
    assert (scores.argmax(1) == some).mean() >= 0.8
    assert (scores[:, some].argmax(0) == np.arange(len(some))).mean() >= 0.8
    transcribe = mm.pipeline("transcription", model=space)
    silent = ("alarm clock", "siren", "dial tone", "ship horn")
    assert [transcribe(clips[name]).text for name in silent] == [""] * 4


def test_renders_repeat_and_judge_with_other_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {name: sounds.KINDS[name] for name in ("beep", "rain")}
    monkeypatch.setattr(prepare_sounds, "KINDS", some)
    prepare_sounds.render(tmp_path / "a.npz", 2, 1)
    prepare_sounds.render(tmp_path / "b.npz", 2, 1, judging=True)
    first, judged = (prepare_sounds.Sounds(tmp_path / f"{name}.npz") for name in "ab")
    assert first.kinds.tolist() == [0, 1, 0, 1] and len(judged) == 4
    assert first.clip(0).shape[1] == 64 and not torch.equal(first.clip(0)[:50], judged.clip(0)[:50])


def test_the_factor_with_the_best_sounds_is_chosen_among_those_that_keep_speech(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = ({"weight": torch.full((2,), value)} for value in (0.0, 1.0))
    torch.save(before, tmp_path / "audio_accents.pt")
    torch.save(after, tmp_path / "audio_after.pt")

    class Tower(AudioTower):
        def load_state_dict(self, state: dict, *args: object, **kwargs: object) -> None:  # type: ignore[override, type-arg]
            self.factor = float(state["weight"][0])

    def watch(tower: Tower) -> dict[str, float]:
        return {
            "sound to name R@1": 90 * tower.factor,
            "slt to name R@1": 80 - 20 * max(0.0, tower.factor - 0.5),
        }

    monkeypatch.setattr(train_sounds, "AudioTower", Tower)
    monkeypatch.setattr(train_sounds, "Anchors", lambda work: None)
    monkeypatch.setattr(train_sounds, "Goals", lambda anchors: None)
    monkeypatch.setattr(train_sounds, "Watch", lambda *args, **kwargs: watch)
    assert train_sounds.choose(tmp_path) == 0.6
    assert json.loads((tmp_path / "audio_factors.json").read_text())["chosen"] == 0.6
    assert torch.load(tmp_path / "audio_final.pt")["weight"][0] == pytest.approx(0.6)
