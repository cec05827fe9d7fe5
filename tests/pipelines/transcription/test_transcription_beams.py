"""CTC decoding against every path counted one by one, and against torch's own loss."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.pipelines.transcription.backends import char_lm as letters
from multimodal.pipelines.transcription.ctc_decoding import align, beam_search, forward_scores, greedy


def table(seed: int, steps: int, classes: int, sharp: float = 1.0) -> np.ndarray:
    logits = sharp * np.random.default_rng(seed).standard_normal((steps, classes))
    return np.asarray(torch.log_softmax(torch.from_numpy(logits), 1).numpy(), dtype=np.float32)


def folded(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(item for item, _ in itertools.groupby(path) if item)


def every_reading(logs: np.ndarray) -> dict[tuple[int, ...], float]:
    """{reading: probability}, over all paths."""
    result: defaultdict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(logs.shape[1]), repeat=len(logs)):
        result[folded(path)] += math.exp(sum(float(logs[step, item]) for step, item in enumerate(path)))
    return result


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 4))
def test_a_wide_search_finds_every_reading_with_its_probability(seed: int, steps: int, classes: int) -> None:
    logs = table(seed, steps, classes)
    truth = every_reading(logs)
    result = beam_search(logs, len(truth))
    assert {reading for reading, _ in result} == set(truth)
    for reading, log in result:
        assert math.isclose(math.exp(log), truth[reading], rel_tol=1e-4)
    assert [log for _, log in result] == sorted((log for _, log in result), reverse=True)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_letters_that_weigh_in_change_the_order_as_they_should(seed: int, steps: int) -> None:
    logs = table(seed, steps, 3)

    def model(prefix: tuple[int, ...], label: int) -> float:
        return 0.7 * label - 0.3 * len(prefix)

    def bonus(reading: tuple[int, ...]) -> float:
        return sum(model(reading[:place], item) for place, item in enumerate(reading))

    truth = {reading: math.log(p) + bonus(reading) for reading, p in every_reading(logs).items()}
    best, score = beam_search(logs, len(truth), model)[0]
    assert math.isclose(score, max(truth.values()), abs_tol=1e-3)
    assert math.isclose(truth[best], score, abs_tol=1e-3)


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_the_greedy_reading_is_the_likeliest_path(seed: int, steps: int) -> None:
    logs = table(seed, steps, 4, sharp=3)
    result = greedy(logs)
    assert tuple(item for item, _, _ in result) == folded(tuple(logs.argmax(1).tolist()))
    for item, start, end in result:
        assert (logs[start:end].argmax(1) == item).all()


@given(st.integers(0, 10_000))
def test_forward_scores_are_minus_torchs_loss(seed: int) -> None:
    logs = table(seed, 12, 6)
    rng = np.random.default_rng(seed)
    readings = [rng.integers(1, 6, rng.integers(1, 5)).tolist() for _ in range(4)]
    losses = [
        float(
            torch.nn.functional.ctc_loss(
                torch.from_numpy(logs)[:, None],
                torch.tensor([reading]),
                torch.tensor([12]),
                torch.tensor([len(reading)]),
                reduction="none",
            )[0]
        )
        for reading in readings
    ]
    assert np.allclose(forward_scores(logs, readings), -np.array(losses), atol=1e-4)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_forward_scores_are_the_sums_over_all_paths(seed: int, steps: int) -> None:
    logs = table(seed, steps, 3)
    truth = every_reading(logs)
    readings = sorted(truth)
    assert np.allclose(
        np.exp(forward_scores(logs, readings)), [truth[reading] for reading in readings], rtol=1e-4
    )


def test_a_reading_that_needs_more_steps_is_impossible() -> None:
    assert forward_scores(table(0, 2, 3), [[1, 1], [1, 2]])[0] == -np.inf  # a blank must stand between
    assert np.isfinite(forward_scores(table(0, 2, 3), [[1, 2]])[0])


@given(st.integers(0, 10_000), st.integers(3, 6))
def test_an_alignment_is_the_likeliest_path_that_reads_so(seed: int, steps: int) -> None:
    logs = table(seed, steps, 3, sharp=2)
    reading = (1, 1) if seed % 2 else (1, 2)
    paths = [path for path in itertools.product(range(3), repeat=steps) if folded(path) == reading]
    best = max(paths, key=lambda path: sum(float(logs[step, item]) for step, item in enumerate(path)))
    truth = []
    for step, (item, before) in enumerate(zip(best, (0, *best), strict=False)):
        if item and item != before:
            truth.append((step, step + 1))
        elif item:
            truth[-1] = (truth[-1][0], step + 1)
    assert align(logs, reading) == truth


# --- letters -----------------------------------------------------------------------------------------


def test_likelihoods_of_all_letters_sum_to_one() -> None:
    shipped = letters.shipped_char_lm()
    rng = np.random.default_rng(0)
    for size in range(letters.ORDER):
        before = tuple(rng.integers(1, letters.BASE, size).tolist())
        total = sum(shipped.likelihood(before, number) for number in range(1, letters.BASE))
        assert total == pytest.approx(1, abs=0.02)  # counts are kept to 4 %


def test_a_word_of_the_training_is_likelier_than_its_letters_shuffled() -> None:
    shipped = letters.shipped_char_lm()

    def score(text: str) -> float:
        run = tuple(1 + letters.ALPHABET.index(item) for item in text)
        return sum(shipped(run[:place], item) for place, item in enumerate(run))

    assert score("elephant") > score("tnahpele") + 5


@given(
    st.dictionaries(st.lists(st.integers(1, 38), min_size=1, max_size=6).map(tuple), st.integers(1, 10**6))
)
def test_counts_are_kept_to_four_percent(counts: dict[tuple[int, ...], int]) -> None:
    kept = letters.unpack_counts(letters.pack_counts(counts))
    assert set(kept) == set(counts)
    assert all(abs(kept[run] / count - 1) < 0.045 for run, count in counts.items())
