"""The answers of several models to the same items, for joint failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.auditing.checks.common import NotTested, Subject, distinct_names, nearest
from multimodal.auditing.checks.corruption import damaged_images, damaged_vectors
from multimodal.auditing.checks.joint import FACTOR, Answers, JointFailure, joint_failure
from multimodal.auditing.finding import Example, Finding
from multimodal.auditing.generators.images import KINDS
from multimodal.core.items import Image
from multimodal.core.modality import Modality
from multimodal.evaluation.api import evaluate
from multimodal.evaluation.data import Row, Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNTRAINED = "gradient histograms (untrained)"
CELLS, BINS = 8, 9
HARD = (3, 5)  # severities whose failures are counted
FEWEST_BOTH = 20
SHARE = 0.25  # of the way from chance to 1
LIMIT = f"the interval lies above {FACTOR:g} times an independent model, and above chance"
LIMIT_ALONE = (
    f"the interval lies above {SHARE:.0%} of the way from chance to 1"  # without an independent model
)


def damaged_answers(subjects: Mapping[str, Subject], *, with_untrained: bool = True) -> Answers:
    """Which undamaged image each damaged one is nearest to, by every model.

    Args:
        subjects: The models by name, with the same material.
        with_untrained: Adds an untrained descriptor as an independent control.
    """
    import numpy as np

    first = next(iter(subjects.values()))
    images = first.material.images
    for subject in subjects.values():
        subject.needs(Modality.IMAGE)
    places = _hard_damage(first)
    given: dict[str, NDArray[np.str_]] = {}
    for name, subject in subjects.items():
        clean = subject.clean_images()
        answers = [nearest(damaged_vectors(subject, *place), clean) for place in places]
        given[name] = np.concatenate(answers).astype(str)
    if with_untrained:
        clean = gradient_histograms(images)
        answers = [nearest(gradient_histograms(damaged_images(first, *place)), clean) for place in places]
        given[UNTRAINED] = np.concatenate(answers).astype(str)
    targets = np.tile(np.arange(len(images)), len(places)).astype(str)
    strata = np.repeat([f"{kind} {severity}" for kind, severity in places], len(images))
    units = [f"image {number}" for number in range(len(images))] * len(places)
    return Answers(targets, strata, units, given)


def damaged_labels(models: Mapping[str, Any], subject: Subject, *, with_untrained: bool = True) -> Answers:
    """The name that each model gives to every damaged image, among the names of all images.

    Args:
        models: Spaces and classifiers by name.
        subject: The model under audit, with the images.
        with_untrained: Adds an untrained descriptor as an independent control.
    """
    import numpy as np

    subject.needs(Modality.IMAGE)
    kept, names = distinct_names(subject.material.image_names)
    if len(kept) < len(subject.material.images):
        raise NotTested("a classifier answers with labels: each image needs a name of its own")
    places = _hard_damage(subject)
    stacks = [damaged_images(subject, *place) for place in places]
    rows = [
        Row({Modality.IMAGE: Image(pixels)}, label=name)
        for stack in stacks
        for pixels, name in zip(stack, names, strict=True)
    ]
    table = Table("damaged images", rows)
    given = {
        name: np.array([item.predicted for item in evaluate(model, table, "classification", draws=1).items])
        for name, model in models.items()
    }
    if with_untrained:
        clean = gradient_histograms(subject.material.images)
        rows_of = np.concatenate([nearest(gradient_histograms(stack), clean) for stack in stacks])
        given[UNTRAINED] = np.array(names)[rows_of]
    return Answers(
        np.array(names * len(places)),
        np.repeat([f"{kind} {severity}" for kind, severity in places], len(names)),
        [f"image {number}" for number in range(len(names))] * len(places),
        given,
    )


def _hard_damage(subject: Subject) -> list[tuple[str, int]]:
    """The kinds and severities of damage whose failures are counted."""
    severities = [severity for severity in subject.severities if severity in HARD]
    return [(kind, severity) for kind in KINDS for severity in severities]


def labelled_answers(models: Mapping[str, Any], table: Table) -> Answers:
    """The class that each model gives to every labelled item.

    Args:
        models: Spaces and classifiers by name.
        table: Rows with labels.
    """
    import numpy as np

    results = {name: evaluate(model, table, "classification", draws=1) for name, model in models.items()}
    keys = [item.key for item in next(iter(results.values())).items]
    by_key = {name: {item.key: item for item in result.items} for name, result in results.items()}
    kept = [key for key in keys if all(key in own for own in by_key.values())]
    first = next(iter(by_key.values()))
    return Answers(
        np.array([first[key].target for key in kept]),
        np.array([first[key].target for key in kept]),
        [first[key].group or key for key in kept],
        {name: np.array([own[key].predicted for key in kept]) for name, own in by_key.items()},
    )


def gradient_histograms(stack: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Histograms of gradient directions in cells, as unit rows: a descriptor without learned parameters."""
    import numpy as np

    rows = []
    for pixels in stack:
        grey = pixels.astype(np.float64).mean(-1)
        down, across = np.gradient(grey)
        strength, angle = np.hypot(down, across), np.arctan2(down, across) % np.pi
        bins = np.minimum((angle / np.pi * BINS).astype(int), BINS - 1)
        height, width = grey.shape
        cells = (np.arange(height) * CELLS // height)[:, None] * CELLS + np.arange(width) * CELLS // width
        counts = np.bincount((cells * BINS + bins).ravel(), strength.ravel(), CELLS * CELLS * BINS)
        counts = np.sqrt(counts.reshape(-1, BINS))
        rows.append((counts / (np.linalg.norm(counts, axis=1, keepdims=True) + 1e-3)).ravel())
    vectors = np.array(rows)
    return (vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9)).astype(np.float32)


def joint_findings(
    answers: Answers, subject: Subject, own: str, related: Mapping[str, str | None]
) -> list[Finding]:
    """A finding for each other model: the share of the same wrong answer, beside an untrained model's.

    Args:
        answers: Of all models.
        subject: The model under audit.
        own: Its name in `answers`.
        related: How each other model is related to it, by name.
    """
    if answers.wrong(own).sum() < FEWEST_BOTH:
        raise NotTested(
            f"the model fails on {int(answers.wrong(own).sum())} items, at least {FEWEST_BOTH} are needed"
        )
    control = joint_failure(answers, own, UNTRAINED, subject.seed) if UNTRAINED in answers.given else None
    findings = []
    for name, known in related.items():
        pair = joint_failure(answers, own, name, subject.seed)
        findings.append(_finding(pair, control, known, subject, answers))
    return findings


def _finding(
    pair: JointFailure, control: JointFailure | None, related: str | None, subject: Subject, answers: Answers
) -> Finding:
    independent = control.same_wrong if control is not None and control.n_both else None
    reference = pair.same_by_chance if independent is None else independent
    is_tested = pair.n_both >= FEWEST_BOTH
    low = pair.same_low if pair.same_low is not None else pair.same_wrong
    if independent is None:
        least = pair.same_by_chance + SHARE * (1 - pair.same_by_chance)
    else:
        least = max(pair.same_by_chance, FACTOR * independent)
    warns = is_tested and low > least
    known = f" ({related.partition(' (')[0].partition(':')[0]})" if related else ""
    details: dict[str, Any] = {
        "relation": related or "none known",
        "reads as": pair.relation,
        "fail": [round(pair.fail_first, 4), round(pair.fail_second, 4)],
        "both fail": round(pair.both, 4),
        "expected if independent": round(pair.expected, 4),
        "expected within kinds of damage": round(pair.expected_stratified, 4),
        "ratio within kinds": [_round(pair.ratio), _round(pair.ratio_low), _round(pair.ratio_high)],
        "ratio at matched accuracy": [
            _round(pair.matched),
            _round(pair.matched_low),
            _round(pair.matched_high),
        ],
        "overlap, adjusted for accuracy": round(pair.overlap, 4),
        "both wrong, items": pair.n_both,
        "same wrong answer by chance": round(pair.same_by_chance, 4),
    }
    if control is not None:
        details[f"overlap with {UNTRAINED}"] = round(control.overlap, 4)
        ends = [_round(control.matched), _round(control.matched_low), _round(control.matched_high)]
        details[f"ratio at matched accuracy with {UNTRAINED}"] = ends
        details["worst kinds"] = worst_kinds(answers, pair.first, pair.second)
    claim = f"where {pair.first} and {pair.second}{known} both fail, {pair.same_wrong:.0%} of the wrong answers agree"
    if not is_tested:
        claim = f"both fail on {pair.n_both} items only: nothing is concluded about {pair.second}{known}"
    return Finding(
        f"joint failure: {pair.second}",
        "joint failure",
        "warn" if warns else "fine" if is_tested else "info",
        claim,
        pair.same_wrong,
        pair.same_low,
        pair.same_high,
        "answers exchanged at random" if independent is None else f"the same with {UNTRAINED}",
        reference,
        LIMIT_ALONE if independent is None else LIMIT,
        pair.n_both,
        "do not use both as a check of each other; add a model trained on other data" if warns else "",
        _examples(pair, subject, answers) if warns else (),
        details,
    )


def worst_kinds(answers: Answers, first: str, second: str, shown: int = 4) -> dict[str, str]:
    """The kinds of damage on which both models fail most.

    Args:
        answers: On damaged items.
        first: A model.
        second: Another.
        shown: The number of kinds.

    Returns:
        {kind: shares in words}.
    """
    import numpy as np

    kinds = np.array([str(stratum).rpartition(" ")[0] for stratum in answers.strata])
    a, b = answers.wrong(first), answers.wrong(second)
    same = answers.given[first] == answers.given[second]
    lines: list[tuple[float, str, str]] = []
    for kind in np.unique(kinds):
        inside = kinds == kind
        both = float((a & b)[inside].mean())
        expected = float(a[inside].mean() * b[inside].mean())
        agree = float(same[inside & a & b].mean()) if both else 0.0
        lines.append(
            (both, str(kind), f"both fail {both:.0%}, expected {expected:.0%}, same answer {agree:.0%}")
        )
    return {kind: line for both, kind, line in sorted(lines, reverse=True)[:shown] if both}


def _examples(pair: JointFailure, subject: Subject, answers: Answers) -> tuple[Example, ...]:
    """Three items on which both give the same wrong answer; of damaged images only."""
    import numpy as np

    images, names = subject.material.images, subject.material.image_names
    if not images or not answers.units[0].startswith("image "):
        return ()
    same = answers.wrong(pair.first) & (answers.given[pair.first] == answers.given[pair.second])
    examples = []
    for row in np.flatnonzero(same)[:: max(1, int(same.sum()) // 3)][:3]:
        place, answer = int(answers.units[row].removeprefix("image ")), str(answers.given[pair.first][row])
        is_place = str(answers.targets[row]) == str(place)  # otherwise the names of images
        kind, _, severity = str(answers.strata[row]).rpartition(" ")
        after = damaged_images(subject, kind, int(severity))[place]
        examples.append(
            Example(
                Image(images[place]),
                Image(after),
                names[place] or f"image {place}",
                f"both: {names[int(answer)] or f'image {answer}' if is_place else answer}",
            )
        )
    return tuple(examples)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
