"""Accuracy, calibration and ranking by group. The control exchanges the groups of the units at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.auditing.checks.common import NotTested, Subject
from multimodal.auditing.finding import Finding
from multimodal.evaluation.metrics.classification import calibration_error
from multimodal.evaluation.result import Evaluation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.str_]
    Measure = Callable[[NDArray[np.bool_]], float]

DRAWS = 500
LEVEL = 0.95
TOP = 10
CONTROL = "95 % with the groups of the units exchanged at random"
CURE = "collect data of the group that does worse, and report figures by group"


@dataclass(frozen=True, eq=False)
class Grouped:
    """The group and the unit of each item; all items of a unit, such as a speaker, are of one group."""

    groups: Labels
    units: NDArray[np.int64]

    @classmethod
    def of(cls, groups: Sequence[str], units: Sequence[str] | None) -> Grouped:
        """Groups by name; without units, each item is its own."""
        import numpy as np

        names = list(range(len(groups))) if units is None else list(units)
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        return cls(np.array(groups), np.array([numbers[name] for name in names]))

    def sizes(self) -> dict[str, int]:
        """The number of units of each group."""
        import numpy as np

        return {
            str(group): len(np.unique(self.units[self.groups == group])) for group in np.unique(self.groups)
        }

    def exchanged(self, rng: np.random.Generator) -> Labels:
        """The groups of the items after the units have exchanged theirs."""
        import numpy as np

        _, first = np.unique(self.units, return_index=True)
        shuffled: Labels = rng.permutation(self.groups[first])[self.units]
        return shuffled

    def resampled(self, group: str, rng: np.random.Generator) -> NDArray[np.int64]:
        """The items of as many units of a group, drawn with replacement."""
        import numpy as np

        inside = np.flatnonzero(self.groups == group)
        units = np.unique(self.units[inside])
        drawn = rng.choice(units, len(units))
        return np.concatenate([inside[self.units[inside] == unit] for unit in drawn])


def by_group(result: Evaluation, grouped: Grouped, seed: int) -> list[Finding]:
    """The gap in accuracy, and for classification the gap in calibration, between the best and the worst group."""
    metric = "accuracy" if result.task == "classification" else "hit@1"
    values = result.values[metric]
    findings = [
        _gap("groups: accuracy", f"the {metric}", lambda rows: float(values[rows].mean()), grouped, seed)
    ]
    if "confidence" in result.values:
        confidence = result.values["confidence"]

        def error(rows: NDArray[np.int64]) -> float:
            import numpy as np

            own = calibration_error(confidence[rows], values[rows])
            return float(own(np.ones((1, len(rows))))[0])

        findings.append(_gap("groups: calibration", "the calibration error", error, grouped, seed))
    return findings


def _gap(
    name: str, what: str, measure: Callable[[NDArray[np.int64]], float], grouped: Grouped, seed: int
) -> Finding:
    """The difference of a measure between the groups where it is largest and smallest."""
    import numpy as np

    def all_groups(labels: Labels) -> dict[str, float]:
        return {str(group): measure(np.flatnonzero(labels == group)) for group in np.unique(labels)}

    sizes = grouped.sizes()
    own = all_groups(grouped.groups)
    top, bottom = max(own, key=lambda group: own[group]), min(own, key=lambda group: own[group])
    gap = own[top] - own[bottom]
    rng = np.random.default_rng(seed)
    null = []
    for _ in range(DRAWS):
        shuffled = all_groups(grouped.exchanged(rng)).values()
        null.append(max(shuffled) - min(shuffled))
    control = float(np.quantile(null, LEVEL))
    alone = [group for group in (top, bottom) if sizes[group] < 2]
    low: float | None = None
    high: float | None = None
    if not alone:
        draws = [
            measure(grouped.resampled(top, rng)) - measure(grouped.resampled(bottom, rng))
            for _ in range(DRAWS)
        ]
        low, high = map(float, np.quantile(draws, [0.025, 0.975]))
    warns = low is not None and low > 0 and gap > control
    note = f"; no interval: {alone[0]} is a single unit" if alone else ""
    return Finding(
        name,
        "groups",
        "warn" if warns else "fine",
        f"{what} is {own[top]:.2f} for {top} and {own[bottom]:.2f} for {bottom}{note}",
        gap,
        low,
        high,
        CONTROL,
        control,
        "the interval lies above 0 and the gap above the control",
        len(grouped.groups),
        CURE if warns else "",
        details={"by group": {group: round(value, 4) for group, value in own.items()}, "units": sizes},
    )


def max_skew(
    subject: Subject, vectors: NDArray[np.float32], labels: Sequence[str], grouped: Grouped
) -> Finding:
    """MaxSkew@k: how over-represented a group is among the first results of a label (Geyik et al. 2019).

    Args:
        subject: The model.
        vectors: Of the items, (n, dim).
        labels: What is searched for.
        grouped: The groups of the items.
    """
    import numpy as np

    if len(set(grouped.groups)) < 2:
        raise NotTested("one group: nothing to compare")
    k = min(TOP, len(vectors) // 2)
    order = np.argsort(-(subject.texts(list(labels)) @ vectors.T), axis=1)[:, :k]

    def skews(groups: Labels) -> Floats:
        names = np.unique(groups)
        overall = np.array([(groups == group).mean() for group in names])
        first = np.stack([(groups[order] == group).mean(1) for group in names], axis=1)
        values: Floats = np.log(np.maximum(first, 1e-9) / overall).max(1)
        return values

    own = skews(grouped.groups)
    rng = np.random.default_rng(subject.seed)
    null = [float(skews(grouped.exchanged(rng)).mean()) for _ in range(DRAWS)]
    control, value = float(np.quantile(null, LEVEL)), float(own.mean())
    picks = rng.integers(0, len(own), (DRAWS, len(own)))
    low, high = map(float, np.quantile(own[picks].mean(1), [0.025, 0.975]))
    warns = value > control and low > float(np.mean(null))
    worst = str(labels[int(own.argmax())])
    return Finding(
        f"groups: MaxSkew@{k}",
        "groups",
        "warn" if warns else "fine",
        f"among the first {k} results one group is over-represented by {np.exp(value) - 1:.0%} on average, most for "
        f"{worst!r}",
        value,
        low,
        high,
        CONTROL,
        control,
        "above the control",
        len(labels),
        "re-rank so that the first results have the shares of the collection" if warns else "",
    )
