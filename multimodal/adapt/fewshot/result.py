"""What a classifier returns, and the report of how it was made."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any, Literal

from multimodal.adapt.fewshot.examples import SkippedExample
from multimodal.core.classification.result import Classification

Reason = Literal["unknown", "ambiguous", "atypical"]


@dataclass(frozen=True)
class Neighbour:
    """An example that is near an input.

    Attributes:
        name: The path of the example, its text, or its position.
        label: Its label.
        similarity: Cosine with the input, -1 to 1.
    """

    name: str
    label: str
    similarity: float


@dataclass(frozen=True)
class FewShotClassification(Classification):
    """The labels of one input, most probable first, with what supports them.

    Attributes:
        scores: The labels with their probabilities.
        nearest: The examples most similar to the input, the most similar first.
        candidates: The labels that cannot be excluded at the error rate of `reject`, the most probable first; None
            without `reject`.
        reason: Why the input was rejected; None if it was not. "unknown": it is less similar to every example than
            the examples are to each other. "ambiguous": several labels remain. "atypical": none does.
    """

    nearest: tuple[Neighbour, ...] = ()
    candidates: tuple[str, ...] | None = None
    reason: Reason | None = None

    @property
    def rejected(self) -> bool:
        """Whether the classifier declines to name one label."""
        return self.reason is not None

    def to_dict(self) -> dict[str, Any]:
        """{"scores", "nearest", "candidates", "rejected", "reason"}, ready for JSON."""
        return super().to_dict() | {
            "nearest": [asdict(example) for example in self.nearest],
            "candidates": None if self.candidates is None else list(self.candidates),
            "rejected": self.rejected,
            "reason": self.reason,
        }

    def _repr_html_(self) -> str:
        table = super()._repr_html_()
        near = ", ".join(
            f"{html.escape(example.name)} ({html.escape(example.label)}, {example.similarity:.2f})"
            for example in self.nearest
        )
        verdict = f"<p><b>rejected: {self.reason}</b></p>" if self.rejected else ""
        return f"{verdict}{table}<p>nearest examples: {near}</p>"


@dataclass(frozen=True)
class DoubtfulExample:
    """An example whose label the other examples contradict.

    Attributes:
        name: Its path, its text, or its position.
        label: Its label.
        suggested: The label that the other examples give it.
        probability: Of the suggested label, 0 to 1.
    """

    name: str
    label: str
    suggested: str
    probability: float


@dataclass(frozen=True)
class FewShotReport:
    """How a classifier was made, and how good it is on its examples, each judged by the others.

    Attributes:
        counts: Examples of each label.
        method: "nearest mean", "discriminant" or "logistic".
        accuracy: Share of the examples that the others classify correctly, 0 to 1; None for one example of each label.
        interval: Its 95 % interval.
        zero_shot: Share that the labels' words alone classify correctly; None where the space encodes no text.
        text_weight: Of the words beside the examples; 0 if they did not help.
        coverage: Share of the examples whose label is among their candidates; None without `reject`.
        set_size: Mean number of candidates; None without `reject`.
        doubtful: Examples whose label the others contradict, the clearest first.
        skipped: Examples that could not be read.
        n_duplicates: Exact copies that were left out.
        seconds: Duration of the fit, encoding excluded.
        notes: Remarks.
    """

    counts: dict[str, int]
    method: str
    accuracy: float | None
    interval: tuple[float, float] | None
    zero_shot: float | None
    text_weight: float
    coverage: float | None
    set_size: float | None
    doubtful: tuple[DoubtfulExample, ...]
    skipped: tuple[SkippedExample, ...]
    n_duplicates: int
    seconds: float
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, ready for JSON."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FewShotReport:
        """The report of which `to_dict` made the values."""
        interval = values["interval"]
        return cls(
            **values
            | {
                "interval": None if interval is None else (interval[0], interval[1]),
                "doubtful": tuple(DoubtfulExample(**example) for example in values["doubtful"]),
                "skipped": tuple(SkippedExample(**example) for example in values["skipped"]),
                "notes": tuple(values["notes"]),
            }
        )

    def __str__(self) -> str:
        total = sum(self.counts.values())
        lines = [f"{total:,} examples of {len(self.counts):,} labels, {self.method}"]
        if self.accuracy is not None and self.interval is not None:
            low, high = self.interval
            lines.append(
                f"accuracy, each example judged by the others: {self.accuracy:.1%} ({low:.1%}–{high:.1%})"
            )
        if self.zero_shot is not None:
            lines.append(
                f"accuracy of the labels' words alone: {self.zero_shot:.1%}, weight {self.text_weight:g}"
            )
        if self.coverage is not None:
            lines.append(f"coverage {self.coverage:.1%} with {self.set_size:.2f} candidates on average")
        lines += [
            f"doubtful: {example.name} is labelled {example.label!r}, the others say {example.suggested!r} "
            f"({example.probability:.0%})"
            for example in self.doubtful
        ]
        lines += [f"skipped: {example.name}: {example.reason}" for example in self.skipped]
        return "\n".join([*lines, *self.notes])
