"""The closed forms against their definitions, and the pseudo pairs against arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from multimodal.adapt.bridging import kernel, linear, mlp, pairs
from multimodal.adapt.bridging.checkpoint import BridgeCheckpoint
from multimodal.adapt.bridging.report import recall
from multimodal.core.projector import Projector


def cloud(n: int, dim: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 50))
def test_procrustes_turns_and_never_shears(into: int, out: int, seed: int) -> None:
    weight, _ = linear.procrustes(cloud(40, into, seed), cloud(40, out, seed + 1))
    square = weight @ weight.T if out <= into else weight.T @ weight
    assert np.allclose(square, square[0, 0] * np.eye(len(square)), atol=1e-9)


@given(st.integers(2, 9), st.integers(0, 50))
def test_procrustes_recovers_a_known_rotation(dim: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    rows, shift = cloud(50, dim, seed), rng.standard_normal(dim)
    weight, bias = linear.procrustes(rows, (3 * rows @ turn.T + shift).astype(np.float32))
    assert np.allclose(weight, 3 * turn, atol=1e-5)
    assert np.allclose(bias, shift, atol=1e-5)


def test_no_rotation_does_better_than_procrustes() -> None:
    rows, targets = cloud(60, 5), cloud(60, 5, seed=1)
    weight, bias = linear.procrustes(rows, targets)
    best = ((rows @ weight.T + bias - targets) ** 2).sum()
    rng = np.random.default_rng(0)
    scale = np.linalg.norm(weight, 2)
    for _ in range(300):
        turn, _ = np.linalg.qr(rng.standard_normal((5, 5)))
        moved = scale * (rows - rows.mean(0)) @ turn.T
        assert best <= ((moved - (targets - targets.mean(0))) ** 2).sum() + 1e-6


def by_hand(rows: np.ndarray, targets: np.ndarray, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    own, wanted = rows - rows.mean(0), targets - targets.mean(0)
    weight = np.linalg.solve(own.T @ own + penalty * np.eye(own.shape[1]), own.T @ wanted).T
    return weight, targets.mean(0) - weight @ rows.mean(0)


def test_ridge_chooses_the_penalty_with_the_least_leave_one_out_error() -> None:
    rng = np.random.default_rng(0)
    rows = cloud(30, 12).astype(np.float64)
    targets = rows @ rng.standard_normal((12, 4)) + 0.6 * rng.standard_normal((30, 4))
    spread = float((np.linalg.svd(rows - rows.mean(0), compute_uv=False) ** 2).mean())

    def left_out(penalty: float) -> float:
        total = 0.0
        for row in range(30):
            rest = np.arange(30) != row
            weight, bias = by_hand(rows[rest], targets[rest], penalty)
            total += float(((weight @ rows[row] + bias - targets[row]) ** 2).sum())
        return total

    best = min((share * spread for share in linear.PENALTIES), key=left_out)
    assert 1e-5 * spread < best < 10 * spread  # a case that tells the penalties apart
    weight, bias = linear.ridge(rows.astype(np.float32), targets.astype(np.float32))
    expected = by_hand(rows.astype(np.float32).astype(float), targets.astype(np.float32).astype(float), best)
    assert np.allclose(weight, expected[0], atol=1e-6)
    assert np.allclose(bias, expected[1], atol=1e-6)


def test_ridge_works_with_fewer_rows_than_dimensions() -> None:
    weight, bias = linear.ridge(cloud(20, 50), cloud(20, 8, seed=1))
    assert np.isfinite(weight).all() and np.isfinite(bias).all()


def test_a_soft_lookup_is_a_softmax_weighted_mean() -> None:
    texts, there = cloud(6, 4), cloud(6, 3, seed=1)
    row = cloud(1, 4, seed=2)
    weights = np.exp(7.0 * row @ texts.T)
    expected = (weights / weights.sum()) @ there
    assert np.allclose(
        pairs.soft_lookup(row, texts, there, 7.0), expected / np.linalg.norm(expected), atol=1e-6
    )


def test_a_soft_lookup_in_blocks_equals_one_row_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, there, rows = cloud(9, 4), cloud(9, 3, seed=1), cloud(25, 4, seed=2)
    monkeypatch.setattr(pairs, "BLOCK_ROWS", 7)
    together = pairs.soft_lookup(rows, texts, there, 30.0)
    assert np.allclose(
        together, np.concatenate([pairs.soft_lookup(rows[k : k + 1], texts, there, 30.0) for k in range(25)])
    )


def test_an_untrained_network_is_the_linear_map_alone() -> None:
    projector = Projector(6, 4, hidden=9)
    rows = torch.from_numpy(cloud(5, 6))
    assert torch.allclose(projector(rows), projector.linear(rows), atol=1e-6)


def test_the_shift_is_added_before_the_map() -> None:
    projector = Projector(3, 2)
    projector.shift.copy_(torch.tensor([0.5, 0.0, -1.0]))
    rows = torch.from_numpy(cloud(5, 3))
    moved = rows + projector.shift
    assert torch.allclose(
        projector(rows), projector.linear(moved / moved.norm(dim=1, keepdim=True)), atol=1e-6
    )


def test_a_kernel_regression_adds_the_weighted_mean_of_its_residuals() -> None:
    projector = Projector(4, 3, remembered=6)
    here, there = cloud(6, 4), cloud(6, 3, seed=1)
    projector.here.copy_(torch.from_numpy(here))
    projector.there.copy_(torch.from_numpy(there))
    projector.sharpness.fill_(7.0)
    row = cloud(1, 4, seed=2)
    weights = np.exp(7.0 * row @ here.T)
    expected = projector.linear(torch.from_numpy(row)).numpy(force=True) + weights / weights.sum() @ there
    assert np.allclose(projector(torch.from_numpy(row)).numpy(force=True), expected, atol=1e-6)


def test_the_kernel_regression_ignores_the_shift() -> None:
    projector, rows = Projector(4, 3, remembered=6), torch.from_numpy(cloud(5, 4))
    projector.here.copy_(torch.from_numpy(cloud(6, 4)))
    projector.there.copy_(torch.from_numpy(cloud(6, 3, seed=1)))
    remembered = projector(rows) - projector.linear(rows)
    projector.shift.copy_(torch.tensor([0.5, 0.0, -1.0, 0.2]))
    moved = torch.nn.functional.normalize(rows + projector.shift, dim=-1)
    assert torch.allclose(projector(rows) - projector.linear(moved), remembered, atol=1e-6)
    assert torch.allclose(projector.unshifted()(rows) - projector.linear(rows), remembered, atol=1e-6)


def test_rotated_copies_of_a_space_leave_no_residuals() -> None:
    rows = cloud(300, 6)
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))
    projector = kernel.fit_kernel(rows, (rows @ turn.T).astype(np.float32), 0)
    assert float(projector.there.abs().max()) < 1e-5
    assert np.allclose(projector.linear.weight.numpy(force=True), turn, atol=1e-4)


def test_stored_texts_are_found_again_from_perturbed_queries() -> None:
    own, wanted = cloud(400, 32), cloud(400, 24, seed=1)  # nothing in common
    projector = kernel.fit_kernel(own, wanted, 0)
    assert (kernel.perturbed(own, 3) * own).sum(1).mean() == pytest.approx(0.8, abs=0.02)
    with torch.no_grad():
        result = torch.nn.functional.normalize(
            projector(torch.from_numpy(kernel.perturbed(own, 3))), dim=-1
        ).numpy()
    assert recall(result, wanted)["R@1"] > 0.9


def test_the_inverse_temperature_has_the_best_leave_one_out_recall(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pairs of similar texts: each is found from its twin, best with a temperature that selects the twin alone."""
    rng = np.random.default_rng(0)
    here, there = np.repeat(cloud(100, 16), 2, axis=0), np.repeat(cloud(100, 12, seed=1), 2, axis=0)
    here, there = (pairs.unit(rows + 0.05 * rng.standard_normal(rows.shape)) for rows in (here, there))
    chosen = float(kernel.fit_kernel(here, there, 0).sharpness)
    rates = {}
    for inverse_temperature in kernel.INVERSE_TEMPERATURES:
        monkeypatch.setattr(kernel, "INVERSE_TEMPERATURES", (inverse_temperature,))
        projector = kernel.fit_kernel(here, there, 0)
        assert float(projector.sharpness) == inverse_temperature
        cosines = kernel.perturbed(here, 0) @ here.T
        np.fill_diagonal(cosines, -np.inf)
        mapped = projector.linear(torch.from_numpy(kernel.perturbed(here, 0))).detach().numpy()
        result = pairs.unit(mapped + pairs.softmax(inverse_temperature * cosines) @ projector.there.numpy())
        shares = recall(result, there)
        rates[inverse_temperature] = (shares["R@10"], shares["R@1"])
    assert rates[chosen] == max(rates.values()) > min(rates.values())


def test_a_large_corpus_is_stored_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "MAX_STORED", 50)
    projector = kernel.fit_kernel(cloud(80, 5), cloud(80, 4, seed=1), 0)
    assert (projector.remembered, projector.here.shape, projector.there.shape) == (50, (50, 5), (50, 4))


def test_items_drawn_twice_are_not_negatives() -> None:
    rows = torch.from_numpy(cloud(1, 5)).repeat(2, 1)
    assert mlp._contrastive_loss(rows, rows, torch.tensor([4, 4]), 0.1) == pytest.approx(0, abs=1e-6)
    assert mlp._contrastive_loss(rows, rows, torch.tensor([4, 7]), 0.1) == pytest.approx(np.log(2), abs=1e-6)


def test_the_contrastive_loss_is_symmetric_cross_entropy() -> None:
    rows, targets = torch.from_numpy(cloud(4, 5)), torch.from_numpy(cloud(4, 5, seed=1))
    logits = (rows @ targets.T / 0.1).numpy().astype(float)
    ways = [np.log(np.exp(side).sum(1)) - np.diagonal(side) for side in (logits, logits.T)]
    result = mlp._contrastive_loss(rows, targets, torch.arange(4), 0.1)
    assert result == pytest.approx(np.mean(ways), abs=1e-5)


def test_training_learns_what_no_linear_map_can() -> None:
    """Targets that depend on the sign of a product of two numbers."""
    rows = cloud(2000, 6)
    bent = np.concatenate([np.abs(rows[:, :3]), rows[:, 3:] * np.sign(rows[:, :3])], axis=1).astype(
        np.float32
    )
    bent /= np.linalg.norm(bent, axis=1, keepdims=True)
    projector = Projector(6, 6, hidden=64)
    weight, bias = linear.ridge(rows[:1500], bent[:1500])
    projector.linear.weight.data, projector.linear.bias.data = (
        torch.from_numpy(part).float().contiguous() for part in (weight, bias)
    )

    def mean_cosine() -> float:
        with torch.no_grad():
            moved = torch.nn.functional.normalize(projector(torch.from_numpy(rows[1500:])), dim=-1)
        return float((moved * torch.from_numpy(bent[1500:])).sum(1).mean())

    straight = mean_cosine()
    config = mlp.TrainingConfig(steps=300, batch=256, noise=0.0)
    mlp.train(
        projector,
        [pairs.TrainingPairs(rows[:1500], [bent[:1500]])],
        config,
        0,
        BridgeCheckpoint(None, {}),
        lambda step: None,
    )
    assert mean_cosine() > straight + 0.1
