"""A fitted scaling law: its parameters with intervals, predictions, the compute-optimal size, and a report."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from multimodal.adapt.scaling.isoflop import FLOPS, IsoFlop, isoflops
from multimodal.adapt.scaling.plot import isoflop_plot, loss_plot
from multimodal.adapt.scaling.runs import Runs
from multimodal.core.errors import InvalidInput

INTERVAL = (10, 90)  # percentiles: an 80 % interval
PARAMETERS = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True)
class Estimate:
    """A number with its 80 % interval by bootstrap over the runs.

    Attributes:
        value: The number.
        low: Lower end of the interval; equal to `value` where nothing was resampled.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g}–{self.high:.3g})"


@dataclass(frozen=True)
class ComputeOptimal:
    """The best use of an amount of compute, by the law.

    Attributes:
        C: Compute in FLOPs, 6 N D.
        N: Parameters.
        D: Units of data.
        loss: The loss they reach.
        is_extrapolated: Whether N or D lies outside of the runs that were fitted.
    """

    C: float
    N: Estimate
    D: Estimate
    loss: Estimate
    is_extrapolated: bool


@dataclass(frozen=True)
class ScalingLaw:
    """L(N, D) = E + A / N^alpha + B / D^beta.

    Attributes:
        E: Loss that neither size nor data removes.
        A: Coefficient of size.
        B: Coefficient of data.
        alpha: Exponent of size.
        beta: Exponent of data.
        r2: Share of the variance of the log loss that the law explains.
        error: Mean relative error of the loss on the fitted runs.
        n_runs: How many runs were fitted.
        notes: What to be careful about.
    """

    E: Estimate
    A: Estimate
    B: Estimate
    alpha: Estimate
    beta: Estimate
    r2: float
    error: float
    n_runs: int
    notes: tuple[str, ...]
    runs: Runs = field(repr=False, compare=False)
    samples: NDArray[np.float64] = field(repr=False, compare=False)

    @overload
    def predict(self, N: float, D: float) -> float: ...
    @overload
    def predict(self, N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]: ...
    def predict(self, N: ArrayLike, D: ArrayLike) -> float | NDArray[np.float64]:
        """The loss of models of N parameters trained on D units of data.

        Args:
            N: Parameters; a number or an array.
            D: Data, in the unit of the runs.

        Returns:
            A float for two numbers, otherwise an array of their common shape.

        Raises:
            InvalidInput: If N or D is not above 0.
        """
        loss = law_at(self._row(), _positive(N, "N"), _positive(D, "D"))
        return float(loss) if loss.ndim == 0 else loss

    def interval(self, N: float, D: float) -> Estimate:
        """The loss at N and D with its 80 % interval.

        Args:
            N: Parameters.
            D: Data.

        Raises:
            InvalidInput: If N or D is not above 0.
        """
        size, data = _positive(N, "N"), _positive(D, "D")
        samples = [float(law_at(row, size, data)) for row in self.samples]
        return estimate(float(law_at(self._row(), size, data)), samples)

    def compute_optimal(self, C: float) -> ComputeOptimal:
        """The size and the amount of data that reach the lowest loss with C FLOPs of training (C = 6 N D).

        Args:
            C: Compute in FLOPs.

        Raises:
            InvalidInput: If C is not above 0, or if the law has no optimum because an exponent is not above 0.
        """
        budget = float(_positive(C, "C"))
        if min(self.alpha.value, self.beta.value) <= 0:
            raise InvalidInput(
                f"the law has no compute-optimal size: alpha is {self.alpha.value:.3g} and beta {self.beta.value:.3g}, "
                "but both must be above 0. Fit runs over a wider range of N and D"
            )
        size, loss = _optimum(self._row(), budget)
        others = [_optimum(row, budget) for row in self.samples if row[3] > 0 and row[4] > 0]
        sizes = [other for other, _ in others]
        data = budget / (FLOPS * size)
        is_inside = (
            self.runs.n_parameters.min() <= size <= self.runs.n_parameters.max()
            and self.runs.data.min() <= data <= self.runs.data.max()
        )
        return ComputeOptimal(
            C=budget,
            N=estimate(size, sizes),
            D=estimate(data, [budget / (FLOPS * other) for other in sizes]),
            loss=estimate(loss, [other for _, other in others]),
            is_extrapolated=not is_inside,
        )

    def isoflop(self, budgets: Sequence[float] | None = None) -> tuple[IsoFlop, ...]:
        """The best size at equal compute, read off the runs without the law.

        Args:
            budgets: Compute in FLOPs; by default chosen so that many sizes can be compared.

        Raises:
            InvalidInput: If three sizes cannot be compared at a budget.
        """
        return isoflops(self.runs, budgets)

    def to_dict(self) -> dict[str, Any]:
        """Converts the law to plain values.

        Returns:
            JSON values: the parameters with their intervals, the quality of the fit and the IsoFLOP minima.
        """
        values = {name: asdict(getattr(self, name)) for name in PARAMETERS}
        curves = [
            {"C": curve.C, "N": curve.N, "D": curve.D, "loss": curve.loss, "is_interior": curve.is_interior}
            for curve in self._curves()
        ]
        return values | {
            "r2": self.r2, "error": self.error, "n_runs": self.n_runs, "isoflop": curves, "notes": list(self.notes),
        }  # fmt: skip

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the law.

        Args:
            path: A file that ends in .json, in .html (parameters and figures), or in .svg (the losses over data).

        Raises:
            InvalidInput: For another ending.
        """
        target = Path(path).expanduser()
        if target.suffix == ".json":
            text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False) + "\n"
        elif target.suffix == ".html":
            text = f'<!doctype html><meta charset="utf-8"><title>Scaling law</title>{self._repr_html_()}\n'
        elif target.suffix == ".svg":
            text = loss_plot(self.runs, self.predict) + "\n"
        else:
            raise InvalidInput(f"a law is written as .json, .html or .svg, got {str(path)!r}")
        target.write_text(text, encoding="utf-8")

    def __str__(self) -> str:
        values = self._row()
        return (
            f"L(N, D) = {values[0]:.3g} + {values[1]:.3g} / N^{values[3]:.3f} + {values[2]:.3g} / D^{values[4]:.3f} "
            f"(R² {self.r2:.3f}, mean error {self.error:.1%}, {self.n_runs} runs)"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{name}</th><td>{getattr(self, name).value:.4g}</td>"
            f"<td>{getattr(self, name).low:.3g} to {getattr(self, name).high:.3g}</td></tr>"
            for name in PARAMETERS
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        figures = loss_plot(self.runs, self.predict)
        curves = self._curves()
        if curves:
            figures += isoflop_plot(curves)
        return (
            f"<p>{html.escape(str(self))}</p><table><tr><th></th><th>value</th><th>80 % interval</th></tr>{rows}"
            f"</table>{figures}<ul>{notes}</ul>"
        )

    def _row(self) -> NDArray[np.float64]:
        return np.array([getattr(self, name).value for name in PARAMETERS])

    def _curves(self) -> tuple[IsoFlop, ...]:
        """The IsoFLOP curves; none where the runs do not allow any."""
        try:
            return self.isoflop()
        except InvalidInput:
            return ()


def law_at(row: NDArray[np.float64], size: ArrayLike, data: ArrayLike) -> NDArray[np.float64]:
    """(E, A, B, alpha, beta) -> the loss at sizes and data."""
    e, a, b, alpha, beta = row
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(e + a * np.power(size, -alpha) + b * np.power(data, -beta))


def estimate(value: float, samples: Sequence[float]) -> Estimate:
    """The value with the 10th and 90th percentiles of the samples."""
    finite = [sample for sample in samples if math.isfinite(sample)]
    if not finite:
        return Estimate(value, value, value)
    low, high = np.percentile(finite, INTERVAL)
    return Estimate(value, float(low), float(high))


def _optimum(row: NDArray[np.float64], budget: float) -> tuple[float, float]:
    """The size that minimises the loss at an amount of compute, and that loss (Hoffmann et al. 2022, eq. 4)."""
    _, a, b, alpha, beta = row
    log_size = (
        math.log(alpha) + math.log(a) - math.log(beta) - math.log(b) + beta * math.log(budget / FLOPS)
    ) / (alpha + beta)
    size = math.exp(log_size)
    return size, float(law_at(row, size, budget / (FLOPS * size)))


def _positive(values: ArrayLike, name: str) -> NDArray[np.float64]:
    checked = np.asarray(values, np.float64)
    if not (np.isfinite(checked).all() and (checked > 0).all()):
        raise InvalidInput(f"{name} must be finite and above 0, got {values!r}")
    return checked
