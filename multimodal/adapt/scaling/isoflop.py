"""IsoFLOP curves: the loss over model size at equal compute, read off the runs without assuming the law."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from multimodal.adapt.scaling.runs import Runs
from multimodal.core.errors import InvalidInput

FLOPS = 6  # of training, per parameter and unit of data (Kaplan et al. 2020)
MIN_SIZES = 3  # of a curve


@dataclass(frozen=True)
class IsoFlop:
    """The runs at one amount of compute.

    Attributes:
        C: Compute in FLOPs.
        points: (N, loss) of each size, the loss interpolated between its runs.
        N: Size with the lowest loss, by a parabola in log N through the lowest point and its neighbours.
        loss: The loss there.
        is_interior: Whether sizes on both sides are worse. Otherwise the best size lies outside of the runs, and `N` is
            only the nearest.
    """

    C: float
    points: tuple[tuple[float, float], ...]
    N: float
    loss: float
    is_interior: bool

    @property
    def D(self) -> float:
        """Data at the best size."""
        return self.C / (FLOPS * self.N)


def isoflops(runs: Runs, budgets: Sequence[float] | None = None) -> tuple[IsoFlop, ...]:
    """The curves at some budgets.

    Args:
        runs: Runs in which each size was trained on several amounts of data.
        budgets: Compute in FLOPs; by default up to six, evenly spaced, at which at least four sizes can be compared, or
            three where four cannot.

    Raises:
        InvalidInput: If three sizes cannot be compared at any amount of compute, or at one that was asked for.
    """
    lines = _lines(runs)
    if budgets is None:
        budgets = _budgets(lines)
        if not budgets:
            raise InvalidInput(
                "no amount of compute at which three sizes can be compared: train at least three sizes on two or more "
                "amounts of data each, with overlapping compute"
            )
    return tuple(_curve(lines, float(budget)) for budget in budgets)


Line = tuple[float, "np.ndarray", "np.ndarray"]  # N, log C ascending, log loss


def _lines(runs: Runs) -> list[Line]:
    """The runs of each size; repeated runs are averaged."""
    lines = []
    for size in np.unique(runs.n_parameters):
        own = runs[runs.n_parameters == size]
        data = np.unique(own.data)
        log_loss = np.array([np.log(own.loss[own.data == amount]).mean() for amount in data])
        lines.append((float(size), np.log(FLOPS * size * data), log_loss))
    return lines


def _budgets(lines: list[Line]) -> list[float]:
    """Amounts of compute, evenly spaced in their logarithm, at which several sizes can be compared."""
    grid = np.linspace(min(line[1][0] for line in lines), max(line[1][-1] for line in lines), 400)
    n_sizes = np.array([sum(line[1][0] <= budget <= line[1][-1] for line in lines) for budget in grid])
    for enough in (MIN_SIZES + 1, MIN_SIZES):
        inside = grid[n_sizes >= enough]
        if len(inside):
            chosen: list[float] = np.exp(np.linspace(inside[0], inside[-1], 8)[1:-1]).tolist()
            return chosen
    return []


def _curve(lines: list[Line], budget: float) -> IsoFlop:
    at = np.log(budget)
    points = [
        (size, float(np.exp(np.interp(at, compute, log_loss))))
        for size, compute, log_loss in lines
        if compute[0] - 1e-9 <= at <= compute[-1] + 1e-9
    ]
    if len(points) < MIN_SIZES:
        raise InvalidInput(
            f"only {len(points)} sizes have runs around {budget:.3g} FLOPs; at least {MIN_SIZES} are needed: leave "
            "budgets out to have them chosen"
        )
    losses = np.array([loss for _, loss in points])
    lowest = int(losses.argmin())
    is_interior = 0 < lowest < len(points) - 1
    if not is_interior:
        return IsoFlop(budget, tuple(points), points[lowest][0], float(losses[lowest]), False)
    sizes = np.log([size for size, _ in points[lowest - 1 : lowest + 2]])
    a, b, c = np.polyfit(sizes - sizes[1], losses[lowest - 1 : lowest + 2], 2)
    step = -b / (2 * a) if a > 0 else 0.0
    return IsoFlop(
        budget, tuple(points), float(np.exp(sizes[1] + step)), float(c + b * step + a * step * step), True
    )
