"""The figures of mixed results, on worlds small enough to reckon by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fairness import absent, rejection
from benchmarks.harness.fairness_figures import calibration_error, ndcg, perfect, scored, top_ten
from recipes.starter.figures.calibrate import Examples, fitted
from recipes.starter.figures.galleries import Gallery, Queries, World

EYE = np.eye(20, dtype=np.float32)
GALLERY = Gallery(np.concatenate([EYE, EYE]), np.repeat([0, 1], 20), np.tile(np.arange(20), 2))
QUERIES = Queries(EYE[:5], np.eye(20, dtype=bool)[:5], 0)


def test_a_perfect_order_scores_100_and_a_late_match_what_its_place_is_worth() -> None:
    _, right = top_ten(scored("plain cosine", QUERIES, GALLERY), QUERIES, GALLERY)
    assert ndcg(right, QUERIES, GALLERY) == pytest.approx(100)
    late = np.zeros((5, 10), bool)
    late[:, 2] = True
    assert ndcg(late, QUERIES, GALLERY) == pytest.approx(100 * 0.5 / (1 + 1 / np.log2(3)))


def test_the_shipped_calibration_finds_both_matches_too() -> None:
    order, right = top_ten(scored("multimodal", QUERIES, GALLERY), QUERIES, GALLERY)
    assert right[:, :2].all() and set(order[0, :2].tolist()) == {0, 20}


def test_the_calibration_error_is_the_gap_between_predicted_and_true() -> None:
    right = np.arange(1000) % 4 == 0
    assert calibration_error(np.full(1000, 0.25), right) == pytest.approx(0)
    assert calibration_error(np.full(1000, 0.95), right) == pytest.approx(0.7)


def test_the_fit_finds_the_constants_that_made_the_matches() -> None:
    rng = np.random.default_rng(0)
    outstanding = rng.normal(4, 2, 200_000)
    offsets = np.full(len(outstanding), -6.0)
    matches = rng.random(len(outstanding)) < 1 / (1 + np.exp(-(1.5 * outstanding - 2 + offsets)))
    given = Examples(outstanding, offsets, matches, np.ones(len(matches)))
    assert fitted(given) == pytest.approx((1.5, -2), abs=0.06)


def test_nothing_that_keeps_each_modalitys_order_does_better_than_perfect() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 8)).astype(np.float32)
    gallery = Gallery(vectors, np.repeat([0, 1, 2], 20), np.tile(np.arange(20), 3))
    queries = Queries(rng.normal(size=(20, 8)).astype(np.float32), np.eye(20, dtype=bool), 0)
    own = [rng.permutation(np.repeat([0, 1, 2], 20)) for _ in range(200)]
    orders = [np.argsort(-(queries.vectors @ vectors[gallery.kinds == kind].T), 1) for kind in range(3)]
    best = 0.0
    for turns in own:  # ways to take from the three orders by turns, each the same for all queries
        taken = np.stack([20 * kind + orders[kind][:, (turns[:place] == kind).sum()]
                          for place, kind in enumerate(turns[:10])], 1)  # fmt: skip
        right = queries.about[np.arange(20)[:, None], gallery.concepts[taken]]
        best = max(best, ndcg(right, queries, gallery))
    assert 0 < best <= perfect(queries, gallery) <= 100
    assert perfect(QUERIES, GALLERY) == pytest.approx(100)


def test_what_is_taken_away_is_not_found_and_what_stays_is() -> None:
    """Every concept at right angles to the others: what is absent resembles nothing."""
    count = 600
    eye = np.eye(count, dtype=np.float32)
    kinds = [Queries(eye, np.eye(count, dtype=bool), kind) for kind in range(3)]
    gallery = Gallery(np.tile(eye, (3, 1)), np.repeat([0, 1, 2], count), np.tile(np.arange(count), 3))
    names = [str(row) for row in range(count)]
    world = World(
        names, ["one"] * 300 + ["other"] * 300, {"name": kinds[0], "rms": kinds[2]}, gallery, gallery, 1.0
    )
    half = world.halves()[1]
    gone = absent(world, half, families=False)
    assert (gone & half).sum() == 200
    result = rejection(world, half, ("name", "rms"), families=False)
    for name in ("name", "rms"):
        assert result[name]["at 0.87"] == {"false accept": 0.0, "recall": 1.0, "right": 1.0}


def test_a_whole_family_is_taken_away_at_once() -> None:
    names = [str(row) for row in range(1000)]
    families = [str(row // 50) for row in range(1000)]
    world = World(names, families, {}, GALLERY, GALLERY, 1.0)
    gone = absent(world, world.halves()[1], families=True)
    assert (gone & world.halves()[1]).sum() >= 200
    assert {gone[np.array(families) == family].mean() for family in set(families)} == {0.0, 1.0}
