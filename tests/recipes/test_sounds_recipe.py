"""Synthetic sounds: fifty distinguishable classes, drawn with parameters that training leaves out to judge."""

import numpy as np
import pytest

from multimodal.encoders.starter.preprocessing import log_mel
from recipes.starter.data import sounds
from recipes.starter.data.sound_parts import HELD_OUT, Dial

TAKES = 2  # of each class, to learn from
SOME = list(sounds.KINDS)[::2]


def summary(samples: np.ndarray) -> np.ndarray:
    """How loud each band of a sound is, how much that changes, and how fast."""
    mel = log_mel(samples).numpy()
    return np.concatenate([mel.mean(0), mel.std(0), np.abs(np.diff(mel, axis=0)).mean(0)])


def test_there_are_fifty_classes_each_with_its_own_descriptions() -> None:
    described = [text for kind in sounds.KINDS.values() for text in kind.descriptions]
    assert len(sounds.KINDS) == 50 and len(described) == 100
    assert len({*sounds.KINDS, *described}) == 150


def test_parameters_that_judge_are_never_drawn_in_training() -> None:
    rng = np.random.default_rng(0)
    trained, judged = ([Dial(rng, judging)(0, 1) for _ in range(300)] for judging in (False, True))
    first, last = HELD_OUT
    assert all(first <= place <= last for place in judged)
    assert not any(first < place < last for place in trained)
    assert min(trained) < 0.1 and max(trained) > 0.9


@pytest.mark.parametrize("name", SOME[::5])
def test_a_sound_repeats_with_its_seed_and_differs_with_another(name: str) -> None:
    first, again, other = (sounds.sound(name, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first[:8_000], other[:8_000])


def test_most_sounds_with_new_parameters_are_nearest_to_their_own_class() -> None:
    rng = np.random.default_rng(3)
    learned, asked = [], []
    for name in SOME:
        takes = [sounds.sound(name, rng) for _ in range(TAKES)]
        judged = sounds.sound(name, rng, judging=True)
        for samples in (*takes, judged):
            assert samples.dtype == np.float32 and 24_000 <= len(samples) <= 64_000
            assert np.isfinite(samples).all() and 0.89 < np.abs(samples).max() < 0.91
        learned.append([summary(samples) for samples in takes])
        asked.append(summary(judged))
    bank = np.array(learned)
    scale = bank.std((0, 1)) + 1e-6
    distances = np.abs((bank[None] - np.array(asked)[:, None, None]) / scale).mean(-1).min(-1)
    assert (distances.argmin(1) == np.arange(len(asked))).mean() >= 0.7  # chance: 0.04
