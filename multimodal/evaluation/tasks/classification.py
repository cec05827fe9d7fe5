"""Classification: zero-shot by a space, or by any pipeline that labels items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.catalog import close_matches
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.pipeline import pipeline
from multimodal.core.space import Space
from multimodal.core.vectors import cosine_matrix, row_softmax
from multimodal.evaluation.data import Row, Table
from multimodal.evaluation.encoding import Runner, describe
from multimodal.evaluation.metrics import classification as metrics
from multimodal.evaluation.result import ItemResult
from multimodal.evaluation.tasks.outcome import Options, Outcome, item_key, open_space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ZERO_SHOT = "zero-shot-classification"


def run(model: Any, table: Table, options: Options, runner: Runner) -> Outcome:
    """Accuracy, class-mean accuracy, expected calibration error and Brier score."""
    import numpy as np

    outcome = Outcome()
    rows, modality = _labelled(table, options, outcome)
    labels = _class_names([row.label or "" for row in rows], options.labels)
    items = [row.items[modality] for row in rows]
    if isinstance(model, Space):
        probabilities, failures = _zero_shot(model, items, labels, options, runner)
    else:
        probabilities, failures = _by_pipeline(model, items, labels, runner)
    kept = np.array([row not in failures for row in range(len(items))], bool)
    if not kept.all():
        outcome.excluded["unreadable"] += int((~kept).sum())
    if not kept.any():
        raise InvalidInput(f"{table.name}: no item could be read; the first: {failures[min(failures)]}")
    numbers = {label: number for number, label in enumerate(labels)}
    truth = np.array([numbers[row.label or ""] for row in rows])[kept]
    probabilities = probabilities[kept]
    predicted = probabilities.argmax(1)
    correct = (predicted == truth).astype(np.float64)
    confidence = probabilities[np.arange(len(truth)), predicted]
    for position, answer in zip(np.flatnonzero(kept), predicted, strict=True):
        row, item = rows[position], items[position]
        name = describe(item)
        key = item_key(item, row.label or "")
        outcome.items.append(ItemResult(key, name, row.label or "", labels[answer], row.group, item))
    outcome.values = {
        "accuracy": correct,
        "brier": metrics.brier(probabilities, truth),
        "confidence": confidence,
    }
    outcome.means = ["accuracy", "brier"]
    outcome.statistics = {
        "class_mean_accuracy": metrics.class_mean(correct, truth),
        "ece": metrics.calibration_error(confidence, correct),
    }
    outcome.gallery = len(labels)
    if (np.ptp(probabilities, axis=1) < 1e-9).any():
        outcome.notes.append(
            "for some items all classes are equally probable; the first is taken as the answer"
        )
    outcome.settings = {"modality": str(modality), "labels": len(labels)}
    return outcome


def open_model(model: Any) -> Any:
    """A space for zero-shot classification; a pipeline, or another function of items, as it is."""
    is_zero_shot = getattr(model, "task", None) == ZERO_SHOT
    if callable(model) and not isinstance(model, Space) and not is_zero_shot:
        return model
    return open_space(model, "classification")


def _labelled(table: Table, options: Options, outcome: Outcome) -> tuple[list[Row], Modality]:
    """The rows with a label and an item of the modality that is classified."""
    modalities = table.modalities
    if options.query is not None:
        modality = Modality(options.query)
    else:
        modality = next((m for m in modalities if m != Modality.TEXT), Modality.TEXT)
    rows = []
    for row in table.rows:
        if row.label is None:
            outcome.excluded["no label"] += 1
        elif modality not in row.items:
            outcome.excluded[f"no {modality}"] += 1
        else:
            rows.append(row)
    if not rows:
        raise InvalidInput(
            f"{table.name}: no row has a label and an item of one modality; found {dict(outcome.excluded)}, expected "
            "a column 'label' (or columns={'label': …})"
        )
    return rows, modality


def _class_names(found: Sequence[str], given: Sequence[str] | None) -> list[str]:
    """The classes in order. Raises InvalidInput for one given twice, one that no item has, or one that is missing."""
    own = list(dict.fromkeys(found))
    if given is None:
        return sorted(own)
    for place, label in enumerate(given):
        if label in given[:place]:
            raise InvalidInput(f"the label {label!r} is given twice; each must differ from the others")
        if label not in own:
            raise InvalidInput(
                f"no item has the label {label!r}; {close_matches(label, own)}the data has {_listed(own)}"
            )
    missing = next((label for label in own if label not in given), None)
    if missing is not None:
        raise InvalidInput(
            f"items have the label {missing!r}, which is not among those given; "
            f"{close_matches(missing, given)}given: {_listed(given)}"
        )
    return list(given)


def _listed(names: Sequence[str], shown: int = 8) -> str:
    return ", ".join(map(repr, names[:shown])) + (f" … ({len(names)} in all)" if len(names) > shown else "")


def _zero_shot(
    space: Space, items: Sequence[Item], labels: Sequence[str], options: Options, runner: Runner
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Probabilities (n, classes) with the scale and activation of the space."""
    modality = items[0].modality
    classifier: Any = pipeline(ZERO_SHOT, model=space)
    classes = classifier.label_vectors(labels, modality=modality, templates=options.templates)
    vectors, failures = runner.vectors(space, items)
    scale = space.logit_scale_for(modality, Modality.TEXT)
    logits = scale.scale * cosine_matrix(vectors, classes).astype("float64") + scale.bias
    return row_softmax(logits), failures


def _by_pipeline(
    model: Any, items: Sequence[Item], labels: Sequence[str], runner: Runner
) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Probabilities (n, classes) of a pipeline that returns labels with scores for each item."""
    import numpy as np

    from multimodal.evaluation.tasks.outcome import identity

    def work(part: Sequence[Item]) -> list[Any]:
        return [_scores(answer) for answer in model(list(part))]

    answers, failures = runner.results(f"classification:{identity(model)[1]}", items, work)
    numbers = {label: number for number, label in enumerate(labels)}
    probabilities = np.zeros((len(items), len(labels)))
    for row, scores in enumerate(answers):
        known = {label: score for label, score in (scores or {}).items() if label in numbers}
        if scores and not known:
            raise InvalidInput(
                f"the model answers {_listed(list(scores))}, and the data has the labels {_listed(labels)}; "
                "evaluate it on data with its own labels"
            )
        for label, score in known.items():
            probabilities[row, numbers[label]] = score
    return probabilities, failures


def _scores(answer: Any) -> dict[str, float]:
    """{label: score} of what a classifier returned for one item."""
    if isinstance(answer, str):
        return {answer: 1.0}
    try:
        return {entry.label: float(entry.score) for entry in answer}
    except (TypeError, AttributeError):
        pass
    label = getattr(answer, "label", None)
    if not isinstance(label, str):
        raise InvalidInput(
            f"a classifier must return a label, or labels with scores, for each item, got {type(answer).__name__}"
        )
    return {label: float(getattr(answer, "score", 1.0))}
