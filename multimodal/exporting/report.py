"""What an export wrote, and how near it is to the source."""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import Any

COLUMNS = ("tower", "weights", "MB", "load ms", "ms an item", "worst cosine", "R@1", "with batch")


@dataclass(frozen=True)
class TowerReport:
    """One exported tower, measured on the sample with one thread.

    Attributes:
        modality: The modality it encodes.
        model: The file.
        weights: How they are stored: "float32", "float16", "int8", or "int8 static", which computes in int8 too.
        n_bytes: Size of the file.
        load_ms: To load it.
        item_ms: To encode one item, without preprocessing: the least of several runs.
        worst_cosine: The smallest cosine of a vector with that of the source, over the sample.
        recall: The share of sample items whose nearest vector of the source is their own.
        batch_change: The largest change of a number of a vector when its item is encoded in a batch, not alone.
        n_items: Items of the sample.
        tried: What was measured and not kept, with the reason.
    """

    modality: str
    model: str
    weights: str
    n_bytes: int
    load_ms: float
    item_ms: float
    worst_cosine: float
    recall: float
    batch_change: float
    n_items: int
    tried: tuple[str, ...] = ()

    def cells(self) -> tuple[str, ...]:
        """The values of COLUMNS as text."""
        return (
            self.modality, self.weights, f"{self.n_bytes / 1e6:.2f}", f"{self.load_ms:.0f}", f"{self.item_ms:.2f}",
            f"{self.worst_cosine:.5f}", f"{self.recall:.1%}", f"{self.batch_change:.0e}",
        )  # fmt: skip


@dataclass(frozen=True)
class Export:
    """What `multimodal.export` wrote.

    Attributes:
        folder: Where it is.
        name: The name of the source.
        fingerprint: Of the source.
        towers: One report for each modality.
    """

    folder: str
    name: str
    fingerprint: str
    towers: tuple[TowerReport, ...]

    @property
    def n_bytes(self) -> int:
        """Size of all models."""
        return sum(tower.n_bytes for tower in self.towers)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self) | {"n_bytes": self.n_bytes}

    def __str__(self) -> str:
        rows = [COLUMNS, *(tower.cells() for tower in self.towers)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        header = "".join(f"<th>{html.escape(column)}</th>" for column in COLUMNS)
        body = "".join(
            f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in tower.cells())}</tr>"
            for tower in self.towers
        )
        return f"<b>Export of {html.escape(self.name)}</b><table><tr>{header}</tr>{body}</table>"
