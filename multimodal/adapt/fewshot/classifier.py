"""Classifier: labels taught by examples, for inputs of any modality of a space."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal.adapt.fewshot.result import FewShotClassification, FewShotReport, Neighbour, Reason
from multimodal.core.checks import whole_number
from multimodal.core.classification.result import ranked_labels
from multimodal.core.items import as_items
from multimodal.core.pipeline import one_or_many
from multimodal.core.progress import count_progress
from multimodal.core.space import Space
from multimodal.core.vectors import row_softmax, unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.adapt.fewshot.discriminant import LinearScores

NEIGHBOURS = 3


@dataclass(frozen=True)
class ExampleBank:
    """The examples that a classifier keeps, for the nearest ones.

    Attributes:
        vectors: (n, dim) unit rows.
        names: Of each.
        classes: (n,) the position of each one's label.
    """

    vectors: NDArray[np.float32]
    names: tuple[str, ...]
    classes: NDArray[np.int64]


@dataclass(frozen=True)
class Rejection:
    """What `reject` needs.

    Attributes:
        rate: The share of errors that is accepted.
        least_probability: Of a candidate.
        least_similarity: To the nearest example.
    """

    rate: float
    least_probability: float
    least_similarity: float


@dataclass(frozen=True)
class Rule:
    """How vectors become probabilities.

    Attributes:
        scores: Of the examples.
        sharpness: The factor of these scores inside the softmax.
        words: (classes, dim) the vectors of the labels' words times their weight, by modality; a modality that is
            missing has no share of words.
        rejection: None without `reject`.
    """

    scores: LinearScores
    sharpness: float
    words: Mapping[str, NDArray[np.float32]]
    rejection: Rejection | None

    def probabilities(self, vectors: NDArray[np.float32], modality: str | None) -> NDArray[np.float64]:
        """Unit vectors (n, dim) of one modality -> probabilities (n, classes)."""
        import numpy as np

        logits = np.asarray(self.sharpness * self.scores(vectors))
        if modality is not None and modality in self.words:
            logits += vectors.astype(np.float64) @ self.words[modality].T
        return row_softmax(logits)


class Classifier:
    """Labels taught by examples; made by `multimodal.adapt.few_shot` or `multimodal.load_classifier`.

    Attributes:
        space: The space that encodes inputs.
        labels: The labels.
        report: How good it is on its examples.
    """

    def __init__(
        self, space: Space, labels: Sequence[str], rule: Rule, bank: ExampleBank, report: FewShotReport
    ) -> None:
        self.space, self.labels, self.report = space, tuple(labels), report
        self.rule, self.bank = rule, bank

    def __call__(
        self,
        inputs: Any,
        *,
        top_k: int | None = None,
        neighbours: int = NEIGHBOURS,
        progress: bool | Callable[[int], object] | None = None,
    ) -> Any:
        """Classifies one input, or a list of them.

        Args:
            inputs: Anything that `as_item` takes, or a list of these, of mixed modalities too. A str is text, never
                a path. A modality without examples is classified by the examples of the others.
            top_k: Returns only the most probable labels.
            neighbours: The number of nearest examples in a result.
            progress: True for a progress bar, or a function to call with the number of inputs just encoded.

        Returns:
            A `FewShotClassification`, or a list of them in the order of the inputs.

        Raises:
            InvalidInput: Invalid options.
            UnsupportedModality: A modality that the space does not encode.
            MediaError: A file that cannot be decoded.
        """
        n_kept = None if top_k is None else whole_number(top_k, "top_k")
        n_near = whole_number(neighbours, "neighbours", least=0)
        values, is_single = one_or_many(inputs)
        items = as_items(values)
        with count_progress(progress, "classifying", len(items)) as report:
            vectors = self.space.encode(items, progress=report)
        results: list[Any] = [None] * len(items)
        for modality in dict.fromkeys(item.modality for item in items):
            positions = [position for position, item in enumerate(items) if item.modality == modality]
            made = self._classify(vectors[positions], str(modality), n_kept, n_near)
            for position, result in zip(positions, made, strict=True):
                results[position] = result
        return results[0] if is_single else results

    def probabilities(self, vectors: Any, modality: str | None = None) -> NDArray[np.float64]:
        """Probabilities of the labels for vectors of the space.

        Args:
            vectors: (n, dim), or (dim,) for one.
            modality: Of the items behind the vectors; without it the words of the labels do not count.

        Returns:
            (n, labels), rows that sum to one.

        Raises:
            InvalidInput: Vectors of the wrong size or not finite.
        """
        return self.rule.probabilities(unit_rows(vectors, self.space.dim), modality)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the classifier to one file, for `multimodal.load_classifier`.

        The file is in safetensors format: numbers and JSON, no code. It holds the vectors and the names (paths or
        texts) of the examples, but not the examples.

        Args:
            path: The file; its folder must exist. An existing file is replaced.

        Raises:
            InvalidInput: The path is a folder or a URL.
            OSError: The file cannot be written.
        """
        from multimodal.adapt.fewshot import storage

        storage.save(self, path)

    def __repr__(self) -> str:
        return f"Classifier({', '.join(self.labels[:5])}{', …' if len(self.labels) > 5 else ''}; {self.space.name!r})"

    def _classify(
        self, vectors: NDArray[np.float32], modality: str, n_kept: int | None, n_near: int
    ) -> list[FewShotClassification]:
        probabilities = self.rule.probabilities(vectors, modality)
        similarities = vectors @ self.bank.vectors.T
        return [
            self._result(row, cosines, n_kept, n_near)
            for row, cosines in zip(probabilities, similarities, strict=True)
        ]

    def _result(
        self,
        probabilities: NDArray[np.float64],
        cosines: NDArray[np.float32],
        n_kept: int | None,
        n_near: int,
    ) -> FewShotClassification:
        order = (-cosines).argsort(kind="stable")[:n_near].tolist()
        near = tuple(
            Neighbour(self.bank.names[k], self.labels[self.bank.classes[k]], float(cosines[k].clip(-1, 1)))
            for k in order
        )
        scores = ranked_labels(self.labels, probabilities, n_kept)
        if self.rule.rejection is None:
            return FewShotClassification(scores, near)
        candidates = tuple(
            score.label
            for score in ranked_labels(self.labels, probabilities, None)
            if score.score >= self.rule.rejection.least_probability
        )
        reason: Reason | None = None
        if float(cosines.max()) < self.rule.rejection.least_similarity:
            reason = "unknown"
        elif len(candidates) != 1:
            reason = "ambiguous" if candidates else "atypical"
        return FewShotClassification(scores, near, candidates, reason)
