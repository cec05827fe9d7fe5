"""Joint failures: do two models fail on the same items, and with the same wrong answer?

Failures are correlated by the difficulty of items alone, so that the expectation is also computed within strata. The
ratio of observed to expected joint failures cannot exceed the inverse of the larger failure rate, and so is not
comparable between pairs of different accuracy. Two figures are. `overlap` is 0 for independence and 1 where the better
model fails only on items on which the other fails too. `matched` is the ratio at matched accuracy: items are weighted
so that the second model fails as often as the first one. Weighting items by the outcome of either model leaves the odds
ratio of their failures as it is, so that this ratio follows from the odds ratio within strata (Mantel and Haenszel
1959) and the common failure rate (Plackett 1965). The headline is the share of the same wrong answer among those that
both get wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.evaluation.figure import Resampling, ratio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.evaluation.figure import Floats, Statistic

    Flags = NDArray[np.bool_]
    Labels = NDArray[np.str_]

DRAWS = 1000
FACTOR = 3.0
CHILD, INDEPENDENT = 0.8, 0.1  # shares of the same wrong answer


@dataclass(frozen=True, eq=False)
class Answers:
    """The answers of several models to the same items.

    Attributes:
        targets: The right answer of each item, (n,).
        strata: What kind of item it is, such as the damage, (n,).
        units: What is resampled, such as the undamaged item, (n,).
        given: The answers of each model by name, (n,).
    """

    targets: Labels
    strata: Labels
    units: list[str]
    given: dict[str, Labels]

    def wrong(self, name: str) -> Flags:
        """Where a model is wrong."""
        return self.given[name] != self.targets


@dataclass(frozen=True)
class JointFailure:
    """How the failures of two models go together.

    Attributes:
        first: A model.
        second: Another.
        fail_first: Its share of wrong answers.
        fail_second: That of the other.
        both: The share of items that both get wrong.
        expected: What independence gives.
        expected_stratified: What independence within strata gives.
        ratio: both / expected_stratified, with its interval.
        ratio_low: The lower end.
        ratio_high: The upper end.
        overlap: From 0 (independence within strata) to 1 (as many joint failures as the accuracies allow).
        same_wrong: Among the items that both get wrong, the share with the same wrong answer.
        same_low: The lower end of its interval.
        same_high: The upper end.
        same_by_chance: That share with the wrong answers of one model exchanged within strata.
        n_both: The number of items that both get wrong.
        odds_ratio: Of the failures of both, within strata; 1 for independence.
        matched: Joint failures against independence, where both models fail as often as the first one.
        matched_low: The lower end of its interval.
        matched_high: The upper end.
    """

    first: str
    second: str
    fail_first: float
    fail_second: float
    both: float
    expected: float
    expected_stratified: float
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    overlap: float
    same_wrong: float
    same_low: float | None
    same_high: float | None
    same_by_chance: float
    n_both: int
    odds_ratio: float = 1.0
    matched: float = 1.0
    matched_low: float | None = None
    matched_high: float | None = None

    @property
    def relation(self) -> str:
        """What the share of the same wrong answer suggests."""
        if self.n_both and self.same_wrong >= CHILD:
            return "nearly the same model"
        if self.n_both and self.same_wrong < INDEPENDENT:
            return "independent"
        return "shares failures"


def joint_failure(answers: Answers, first: str, second: str, seed: int = 0) -> JointFailure:
    """Compares the failures of two models.

    Args:
        answers: Of both.
        first: A model.
        second: Another.
        seed: Of the bootstrap and the exchange.

    Returns:
        The comparison.
    """
    import numpy as np

    a, b = answers.wrong(first), answers.wrong(second)
    both = a & b
    expected_items = _expected(a, b, answers.strata)
    resampling = Resampling(len(a), answers.units, draws=DRAWS, seed=seed)
    share = resampling.figure(ratio(both, expected_items)) if expected_items.any() else None
    odds = _odds_ratio(a, b, answers.strata)
    matched = resampling.figure(_matched(odds, a)) if a.any() and b.any() and not a.all() else None
    observed, stratified = float(both.mean()), float(expected_items.mean())
    most = float(min(a.mean(), b.mean()))
    overlap = (observed - stratified) / (most - stratified) if most > stratified else 0.0
    same = answers.given[first] == answers.given[second]
    same_value, same_low, same_high, by_chance = 0.0, None, None, 0.0
    if both.any():
        inside = np.flatnonzero(both)
        own = Resampling(len(inside), [answers.units[row] for row in inside], draws=DRAWS, seed=seed)
        figure = own.share(same[inside])
        same_value, same_low, same_high = figure.value, figure.low, figure.high
        by_chance = _same_by_chance(answers, first, second, inside, seed)
    return JointFailure(
        first,
        second,
        float(a.mean()),
        float(b.mean()),
        observed,
        float(a.mean() * b.mean()),
        stratified,
        share.value if share else 0.0,
        share.low if share else None,
        share.high if share else None,
        float(overlap),
        same_value,
        same_low,
        same_high,
        by_chance,
        int(both.sum()),
        float(odds(np.ones((1, len(a))))[0]),
        matched.value if matched else 1.0,
        matched.low if matched else None,
        matched.high if matched else None,
    )


def _odds_ratio(a: Flags, b: Flags, strata: Labels) -> Statistic:
    """The odds ratio of failures within strata, by Mantel and Haenszel, as a function of weights (draws, n)."""
    import numpy as np

    kinds, places = np.unique(strata, return_inverse=True)
    member = np.eye(len(kinds))[places]
    cells = [
        (flags[:, None] * member)
        for flags in (a & b, ~a & ~b, a & ~b, ~a & b)  # both, neither, the first only, the second only
    ]

    def statistic(weights: Floats) -> Floats:
        both, neither, first, second = (weights @ cell for cell in cells)
        total = np.maximum(both + neither + first + second, 1e-12)
        # half an item on either side, so that a pair that never differs has a finite ratio
        result: Floats = ((both * neither / total).sum(1) + 0.5) / ((first * second / total).sum(1) + 0.5)
        return result

    return statistic


def _matched(odds: Statistic, a: Flags) -> Statistic:
    """Joint failures against independence, where both models fail as often as the first, from their odds ratio."""
    import numpy as np

    def statistic(weights: Floats) -> Floats:
        rate = (weights @ a.astype(np.float64)) / weights.sum(1)
        psi = odds(weights)
        excess = np.where(np.abs(psi - 1) < 1e-9, 1e-9, psi - 1)
        middle = 1 + 2 * rate * excess
        both = (middle - np.sqrt(np.maximum(middle**2 - 4 * psi * excess * rate**2, 0))) / (2 * excess)
        with np.errstate(invalid="ignore", divide="ignore"):
            result: Floats = both / rate**2
        return result

    return statistic


def _expected(a: Flags, b: Flags, strata: Labels) -> NDArray[np.float64]:
    """For each item, the product of the failure rates in its stratum."""
    import numpy as np

    _, places = np.unique(strata, return_inverse=True)
    counts = np.bincount(places)
    rates = [np.bincount(places, weights=flags) / counts for flags in (a, b)]
    return (rates[0] * rates[1])[places]


def _same_by_chance(
    answers: Answers, first: str, second: str, inside: NDArray[np.int64], seed: int, rounds: int = 50
) -> float:
    """The share of equal answers after those of one model have been exchanged within strata."""
    import numpy as np

    rng = np.random.default_rng(seed)
    ours, theirs = answers.given[first][inside], answers.given[second][inside]
    strata = answers.strata[inside]
    shares = []
    for _ in range(rounds):
        # a random order within each stratum: sort by stratum, ties broken at random
        order, places = np.lexsort((rng.random(len(strata)), strata)), np.argsort(strata, kind="stable")
        shuffled = np.empty_like(theirs)
        shuffled[places] = theirs[order]
        shares.append(float((shuffled == ours).mean()))
    return float(np.mean(shares))


def all_fail(answers: Answers, names: Sequence[str], seed: int = 0) -> dict[str, float | None]:
    """The share of items on which every model fails, against independence.

    Returns:
        {"observed", "low", "high", "independent", "independent within strata"}.
    """
    import numpy as np

    wrong = [answers.wrong(name) for name in names]
    every = np.logical_and.reduce(wrong)
    figure = Resampling(len(every), answers.units, draws=DRAWS, seed=seed).share(every)
    _, places = np.unique(answers.strata, return_inverse=True)
    counts = np.bincount(places)
    products = np.prod([np.bincount(places, weights=flags) / counts for flags in wrong], axis=0)
    return {
        "observed": figure.value,
        "low": figure.low,
        "high": figure.high,
        "independent": float(np.prod([flags.mean() for flags in wrong])),
        "independent within strata": float(products[places].mean()),
    }
