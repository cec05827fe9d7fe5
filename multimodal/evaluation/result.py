"""What an evaluation returns: figures with intervals, and the outcome of every item."""

from __future__ import annotations

import html
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item
from multimodal.evaluation.figure import FEW, Figure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = 1
HEADLINE = {
    "classification": "accuracy",
    "retrieval": "hit@1",
    "captioning": "exact",
    "transcription": "wer",
    "generation": "hit@1",
}
LOWER_IS_BETTER = frozenset({"wer", "cer", "wer_raw", "cer_raw", "brier", "ece", "rank", "kid"})


@dataclass(frozen=True)
class ItemResult:
    """The outcome of one item.

    Attributes:
        key: Identifies the item and its right answer by content, so that results of two models can be paired.
        name: The text of the item, or where it comes from.
        target: The right answer, in words.
        predicted: What the model answered.
        group: The unit that is generalised to, or None.
        item: The item itself; None for a result that was read from a file.
        answer: The item that was answered, where that is one.
    """

    key: str
    name: str
    target: str
    predicted: str
    group: str | None = None
    item: Item | None = field(default=None, compare=False, repr=False)
    answer: Item | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Converts the outcome to plain values.

        Returns:
            JSON values, without the items themselves.
        """
        return {
            "key": self.key,
            "name": self.name,
            "target": self.target,
            "predicted": self.predicted,
            "group": self.group,
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of `multimodal.evaluate`.

    Attributes:
        task: "classification", "retrieval", "captioning", "transcription" or "generation".
        model: The name of the model.
        fingerprint: Identifies its weights.
        data: Where the items come from.
        figures: The figures by name.
        items: The outcome of each item, in the order of the data.
        values: Values of each item by name, (n,) each: of metrics, and "rank" or "confidence".
        excluded: {reason: count} of rows that are in no figure.
        notes: What a reader of the figures must know, such as ties or too few items.
        settings: The options that the figures depend on.
        seconds: Wall-clock time.
    """

    task: str
    model: str
    fingerprint: str
    data: str
    figures: dict[str, Figure]
    items: tuple[ItemResult, ...]
    values: dict[str, NDArray[np.float64]]
    excluded: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def headline(self) -> Figure:
        """The first figure of the task: accuracy, hit@1, exact or wer."""
        return self.figures[HEADLINE[self.task]]

    @property
    def is_small(self) -> bool:
        """Whether there are too few items, or groups, to compare models by."""
        return (self.headline.groups or len(self.items)) < (FEW if self.headline.groups is None else 2)

    def worst(self, count: int = 12) -> list[int]:
        """The positions of the worst items, worst first.

        Args:
            count: How many at most.

        Returns:
            Positions in `items`; those without an error are left out.
        """
        import numpy as np

        if self.task == "classification":
            wrong = 1 - self.values["accuracy"]
            badness = wrong * (1 + self.values.get("confidence", np.zeros(len(wrong))))
        elif "rank" in self.values:
            badness = self.values["rank"] - 1
        else:
            badness = self.values["wer"] if self.task == "transcription" else 1 - self.values["exact"]
        order = np.argsort(-badness, kind="stable")
        return [int(position) for position in order[:count] if badness[position] > 0]

    def confusions(self, count: int = 12) -> list[tuple[str, str, int]]:
        """The most frequent errors.

        Args:
            count: How many at most.

        Returns:
            (target, predicted, number of items), most frequent first.
        """
        pairs = Counter((item.target, item.predicted) for item in self.items if item.target != item.predicted)
        return [(target, predicted, n) for (target, predicted), n in pairs.most_common(count)]

    def to_dict(self) -> dict[str, Any]:
        """Converts the result to plain values, from which `Evaluation.from_dict` restores it.

        Returns:
            JSON values.
        """
        return {
            "format": FORMAT,
            "task": self.task,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "data": self.data,
            "figures": {name: figure.to_dict() for name, figure in self.figures.items()},
            "excluded": self.excluded,
            "notes": list(self.notes),
            "settings": self.settings,
            "seconds": round(self.seconds, 3),
            "items": [item.to_dict() for item in self.items],
            "values": {name: _numbers(values) for name, values in self.values.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """Restores a result.

        Args:
            values: What `to_dict` returned.

        Returns:
            The result, without the items themselves.

        Raises:
            InvalidInput: The values are no result of an evaluation.
        """
        import numpy as np

        try:
            return cls(
                values["task"],
                values["model"],
                values["fingerprint"],
                values["data"],
                {name: Figure.from_dict(figure) for name, figure in values["figures"].items()},
                tuple(ItemResult(**item) for item in values["items"]),
                {
                    name: np.array([np.nan if v is None else v for v in row], dtype=np.float64)
                    for name, row in values["values"].items()
                },
                dict(values["excluded"]),
                tuple(values["notes"]),
                dict(values["settings"]),
                values["seconds"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f"this is no result of an evaluation: {error!r}; write one with save()"
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the result: a page for people if the name ends in .html, otherwise JSON for `Evaluation.load`.

        Args:
            path: The file.
        """
        target = Path(path)
        if target.suffix.lower() in (".html", ".htm"):
            from multimodal.evaluation.page import evaluation_page

            target.write_text(evaluation_page([self]), encoding="utf-8")
        else:
            target.write_text(
                json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False), encoding="utf-8"
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Evaluation:
        """Reads a result that `save` wrote as JSON.

        Args:
            path: The file.

        Returns:
            The result.

        Raises:
            InvalidInput: The file holds no result.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise InvalidInput(f"{os.fspath(path)} holds no result of an evaluation: {error}") from error
        return cls.from_dict(values)

    def __repr__(self) -> str:
        figures = ", ".join(f"{name} {figure.value:.4f}" for name, figure in list(self.figures.items())[:3])
        return f"Evaluation({self.task} of {self.model!r} on {len(self.items)} items: {figures})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(figure))}</td></tr>"
            for name, figure in self.figures.items()
        )
        return f"<b>{html.escape(self.task)} of {html.escape(self.model)}</b><table>{rows}</table>"


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [None if value != value else round(float(value), 6) for value in values]


def groups_of(items: Sequence[ItemResult]) -> list[str] | None:
    """The group of each item; None if there are no groups. An item without one is a group of its own."""
    if all(item.group is None for item in items):
        return None
    return [f"item {row}" if item.group is None else item.group for row, item in enumerate(items)]
