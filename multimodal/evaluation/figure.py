"""Figures with confidence intervals, by a percentile bootstrap over the unit that is generalised to.

A statistic is a function of weights (draws, n) on the items. One matrix of weights serves all figures of an evaluation,
so that figures of the same items can be compared draw by draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Statistic = Callable[[Floats], Floats]

DRAWS = 2000
LEVEL = 0.95
Z = 1.959963984540054  # of LEVEL
FEW = 30  # units below which two models are not compared


@dataclass(frozen=True)
class Figure:
    """A measured value with its confidence interval.

    Attributes:
        value: The estimate. Shares, word error rates and probabilities are fractions, not percent.
        low: The lower end of the 95 % interval, or None where there is none, as for a single group.
        high: The upper end.
        n: The number of items it is measured on.
        gallery: The number of candidates that were ranked, where there is a gallery: recall at k depends on it.
        groups: The number of groups that were resampled, or None if items were.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    gallery: int | None = None
    groups: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Converts the figure to plain values.

        Returns:
            JSON values.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Figure:
        """Restores a figure.

        Args:
            values: What `to_dict` returned.

        Returns:
            The figure.
        """
        return cls(**values)

    def __str__(self) -> str:
        interval = "no interval" if self.low is None else f"[{self.low:.4f}, {self.high:.4f}]"
        units = f"n={self.n}" if self.groups is None else f"n={self.n} in {self.groups} groups"
        gallery = "" if self.gallery is None else f", gallery={self.gallery}"
        return f"{self.value:.4f} {interval} ({units}{gallery})"


class Resampling:
    """Bootstrap weights of n items, or of the groups that they belong to.

    Args:
        n: The number of items.
        groups: The group of each item, if groups are the unit; items of a group are drawn together.
        draws: The number of bootstrap samples.
        seed: Of the random numbers.
    """

    def __init__(
        self, n: int, groups: Sequence[object] | None = None, *, draws: int = DRAWS, seed: int = 0
    ) -> None:
        import numpy as np

        self.n, self.n_groups = n, None if groups is None else len(set(groups))
        rng = np.random.default_rng(seed)
        units, inverse = n, None
        if groups is not None:
            numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
            inverse, units = np.array([numbers[group] for group in groups], dtype=np.int64), len(numbers)
        self.units = units
        self.weights: Floats | None = None
        if units > 1:
            counts = _multinomial(rng, draws, units)
            self.weights = counts if inverse is None else counts[:, inverse]

    def figure(self, statistic: Statistic, *, gallery: int | None = None) -> Figure:
        """The figure of a statistic; without an interval if there is a single unit.

        Args:
            statistic: Weights (draws, n) -> values (draws,).
            gallery: The number of candidates, for the record.
        """
        import numpy as np

        value = float(statistic(np.ones((1, self.n)))[0])
        low, high = interval(self.draws(statistic)) if self.weights is not None else (None, None)
        if low == high:  # all items agree, so that resampling them says nothing
            low = high = None
        return Figure(value, low, high, self.n, gallery, self.n_groups)

    def share(self, flags: Any, *, gallery: int | None = None) -> Figure:
        """The figure of a share. Where all items agree, resampling them says nothing and Wilson's interval is taken."""
        import numpy as np

        values = np.asarray(flags, dtype=np.float64)
        figure = self.figure(mean(values), gallery=gallery)
        if self.units > 1 and values.min() == values.max():
            low, high = wilson(int(values[0]) * self.units, self.units)
            return Figure(figure.value, low, high, self.n, gallery, self.n_groups)
        return figure

    def draws(self, statistic: Statistic) -> Floats:
        """The values of a statistic on the bootstrap samples; empty for a single unit."""
        import numpy as np

        return np.empty(0) if self.weights is None else statistic(self.weights)


def _multinomial(rng: np.random.Generator, draws: int, units: int) -> Floats:
    """How often each unit is drawn: (draws, units)."""
    import numpy as np

    picks = rng.integers(0, units, (draws, units), dtype=np.int32)
    picks += np.arange(draws, dtype=np.int32)[:, None] * np.int32(units)
    return np.bincount(picks.ravel(), minlength=draws * units).reshape(draws, units).astype(np.float64)


def interval(draws: Floats) -> tuple[float | None, float | None]:
    """The central 95 % of bootstrap values; (None, None) if no draw is finite."""
    import numpy as np

    finite = draws[np.isfinite(draws)]
    if not len(finite):
        return None, None
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean(values: Any) -> Statistic:
    """The mean of a value of each item."""
    return ratio(values, None)


def ratio(numerators: Any, denominators: Any) -> Statistic:
    """The ratio of two sums over the items, as in a pooled word error rate; None counts the items."""
    import numpy as np

    above = np.asarray(numerators, dtype=np.float64)
    below = np.ones(len(above)) if denominators is None else np.asarray(denominators, dtype=np.float64)

    def statistic(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            quotients: Floats = (weights @ above) / (weights @ below)
        return quotients

    return statistic


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's interval of a share.

    >>> tuple(round(end, 4) for end in wilson(150, 150))
    (0.975, 1.0)
    """
    share, spread = hits / n, Z * Z / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)
