"""few_shot(space, examples): a classifier from a few labelled examples, in a second.

The vectors of the space stay as they are; only a linear classifier of them is fitted, in closed form:

    k = 1       the nearest class mean of the centred vectors
    k ≥ 2       the same, whitened by one shrunk covariance as in Gaussian discriminant analysis (`discriminant`)
    both        plus the scores of zero-shot classification, where leave-one-out shows that they help (`prior`)

Probabilities are calibrated by the scores of the examples, each judged by the others. `benchmarks/few_shot.py` compares
this with zero-shot classification, the nearest mean and logistic regression.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from multimodal.adapt.fewshot import conformal
from multimodal.adapt.fewshot.classifier import Classifier, ExampleBank, Rejection, Rule
from multimodal.adapt.fewshot.examples import EncodedExamples, check_label, encode_examples, read_examples
from multimodal.adapt.fewshot.result import DoubtfulExample, FewShotReport
from multimodal.core.classification.prompts import SLOT, encode_labels
from multimodal.core.errors import InvalidInput, MediaWarning, MissingExtra
from multimodal.core.modality import Modality
from multimodal.core.pipeline import as_space
from multimodal.core.progress import count_progress
from multimodal.core.space import Space
from multimodal.core.vectors import row_softmax

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.adapt.fewshot.discriminant import Fit

Method = Literal["auto", "nearest mean", "logistic"]
DOUBT, SURE = 0.1, 0.5  # a doubtful example: its own label at most so probable, another at least so
Z_95 = 1.96


def few_shot(
    space: Space | str | os.PathLike[str],
    examples: Any,
    labels: Iterable[str] | Mapping[str, str] | None = None,
    *,
    reject: float | None = None,
    templates: Sequence[str] | None = None,
    method: Method = "auto",
    seed: int = 0,
    progress: bool | Callable[[int], object] | None = None,
) -> Classifier:
    """Makes a classifier from labelled examples of any modality of a space.

    Args:
        space: A space, or a name or folder for `load`.
        examples: Pairs (item, label), a mapping {label: items}, the path of a folder with one folder per label, or of a
            CSV file with the columns "label" and "path" or "text". Items are anything that `as_item` takes.
        labels: The labels in the order of the results, each of which needs an example; or {label: words}, where the
            labels are no words themselves. Default: those of the examples.
        reject: The share of errors to accept, as 0.1. Results then have `candidates`, which include the right label
            for at least 1 - reject of inputs that are like the examples, and are `rejected` unless exactly one label
            remains. Takes four examples of each label.
        templates: Sentences with "{}" for a label, for the words of the labels. Default: those of zero-shot
            classification.
        method: "auto" (whitened class means; plain class means for one example of each label), "nearest mean", or
            "logistic" (logistic regression of scikit-learn, 20 times slower and as accurate).
        seed: Of the folds of "logistic"; the other methods draw nothing.
        progress: True for a progress bar, or a function to call with the number of examples just encoded.

    Returns:
        The classifier; `.report` says how good it is, and which examples are doubtful.

    Raises:
        InvalidInput: Fewer than two labels, a label without examples, the same content with two labels, too few
            examples for `reject` or `method`, or no example that can be read.
        MediaNotFound: The folder or file of the examples does not exist.
        MissingExtra: method="logistic" without scikit-learn.

    Warns:
        MediaWarning: Some examples could not be read; `report.skipped` lists them.
    """
    import numpy as np

    if method not in get_args(Method):
        raise InvalidInput(f"method must be one of {', '.join(map(repr, get_args(Method)))}, got {method!r}")
    _check_templates(templates)
    loaded, pairs = as_space(space), read_examples(examples)
    words = _label_words(labels, [label for _, label in pairs])
    with count_progress(progress, "encoding examples", len(pairs)) as report:
        encoded = encode_examples(loaded, pairs, report)
    names = list(words)
    counts = {label: encoded.labels.count(label) for label in names}
    _check_counts(counts, encoded)
    rate = conformal.check_reject(reject, counts)
    if encoded.skipped:
        warnings.warn(_skipped_message(encoded), MediaWarning, stacklevel=2)
    position = {label: number for number, label in enumerate(names)}
    classes = np.array([position[label] for label in encoded.labels])
    started = time.perf_counter()
    fit, used = _fit(method, encoded.vectors, classes, counts, seed)
    task = _Task(loaded, names, encoded, classes)
    prior = task.word_scores([words[name] for name in names], templates)
    weight, sharpness = 0.0, fit.sharpness
    if prior is not None:
        from multimodal.adapt.fewshot.prior import blend

        weight, sharpness = blend(fit, prior, classes)
    return task.finish(fit, used, prior, weight, sharpness * fit.gain, rate, time.perf_counter() - started)


class _Task:
    """The encoded examples of one call of `few_shot`, and what is made of them."""

    def __init__(
        self, space: Space, labels: list[str], encoded: EncodedExamples, classes: NDArray[np.int64]
    ) -> None:
        self.space, self.labels, self.encoded, self.classes = space, labels, encoded, classes
        self.words: dict[str, NDArray[np.float32]] = {}

    def word_scores(
        self, words: Sequence[str], templates: Sequence[str] | None
    ) -> NDArray[np.float64] | None:
        """(n, classes) zero-shot scores of the examples; None where the space cannot compare them with words."""
        import numpy as np

        if Modality.TEXT not in self.space.encoders or not self.space.logit_scales:
            return None
        scores = np.empty((len(self.classes), len(self.labels)))
        modalities = np.array(self.encoded.modalities)
        for modality in dict.fromkeys(self.encoded.modalities):
            try:
                scale = self.space.logit_scale_for(modality, Modality.TEXT).scale
            except InvalidInput:  # a space with scales for some pairs of modalities only
                return None
            self.words[modality] = scale * encode_labels(self.space, words, templates, Modality(modality))
            rows = modalities == modality
            scores[rows] = self.encoded.vectors[rows].astype(np.float64) @ self.words[modality].T
        return scores

    def finish(
        self,
        fit: Fit,
        used: str,
        prior: NDArray[np.float64] | None,
        weight: float,
        sharpness: float,
        rate: float | None,
        seconds: float,
    ) -> Classifier:
        """The classifier with its report."""
        import numpy as np

        held_out = sharpness * fit.held_out + (0.0 if prior is None else weight * prior[fit.rows])
        probabilities = row_softmax(held_out) if len(fit.rows) else held_out
        own = probabilities[np.arange(len(fit.rows)), self.classes[fit.rows]]
        rejection = coverage = set_size = None
        if rate is not None:
            rejection = Rejection(
                rate,
                conformal.threshold(own, conformal.error_rate(rate, Counter(self.classes.tolist()).values())),
                conformal.similarity_floor(self.encoded.vectors, rate),
            )
            coverage = float((own >= rejection.least_probability).mean())
            set_size = float((probabilities >= rejection.least_probability).sum(axis=1).mean())
        hits = int((probabilities.argmax(axis=1) == self.classes[fit.rows]).sum()) if len(fit.rows) else 0
        report = FewShotReport(
            counts={label: int((self.classes == number).sum()) for number, label in enumerate(self.labels)},
            method=used,
            accuracy=hits / len(fit.rows) if len(fit.rows) else None,
            interval=_interval(hits, len(fit.rows)) if len(fit.rows) else None,
            zero_shot=None if prior is None else float((prior.argmax(axis=1) == self.classes).mean()),
            text_weight=weight,
            coverage=coverage,
            set_size=set_size,
            doubtful=self._doubtful(fit, probabilities, own),
            skipped=self.encoded.skipped,
            n_duplicates=self.encoded.n_duplicates,
            seconds=round(seconds, 3),
            notes=self._notes(rejection),
        )
        words = (
            {modality: np.float32(weight) * rows for modality, rows in self.words.items()} if weight else {}
        )
        bank = ExampleBank(self.encoded.vectors, self.encoded.names, self.classes)
        return Classifier(
            self.space, self.labels, Rule(fit.scores, sharpness, words, rejection), bank, report
        )

    def _doubtful(
        self, fit: Fit, probabilities: NDArray[np.float64], own: NDArray[np.float64]
    ) -> tuple[DoubtfulExample, ...]:
        doubtful = []
        for row, probability, mine in zip(fit.rows.tolist(), probabilities, own.tolist(), strict=True):
            best = int(probability.argmax())
            if mine <= DOUBT and probability[best] >= SURE and best != self.classes[row]:
                label = self.labels[self.classes[row]]
                name = self.encoded.names[row]
                doubtful.append(DoubtfulExample(name, label, self.labels[best], float(probability[best])))
        return tuple(sorted(doubtful, key=lambda example: -example.probability))

    def _notes(self, rejection: Rejection | None) -> tuple[str, ...]:
        notes = []
        if self.encoded.n_duplicates:
            notes.append(f"{self.encoded.n_duplicates:,} exact copies of other examples were left out")
        if rejection is not None and rejection.least_similarity <= -1:
            notes.append(
                f"{len(self.classes):,} examples are too few to recognise unknown inputs at reject={rejection.rate:g}"
            )
        return tuple(notes)


def _fit(
    method: Method,
    vectors: NDArray[np.float32],
    classes: NDArray[np.int64],
    counts: Mapping[str, int],
    seed: int,
) -> tuple[Fit, str]:
    from multimodal.adapt.fewshot import discriminant

    if method == "logistic":
        label = min(counts, key=lambda name: counts[name])
        if counts[label] < 2:
            raise InvalidInput(
                f"method='logistic' needs two examples of each label, {label!r} has one; add one, or use method='auto'"
            )
        try:
            return discriminant.logistic(vectors, classes, len(counts), seed), "logistic"
        except ImportError as error:
            raise MissingExtra("method='logistic'", package="scikit-learn", extra="train") from error
    if method == "nearest mean" or max(counts.values()) == 1:
        return discriminant.nearest_mean(vectors, classes, len(counts)), "nearest mean"
    return discriminant.discriminant(vectors, classes, len(counts)), "discriminant"


def _label_words(labels: Iterable[str] | Mapping[str, str] | None, given: Sequence[str]) -> dict[str, str]:
    """{label: its words}, in the order of the results."""
    if labels is None:
        return {label: label for label in dict.fromkeys(given)}
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InvalidInput(f"labels must be a list of names such as ['cat', 'dog'], got {labels!r}")
    if isinstance(labels, Mapping):
        words = {check_label(name, "labels"): check_label(value, name) for name, value in labels.items()}
    else:
        words = {check_label(name, "labels"): name for name in labels}
    unlisted = next((label for label in given if label not in words), None)
    if unlisted is not None:
        raise InvalidInput(
            f"an example has the label {unlisted!r}, which is not among labels: {', '.join(words)}"
        )
    return words


def _check_counts(counts: Mapping[str, int], encoded: EncodedExamples) -> None:
    empty = next((label for label, count in counts.items() if not count), None)
    if empty is not None:
        lost = [example for example in encoded.skipped if example.label == empty]
        cause = f"; none of its {len(lost)} could be read: {lost[0].reason}" if lost else ""
        raise InvalidInput(f"the label {empty!r} has no example; add one, or leave out the label{cause}")
    if len(counts) < 2:
        n = len(encoded.labels)
        raise InvalidInput(
            f"all examples ({n:,}) have the label {next(iter(counts))!r}, and a classifier takes at least two labels; "
            "add examples of what it is not"
        )


def _check_templates(templates: Sequence[str] | None) -> None:
    if templates is None:
        return
    if isinstance(templates, str) or not templates or not all(SLOT in template for template in templates):
        raise InvalidInput(
            f"templates must be a list of sentences with '{{}}' for the label, got {templates!r}"
        )


def _interval(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    share, square = hits / n, Z_95**2
    centre = (share + square / (2 * n)) / (1 + square / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def _skipped_message(encoded: EncodedExamples) -> str:
    total = len(encoded.labels) + len(encoded.skipped) + encoded.n_duplicates
    first = encoded.skipped[0]
    return (
        f"{len(encoded.skipped):,} of {total:,} examples could not be read and were skipped; the first is "
        f"{first.name}: {first.reason}; report.skipped lists them"
    )
