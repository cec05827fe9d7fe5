"""The answers of several models to the same items, for joint failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.auditing.checks.common import NotTested, Subject, nearest
from multimodal.auditing.checks.corruption import damaged_images, damaged_vectors
from multimodal.auditing.checks.joint import FACTOR, Answers, JointFailure, joint_failure
from multimodal.auditing.finding import Example, Finding
from multimodal.auditing.generators.images import KINDS
from multimodal.auditing.lineage import relation
from multimodal.core.items import Image
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.evaluation.api import evaluate
from multimodal.evaluation.data import Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNTRAINED = "gradient histograms (untrained)"
CELLS, BINS = 8, 9
HARD = (3, 5)  # severities whose failures are counted
FEWEST_BOTH = 20
SHARE = 0.25  # of the way from chance to 1
LIMIT = (
    f"above {FACTOR:g} times an independent model, and its interval {SHARE:.0%} of the way from chance to 1"
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
    severities = [severity for severity in first.severities if severity in HARD]
    places = [(kind, severity) for kind in KINDS for severity in severities]
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


def labelled_answers(spaces: Mapping[str, Space], table: Table) -> Answers:
    """The class that each model gives to every labelled item.

    Args:
        spaces: The models by name.
        table: Rows with labels.
    """
    import numpy as np

    results = {name: evaluate(space, table, "classification", draws=1) for name, space in spaces.items()}
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
    answers: Answers, subject: Subject, own: str, others: Mapping[str, Space]
) -> list[Finding]:
    """A finding for each other model: the share of the same wrong answer, beside an untrained model's.

    Args:
        answers: Of all models.
        subject: The model under audit.
        own: Its name in `answers`.
        others: The other models by name.
    """
    if answers.wrong(own).sum() < FEWEST_BOTH:
        raise NotTested(
            f"the model fails on {int(answers.wrong(own).sum())} items, at least {FEWEST_BOTH} are needed"
        )
    control = joint_failure(answers, own, UNTRAINED, subject.seed) if UNTRAINED in answers.given else None
    findings = []
    for name, space in others.items():
        pair = joint_failure(answers, own, name, subject.seed)
        findings.append(_finding(pair, control, relation(subject.space, space), subject, answers))
    return findings


def _finding(
    pair: JointFailure, control: JointFailure | None, related: str | None, subject: Subject, answers: Answers
) -> Finding:
    independent = control.same_wrong if control is not None and control.n_both else None
    reference = pair.same_by_chance if independent is None else independent
    is_tested = pair.n_both >= FEWEST_BOTH
    low = pair.same_low if pair.same_low is not None else pair.same_wrong
    beyond_chance = pair.same_by_chance + SHARE * (1 - pair.same_by_chance)
    is_shared = independent is None or pair.same_wrong > FACTOR * independent
    warns = is_tested and low > beyond_chance and is_shared
    known = f" ({related.partition(' (')[0].partition(':')[0]})" if related else ""
    details: dict[str, Any] = {
        "relation": related or "none known",
        "reads as": pair.relation,
        "fail": [round(pair.fail_first, 4), round(pair.fail_second, 4)],
        "both fail": round(pair.both, 4),
        "expected if independent": round(pair.expected, 4),
        "expected within kinds of damage": round(pair.expected_stratified, 4),
        "ratio within kinds": [_round(pair.ratio), _round(pair.ratio_low), _round(pair.ratio_high)],
        "overlap, adjusted for accuracy": round(pair.overlap, 4),
        "both wrong, items": pair.n_both,
        "same wrong answer by chance": round(pair.same_by_chance, 4),
    }
    if control is not None:
        details[f"overlap with {UNTRAINED}"] = round(control.overlap, 4)
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
        LIMIT,
        pair.n_both,
        "do not use both as a check of each other; add a model trained on other data" if warns else "",
        _examples(pair, subject, answers) if warns else (),
        details,
    )


def _examples(pair: JointFailure, subject: Subject, answers: Answers) -> tuple[Example, ...]:
    """Three items on which both give the same wrong answer; of damaged images only."""
    import numpy as np

    images, names = subject.material.images, subject.material.image_names
    if not images or not answers.units[0].startswith("image "):
        return ()
    same = answers.wrong(pair.first) & (answers.given[pair.first] == answers.given[pair.second])
    examples = []
    for row in np.flatnonzero(same)[:: max(1, int(same.sum()) // 3)][:3]:
        place, answer = int(answers.targets[row]), int(answers.given[pair.first][row])
        kind, _, severity = str(answers.strata[row]).rpartition(" ")
        after = damaged_images(subject, kind, int(severity))[place]
        examples.append(
            Example(
                Image(images[place]),
                Image(after),
                names[place] or f"image {place}",
                f"both: {names[answer] or f'image {answer}'}",
            )
        )
    return tuple(examples)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
