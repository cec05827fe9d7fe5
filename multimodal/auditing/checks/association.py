"""Associations of concepts with pairs of attributes, and how much of them one tower inherits from another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal.auditing.checks.common import NotTested, Subject, distinct_names
from multimodal.auditing.finding import Finding
from multimodal.auditing.lineage import relation
from multimodal.auditing.words import AXES, TARGETS, TESTS, UNRELATED
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LEVEL = 0.05
NULL_AXES = 40
FEWEST_CONCEPTS = 20
CURE = "do not rank people or decide about them with these vectors; test your task with group="


def associations(subject: Subject) -> list[Finding]:
    """Effect sizes of the text tower on standard word lists, with permutation tests corrected by Holm's method."""
    import numpy as np

    subject.needs(Modality.TEXT)
    rng = np.random.default_rng(subject.seed)
    measured = []
    for target, axis in TESTS:
        first, second = (association(subject, words, axis) for words in TARGETS[target])
        measured.append(
            (target, axis, *effect(first, second), *_permuted(first, second, subject.permutations, rng))
        )
    adjusted = holm([row[-2] for row in measured])
    findings = []
    for (target, axis, d, n, p, null), corrected in zip(measured, adjusted, strict=True):
        warns = corrected < LEVEL
        other = {"pleasant": "unpleasant", "male": "female"}[axis]
        low, high = _effect_interval(subject, target, axis)
        findings.append(
            Finding(
                f"text: {target} × {axis}",
                "association",
                "warn" if warns else "fine",
                f"words of {target.replace(', not', ' lean more than those of')} to {axis} rather than {other}: "
                f"d = {d:.2f}, p = {corrected:.3f}",
                d,
                low,
                high,
                "95 % of |d| with the words exchanged at random",
                null,
                f"p < {LEVEL} after Holm's correction over {len(TESTS)} tests",
                n,
                CURE if warns else "",
                details={"p": round(p, 5), "p, Holm": round(corrected, 5)},
            )
        )
    return findings


def association(subject: Subject, words: Sequence[str], axis: str) -> Floats:
    """The mean cosine of each word with one side of an axis, less that with the other, (n,)."""
    scores: Floats = _vectors(subject, words).astype("float64") @ axis_direction(subject, axis)
    return scores


def axis_direction(subject: Subject, axis: str) -> Floats:
    """The difference of the means of both sides of an axis, (dim,)."""
    first, second = (_vectors(subject, words).mean(0).astype("float64") for words in AXES[axis])
    direction: Floats = first - second
    return direction


def _vectors(subject: Subject, words: Sequence[str]) -> Any:
    return subject.once(f"words {'|'.join(words)}", lambda: subject.texts(words))


def effect(first: Floats, second: Floats) -> tuple[float, int]:
    """The effect size d of WEAT, and the number of words."""
    import numpy as np

    both = np.concatenate([first, second])
    return float((first.mean() - second.mean()) / both.std(ddof=1)), len(both)


def _permuted(first: Floats, second: Floats, draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """The one-sided p-value of the difference under random exchange of the words, and 95 % of |d|."""
    import numpy as np

    both = np.concatenate([first, second])
    orders = rng.random((draws, len(both))).argsort(1)
    shuffled = both[orders]
    differences = shuffled[:, : len(first)].mean(1) - shuffled[:, len(first) :].mean(1)
    p = (1 + int((differences >= first.mean() - second.mean() - 1e-12).sum())) / (draws + 1)
    return p, float(np.quantile(np.abs(differences) / both.std(ddof=1), 0.95))


def _effect_interval(subject: Subject, target: str, axis: str) -> tuple[float, float]:
    """A bootstrap over the words of both sides."""
    import numpy as np

    first, second = (association(subject, words, axis) for words in TARGETS[target])
    rng = np.random.default_rng(subject.seed)
    draws = []
    for _ in range(500):
        a, b = (side[rng.integers(0, len(side), len(side))] for side in (first, second))
        draws.append(effect(a, b)[0])
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's method.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def inheritance(subject: Subject, others: Mapping[str, Subject] | None = None) -> list[Finding]:
    """The correlation, over concepts, of associations in the text tower with those in another tower of the space.

    The null distribution pairs an axis in one tower with unrelated axes in the other. Any text model knows that flowers
    are liked: what a tower shares with the text tower of a model without a common base is meaning, and what it shares
    beyond that with its own text tower is inherited.

    Args:
        subject: The model under audit.
        others: Other models by name. Those that encode text and share no base with it, as far as is known, are a second
            control.
    """
    subject.needs(Modality.TEXT)
    findings: list[Finding] = []
    unrelated = {
        name: other
        for name, other in (others or {}).items()
        if Modality.TEXT in other.space.modalities and relation(subject.space, other.space) is None
    }
    for modality, names, vectors in _towers(subject):
        places, words = distinct_names(names)
        if len(places) >= FEWEST_CONCEPTS:
            findings += _inherited(subject, str(modality), words, vectors()[places], unrelated)
    if not findings:
        raise NotTested(f"needs {FEWEST_CONCEPTS} images or clips with names of their own")
    return findings


def _towers(subject: Subject) -> list[tuple[Modality, list[str | None], Any]]:
    towers = [
        (Modality.IMAGE, subject.material.image_names, subject.clean_images),
        (Modality.AUDIO, subject.material.clip_names, subject.clean_clips),
    ]
    return [
        (modality, names, make) for modality, names, make in towers if modality in subject.space.modalities
    ]


def _inherited(
    subject: Subject, tower: str, words: list[str], vectors: Any, unrelated: Mapping[str, Subject]
) -> list[Finding]:
    import numpy as np

    base, own = subject.texts(words).astype(np.float64), vectors.astype(np.float64)
    elsewhere = {name: other.texts(words).astype(np.float64) for name, other in unrelated.items()}
    null = _null(subject, base, own)
    findings = []
    for axis in AXES:
        first, second = base @ axis_direction(subject, axis), own @ axis_direction(subject, axis)
        r = correlation(first, second)
        low, high = _correlation_interval(first, second, subject.seed)
        controls = {name: rows @ axis_direction(unrelated[name], axis) for name, rows in elsewhere.items()}
        beyond = _beyond(first, second, controls, subject.seed)
        warns = low > null and (beyond is None or beyond.low > 0)
        claim = (
            f"the {tower} tower repeats what the text tower associates with {axis}: r = {r:.2f} over {len(words)} "
            "concepts"
        )
        if beyond is not None:
            claim += (
                f", and {beyond.r:.2f} with the text tower of {beyond.name}, which shares no base with it"
            )
        findings.append(
            Finding(
                f"{tower}: inherited {axis}",
                "inheritance",
                "warn" if warns else "fine",
                claim,
                r,
                low,
                high,
                "95 % of |r| with unrelated axes"
                if beyond is None
                else f"r with the text tower of {beyond.name}",
                null if beyond is None else beyond.r,
                "the interval lies above the control"
                + ("" if beyond is None else ", and above 95 % of |r| with unrelated axes"),
                len(words),
                "r mixes meaning with bias; change the text tower, and every tower trained to match it changes"
                if warns
                else "",
                details={} if beyond is None else beyond.details(null),
            )
        )
    return findings


@dataclass(frozen=True)
class _Beyond:
    """How much more a tower agrees with its own text tower than with that of an unrelated model."""

    name: str
    r: float
    difference: float
    low: float
    high: float

    def details(self, null: float) -> dict[str, Any]:
        ends = [round(value, 4) for value in (self.difference, self.low, self.high)]
        return {"r beyond the unrelated model": ends, "95 % of |r| with unrelated axes": round(null, 4)}


def _beyond(first: Floats, second: Floats, controls: Mapping[str, Floats], seed: int) -> _Beyond | None:
    """The comparison with the unrelated model that agrees most; None without one. The same concepts are resampled."""
    import numpy as np

    if not controls:
        return None
    name = max(controls, key=lambda own: correlation(controls[own], second))
    closest = controls[name]
    draws = [
        correlation(first[pick], second[pick]) - correlation(closest[pick], second[pick])
        for pick in np.random.default_rng(seed).integers(0, len(first), (500, len(first)))
    ]
    r = correlation(closest, second)
    low, high = np.quantile(draws, [0.025, 0.975])
    return _Beyond(name, r, correlation(first, second) - r, float(low), float(high))


def _null(subject: Subject, base: Floats, own: Floats) -> float:
    """95 % of |r| between an axis of the text tower and directions between unrelated words in the other tower."""
    import numpy as np

    rng = np.random.default_rng(subject.seed)
    unrelated = _vectors(subject, UNRELATED).astype(np.float64)
    values = []
    for axis in AXES:
        expected = base @ axis_direction(subject, axis)
        for _ in range(NULL_AXES):
            first, second = rng.permutation(len(UNRELATED))[:10].reshape(2, 5)
            direction = unrelated[first].mean(0) - unrelated[second].mean(0)
            values.append(abs(correlation(expected, own @ direction)))
    return float(np.quantile(values, 0.95))


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's correlation; 0 where one of both is constant."""
    import numpy as np

    if a.std() == 0 or b.std() == 0:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def _correlation_interval(a: Floats, b: Floats, seed: int, draws: int = 500) -> tuple[float, float]:
    import numpy as np

    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(a), (draws, len(a)))
    values = [correlation(a[pick], b[pick]) for pick in picks]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
