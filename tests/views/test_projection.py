"""Projection to the plane: PCA against its definition, UMAP by what it must keep, and centring of each modality."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.core.errors import InvalidInput, MissingExtra
from multimodal.views import projection


def cloud(n: int, dim: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clusters(n: int = 12, dim: int = 8) -> np.ndarray:
    """Three tight groups of n, one after another."""
    centres, rng = cloud(3, dim), np.random.default_rng(1)
    rows = np.concatenate([centre + 0.03 * rng.standard_normal((n, dim)) for centre in centres])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def nearest(positions: np.ndarray) -> np.ndarray:
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return np.asarray(apart.argmin(axis=1))


@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 20))
def test_pca_keeps_what_the_two_largest_singular_values_keep(n: int, dim: int, seed: int) -> None:
    rows = cloud(n, dim, seed)
    plane = projection.project(rows, "pca", 0)
    left, values, _ = np.linalg.svd(rows.astype(float) - rows.mean(0, dtype=float), full_matrices=False)
    expected = (left * values)[:, :2]
    if dim == 1:
        expected = np.column_stack([expected, np.zeros(n)])
    size = np.ptp(plane.positions, axis=0).max()
    scale = np.ptp(expected, axis=0).max()
    apart, wanted = (
        np.linalg.norm(points[:, None] - points[None], axis=2) for points in (plane.positions, expected)
    )
    if scale > 1e-6:
        assert np.allclose(apart / size, wanted / scale, atol=1e-4)
        assert plane.explained_variance == pytest.approx(
            (values[:2] ** 2).sum() / (values**2).sum(), abs=1e-4
        )


@given(st.integers(2, 30), st.integers(0, 20))
def test_places_fill_the_unit_square_and_keep_their_proportions(n: int, seed: int) -> None:
    positions = projection.project(cloud(n, 5, seed), "pca", 0).positions
    assert positions.min() >= -1e-9 and positions.max() <= 1 + 1e-9
    assert np.ptp(positions, axis=0).max() == pytest.approx(1)
    assert (positions.min(axis=0) + positions.max(axis=0)) / 2 == pytest.approx(0.5)


def test_the_same_rows_in_another_order_give_the_same_image() -> None:
    rows = cloud(30, 6)
    order = np.random.default_rng(0).permutation(30)
    first, second = (
        projection.project(rows, "pca", 0).positions,
        projection.project(rows[order], "pca", 0).positions,
    )
    assert np.allclose(first[order], second, atol=1e-6)


def test_items_that_are_all_alike_lie_in_the_middle() -> None:
    assert (projection.project(np.ones((5, 3), np.float32), "pca", 0).positions == 0.5).all()


def test_umap_keeps_neighbours_together_and_repeats_with_its_seed() -> None:
    pytest.importorskip("umap")
    rows = clusters(6)
    plane = projection.project(rows, "umap", 3)
    assert plane.method == "umap" and plane.fallback_reason is None
    group = np.repeat([0, 1, 2], 6)
    assert (group[nearest(plane.positions)] == group).mean() > 0.9
    assert np.array_equal(projection.project(rows, "umap", 3).positions, plane.positions)


def test_without_umap_the_map_is_drawn_by_pca_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "umap" else find(name))
    plane = projection.project(clusters(), "auto", 0)
    assert (plane.method, plane.fallback_reason) == (
        "pca",
        "umap-learn is not installed (pip install 'multimodal[map]')",
    )
    assert projection.project(clusters(), "pca", 0).fallback_reason is None
    with pytest.raises(
        MissingExtra, match=r"^a map by UMAP needs umap-learn: pip install 'multimodal\[map\]'$"
    ):
        projection.project(clusters(), "umap", 0)


def test_few_items_are_drawn_by_pca(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: find("json") if name == "umap" else find(name)
    )
    assert projection.project(cloud(14, 4), "auto", 0).fallback_reason == "14 items are too few for UMAP"
    with pytest.raises(
        InvalidInput, match=r"^UMAP needs at least 15 items, got 14; use method='pca' \(--method pca\)$"
    ):
        projection.project(cloud(14, 4), "umap", 0)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"^method must be one of 'auto', 'umap', 'pca', got 'tsne'$"):
        projection.project(cloud(20, 4), "tsne", 0)


def test_centring_takes_each_kinds_mean_away() -> None:
    rows, kinds = cloud(40, 6), ["text"] * 25 + ["image"] * 15
    rows[25:] = 0.2 * rows[25:] + np.array([1, 0, 0, 0, 0, 0], np.float32)  # far from the texts
    moved = projection.centred(rows, kinds)
    assert np.allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    expected = rows[25:] - rows[25:].mean(axis=0)
    assert np.allclose(moved[25:], expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_centring_lets_matching_items_of_two_kinds_meet() -> None:
    """Twenty things as texts and again as pictures, the pictures moved far away by a gap: on the map without centring
    every text's neighbour is a text; with it, it is its own picture."""
    meanings = cloud(20, 16)
    gap = 3 * cloud(1, 16, seed=9)
    images = meanings + gap
    rows = np.concatenate([meanings, images / np.linalg.norm(images, axis=1, keepdims=True)]).astype(
        np.float32
    )
    kinds = ["text"] * 20 + ["image"] * 20
    across = np.roll(np.arange(40), 20)
    near = {
        centre: (
            nearest(
                projection.project(projection.centred(rows, kinds) if centre else rows, "pca", 0).positions
            )
            >= 20
        )[:20].mean()
        for centre in (True, False)
    }
    assert near[False] == 0.0
    assert near[True] > 0.6
    assert (nearest(projection.centred(rows, kinds)) == across).mean() > 0.9


def test_a_kind_with_one_item_does_not_vanish() -> None:
    moved = projection.centred(cloud(6, 4), ["text"] * 5 + ["image"])
    assert np.linalg.norm(moved[5]) == pytest.approx(1)
