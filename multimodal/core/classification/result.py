"""The result of a classification: labels with probabilities."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelScore:
    """A label with its probability.

    Attributes:
        label: The label as given.
        score: Its probability, 0 to 1.
    """

    label: str
    score: float

    def to_dict(self) -> dict[str, Any]:
        """{"label", "score"}, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Classification(Sequence[LabelScore]):
    """The labels of one input, most probable first; a sequence of `LabelScore`. Ties keep the order given.

    Attributes:
        scores: The labels with their probabilities.
    """

    scores: tuple[LabelScore, ...]

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.scores[0].label

    @property
    def score(self) -> float:
        """The probability of the most probable label, 0 to 1."""
        return self.scores[0].score

    def to_dict(self) -> dict[str, Any]:
        """{"scores": [{"label", "score"}, …]}, ready for JSON."""
        return {"scores": [label.to_dict() for label in self.scores]}

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[LabelScore]:
        return iter(self.scores)

    @overload
    def __getitem__(self, index: int) -> LabelScore: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LabelScore]: ...
    def __getitem__(self, index: int | slice) -> LabelScore | Sequence[LabelScore]:
        return self.scores[index]

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(label.label)}</td><td>{label.score:.3f}</td>"
            f'<td><progress max="1" value="{label.score:.4f}"></progress></td></tr>'
            for label in self.scores
        )
        return f"<table><tr><th>label</th><th>score</th><th></th></tr>{rows}</table>"


def ranked_labels(
    labels: Sequence[str], probabilities: NDArray[np.float64], top_k: int | None
) -> tuple[LabelScore, ...]:
    """Labels with their probabilities (labels,), the most probable first, at most `top_k`."""
    order = sorted(range(len(labels)), key=lambda i: -probabilities[i])[:top_k]
    return tuple(LabelScore(labels[i], float(probabilities[i])) for i in order)
