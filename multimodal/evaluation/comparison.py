"""`multimodal.compare`: is one model better than another, on the same items?"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.catalog import close_matches
from multimodal.core.errors import InvalidInput
from multimodal.evaluation.figure import DRAWS, FEW, Resampling, mean
from multimodal.evaluation.result import HEADLINE, LOWER_IS_BETTER, Evaluation, groups_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLES = 12


@dataclass(frozen=True)
class Comparison:
    """The difference between two models on the same items.

    Attributes:
        first: The model that is compared against.
        second: The model that is compared.
        metric: What is compared.
        difference: The value of the second minus that of the first.
        low: The lower end of the paired 95 % interval, or None for a single group.
        high: The upper end.
        p: The two-sided p-value: McNemar's exact test for right and wrong answers, otherwise the paired bootstrap. None
            if there is nothing to test.
        lost: Items on which the second is worse.
        won: Items on which it is better.
        n: The items.
        examples: Of items lost and won: {"name", "target", "first", "second", "change"}.
        note: What a reader must know, as "too few to compare"; empty if nothing.
    """

    first: str
    second: str
    metric: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    lost: int
    won: int
    n: int
    examples: tuple[dict[str, str], ...] = ()
    note: str = ""

    @property
    def verdict(self) -> str:
        """The result in words."""
        if self.note:
            return self.note
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "no difference is shown"
        better = (self.difference < 0) == (self.metric in LOWER_IS_BETTER)
        return f"{self.second} is {'better' if better else 'worse'}"

    def to_dict(self) -> dict[str, Any]:
        """Converts the comparison to plain values.

        Returns:
            JSON values.
        """
        return {**vars(self), "examples": list(self.examples), "verdict": self.verdict}

    def __str__(self) -> str:
        interval = "no interval" if self.low is None else f"[{self.low:+.4f}, {self.high:+.4f}]"
        p = "" if self.p is None else f", p={self.p:.3g}"
        return (
            f"{self.metric} {self.difference:+.4f} {interval}{p}, {self.lost} lost, {self.won} won of {self.n}: "
            f"{self.verdict}"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.first)} → {html.escape(self.second)}: {html.escape(str(self))}</p>"


def compare(
    first: Evaluation, second: Evaluation, *, metric: str | None = None, draws: int = DRAWS, seed: int = 0
) -> Comparison:
    """Compares two models by their results on the same items; nothing is encoded.

    Args:
        first: The result of the model that is compared against.
        second: The result of the other model.
        metric: A metric with a value for each item; by default the first of the task.
        draws: Bootstrap samples.
        seed: Of the bootstrap.

    Returns:
        The paired difference with its interval, a test, and what was lost and won.

    Raises:
        InvalidInput: The results are of different tasks, items or galleries, or lack the metric.
    """
    metric = metric or HEADLINE[first.task]
    a, b = _paired(first, second, metric)
    pooled = "wer" in metric or "cer" in metric
    weights = first.values.get(f"{metric} length") if pooled else None
    groups = groups_of(first.items)
    resampling = Resampling(len(a), groups, draws=draws, seed=seed)
    if weights is None:
        statistic = mean(b - a)
    else:
        from multimodal.evaluation.figure import ratio

        statistic = ratio((b - a) * weights, weights)
    figure = resampling.figure(statistic)
    better, worse = (b < a, b > a) if metric in LOWER_IS_BETTER else (b > a, b < a)
    lost, won = int(worse.sum()), int(better.sum())
    note = ""
    if first.fingerprint == second.fingerprint:
        note = "the same model"
    elif resampling.units < (FEW if groups is None else 2):
        note = "too few to compare"
    p = _p_value(resampling.draws(statistic), a, b, lost, won, clustered=groups is not None)
    examples = _examples(first, second, worse, better)
    return Comparison(
        first.model,
        second.model,
        metric,
        figure.value,
        figure.low,
        figure.high,
        p,
        lost,
        won,
        len(a),
        examples,
        note,
    )


def _paired(
    first: Evaluation, second: Evaluation, metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values of both models, in the order of the items of the first."""
    if first.task != second.task:
        raise InvalidInput(
            f"results of {first.task} and {second.task} cannot be compared: give two of one task"
        )
    for result in (first, second):
        if metric not in result.values:
            raise InvalidInput(
                f"no metric {metric!r} of each item in the result of {result.model!r}; "
                f"{close_matches(metric, result.values)}it has {', '.join(result.values)}"
            )
    places = {item.key: row for row, item in enumerate(second.items)}
    ours = [item.key for item in first.items]
    different = len(set(ours) ^ places.keys())
    if different or len(ours) != len(places):
        raise InvalidInput(
            f"the results are of different items ({len(ours)} and {len(second.items)}, {different} in one only): "
            "evaluate both models on the same data"
        )
    sizes = [result.figures[HEADLINE[result.task]].gallery for result in (first, second)]
    if sizes[0] != sizes[1]:
        raise InvalidInput(
            f"the results are of galleries of {sizes[0]} and {sizes[1]} items, and ranks depend on the gallery: "
            "evaluate both models on the same data"
        )
    order = [places[key] for key in ours]
    return first.values[metric], second.values[metric][order]


def _p_value(
    draws: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    lost: int,
    won: int,
    *,
    clustered: bool,
) -> float | None:
    import numpy as np

    if not clustered and bool(np.isin([a, b], (0.0, 1.0)).all()):
        return mcnemar(lost, won)
    if not len(draws):
        return None
    below, above = int((draws <= 0).sum()), int((draws >= 0).sum())
    return min(1.0, 2 * (min(below, above) + 1) / (len(draws) + 1))


def mcnemar(lost: int, won: int) -> float:
    """The exact two-sided p-value of McNemar's test.

    >>> mcnemar(5, 4)
    1.0
    >>> round(mcnemar(10, 1), 5)
    0.01172
    """
    n = lost + won
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(lost, won) + 1))
    return min(1.0, 2 * tail / 2**n)


def _examples(
    first: Evaluation, second: Evaluation, worse: NDArray[np.bool_], better: NDArray[np.bool_]
) -> tuple[dict[str, str], ...]:
    import numpy as np

    answers = {item.key: item.predicted for item in second.items}
    examples = []
    for change, mask in (("lost", worse), ("won", better)):
        for row in np.flatnonzero(mask)[:EXAMPLES]:
            item = first.items[row]
            examples.append(
                {
                    "name": item.name,
                    "target": item.target,
                    "first": item.predicted,
                    "second": answers[item.key],
                    "change": change,
                }
            )
    return tuple(examples)
