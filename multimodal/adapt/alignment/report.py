"""What an alignment gained, and what was forgotten."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class AlignmentReport:
    """Figures before and after, on preferences and references that were held out.

    Attributes:
        method: "dpo", "sft", "grpo" or "best-of-n".
        n_preferences: Preferences trained on.
        n_held_out: Preferences held out; the figures are theirs.
        before: {figure: value}. "preferred": share of held-out preferences whose chosen output is more probable than
            the rejected. "chosen log-probability": per token. "exact": share of inputs whose output is exactly the
            chosen one. "reward": mean score of the judge.
        after: The same, for the weights that were kept.
        reference: {"before", "after"}: share of reference inputs that are captioned as expected; None without any.
        interpolation: The share of the change that was kept, 0 to 1.
        curve: {share: {figure: value}} of every share that was tried, with "reference".
        seconds: Duration of the training.
        notes: Remarks.
        kinds: {kind: {"before", "after"}} of a replay that was given by kind: the same as `reference`, for each.
    """

    method: str
    n_preferences: int
    n_held_out: int
    before: dict[str, float]
    after: dict[str, float]
    reference: dict[str, float] | None
    interpolation: float
    curve: dict[float, dict[str, float]]
    seconds: float
    notes: tuple[str, ...] = ()
    kinds: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values, ready for JSON."""
        values = asdict(self)
        return values | {
            "curve": {str(share): figures for share, figures in self.curve.items()},
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [
            f"{self.method} on {self.n_preferences:,} preferences, {self.n_held_out:,} held out, {self.seconds:.0f} s"
        ]
        lines += [f"{name}: {value:.3f} → {self.after[name]:.3f}" for name, value in self.before.items()]
        if self.reference is not None:
            lines.append(f"reference: {self.reference['before']:.1%} → {self.reference['after']:.1%}")
        lines += [
            f"reference, {kind}: {values['before']:.1%} → {values['after']:.1%}"
            for kind, values in self.kinds.items()
        ]
        if self.curve:
            lines.append(f"kept {self.interpolation:.0%} of the change")
        return "\n".join([*lines, *self.notes])


@dataclass(frozen=True)
class Alignment:
    """An aligned model.

    Attributes:
        pipeline: The pipeline with the aligned weights, or (model, tokenizer) of a language model; what was given to
            `align` is unchanged.
        report: What was gained and forgotten.
        write: Writes the weights to a folder; see `save`.
    """

    pipeline: Any
    report: AlignmentReport
    write: Callable[[str | os.PathLike[str]], None]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the weights.

        Args:
            folder: A captioner's is opened by `pipeline("captioning", decoder=folder)`, a language model's by
                transformers or as "hf/./folder".
        """
        self.write(folder)
