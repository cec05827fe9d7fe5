"""The figures of mixed results, on worlds small enough to reckon by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fairness import calibration_error, ndcg, scored, top_ten
from recipes.starter.calibrate import fitted
from recipes.starter.mixed import Gallery, Queries

EYE = np.eye(20, dtype=np.float32)
GALLERY = Gallery(np.concatenate([EYE, EYE]), np.repeat([0, 1], 20), np.tile(np.arange(20), 2))
QUERIES = Queries(EYE[:5], np.eye(20, dtype=bool)[:5])


def test_a_perfect_order_scores_100_and_a_late_match_what_its_place_is_worth() -> None:
    _, right = top_ten(scored("plain cosine", QUERIES, GALLERY), QUERIES, GALLERY)
    assert ndcg(right, QUERIES, GALLERY) == pytest.approx(100)
    late = np.zeros((5, 10), bool)
    late[:, 2] = True
    assert ndcg(late, QUERIES, GALLERY) == pytest.approx(100 * 0.5 / (1 + 1 / np.log2(3)))


def test_the_shipped_calibration_finds_both_matches_too() -> None:
    order, right = top_ten(scored("multimodal", QUERIES, GALLERY), QUERIES, GALLERY)
    assert right[:, :2].all() and set(order[0, :2].tolist()) == {0, 20}


def test_the_calibration_error_is_how_far_told_is_from_true() -> None:
    right = np.arange(1000) % 4 == 0
    assert calibration_error(np.full(1000, 0.25), right) == pytest.approx(0)
    assert calibration_error(np.full(1000, 0.95), right) == pytest.approx(0.7)


def test_the_fit_finds_the_constants_that_made_the_matches() -> None:
    rng = np.random.default_rng(0)
    outstanding = rng.normal(4, 2, 200_000)
    offsets = np.full(len(outstanding), -6.0)
    matches = rng.random(len(outstanding)) < 1 / (1 + np.exp(-(1.5 * outstanding - 2 + offsets)))
    assert fitted(outstanding, offsets, matches) == pytest.approx((1.5, -2), abs=0.06)
