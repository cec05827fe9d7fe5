"""Every loss against a loop in numpy, and the gradient in parts against the plain one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from multimodal.adapt.finetuning.gradients import Devices, backward
from multimodal.adapt.finetuning.losses import clip_loss, make_loss, pull, siglip_loss
from multimodal.core.errors import InvalidInput

Rows = NDArray[np.float64]
SCALE, BIAS = 9.0, -3.0


def unit(n: int, dim: int = 6, seed: int = 0) -> Rows:
    rows = np.random.default_rng(seed).normal(size=(n, dim))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def matches(n: int, n_negatives: int = 0, same: Sequence[tuple[int, int]] = ()) -> NDArray[np.bool_]:
    result = np.eye(n, n + n_negatives, dtype=bool)
    for i, j in same:
        result[i, j] = result[j, i] = True
    return result


def cross_entropy(logits: Rows, positives: NDArray[np.bool_]) -> float:
    """Row by row: minus the mean log-probability of the positives."""
    total = 0.0
    for row, marks in zip(logits, positives, strict=True):
        normaliser = math.log(sum(math.exp(logit) for logit in row))
        total += float(np.mean([normaliser - logit for logit, mark in zip(row, marks, strict=True) if mark]))
    return total / len(logits)


def clip_oracle(a: Rows, b: Rows, positives: NDArray[np.bool_]) -> float:
    logits, n = SCALE * a @ b.T, len(a)
    return (cross_entropy(logits, positives) + cross_entropy(logits[:, :n].T, positives[:, :n].T)) / 2


def siglip_oracle(a: Rows, b: Rows, positives: NDArray[np.bool_]) -> float:
    total = 0.0
    for i in range(len(a)):
        for j in range(len(b)):
            logit = SCALE * float(a[i] @ b[j]) + BIAS
            total += math.log(1 + math.exp(-logit if positives[i, j] else logit))
    return total / len(a)


CASES = {
    "pairs": (5, 0, []),
    "several positives": (6, 0, [(0, 3), (1, 4), (0, 5)]),
    "hard negatives": (4, 3, []),
    "both": (5, 2, [(2, 4)]),
}


@pytest.mark.parametrize("name", CASES)
def test_the_losses_equal_their_definition(name: str) -> None:
    n, n_negatives, same = CASES[name]
    a, b, positives = unit(n), unit(n + n_negatives, seed=1), matches(n, n_negatives, same)
    tensors = (torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(positives))
    assert float(clip_loss(*tensors, scale=SCALE)) == pytest.approx(clip_oracle(a, b, positives), abs=1e-10)
    sigmoid = float(siglip_loss(*tensors, scale=SCALE, bias=BIAS))
    assert sigmoid == pytest.approx(siglip_oracle(a, b, positives), abs=1e-10)


def test_matryoshka_is_the_mean_over_prefixes_of_length_one() -> None:
    a, b, positives = unit(5), unit(5, seed=1), matches(5)
    expected = []
    for dim in (2, 4, 6):
        short = [rows[:, :dim] / np.linalg.norm(rows[:, :dim], axis=1, keepdims=True) for rows in (a, b)]
        expected.append(clip_oracle(short[0], short[1], positives))
    loss = make_loss("clip", SCALE, BIAS, (4, 2), 6)
    value = float(loss(torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(positives)))
    assert value == pytest.approx(np.mean(expected), abs=1e-10)
    with pytest.raises(InvalidInput, match="prefixes of 1 to 6 dimensions, got \\[7\\]"):
        make_loss("clip", SCALE, BIAS, (7,), 6)


def test_the_pull_is_zero_where_nothing_moved() -> None:
    rows = torch.from_numpy(unit(4))
    assert float(pull(rows, rows)) == pytest.approx(0.0, abs=1e-12)
    assert float(pull(rows, -rows)) == pytest.approx(2.0)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(InvalidInput, match="loss must be 'clip', 'siglip' or 'auto', got 'triplet'"):
        make_loss("triplet", SCALE, BIAS, None, 6)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("chunk", [1, 3, 8])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(kind: str, chunk: int) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    constants = torch.from_numpy(unit(10, dim=4))
    positives = torch.from_numpy(matches(8, 2, [(1, 6)]))
    loss = make_loss(kind, SCALE, BIAS, None, 4)

    def gradient(size: int) -> tuple[torch.Tensor, float]:
        weight = torch.linspace(-1, 1, 20, dtype=torch.float64).reshape(4, 5).requires_grad_(True)

        def first(positions: Sequence[int]) -> torch.Tensor:
            return torch.nn.functional.normalize(torch.tanh(inputs[list(positions)] @ weight.T), dim=1)

        def second(positions: Sequence[int]) -> torch.Tensor:
            return constants[list(positions)]

        value = backward(lambda a, b: loss(a, b, positives), (first, second), (8, 10), size, Devices())
        assert weight.grad is not None
        return weight.grad, value

    plain, in_parts = gradient(16), gradient(chunk)
    assert in_parts[1] == pytest.approx(plain[1], abs=1e-12)
    assert float((plain[0] - in_parts[0]).abs().max()) < 1e-6
    assert float(plain[0].abs().max()) > 1e-3
