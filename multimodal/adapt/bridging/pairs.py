"""Pseudo pairs for media that have none, after C-MCR's semantic enhancement (Wang et al. 2023).

A sound of the first space is told by the texts it lies nearest to there: their mean, weighted by how likely each is to
be its match. The same weights over the same texts' vectors in the second space say where the sound should come to lie.
A text of the second space tells of pictures in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Lesson:
    """Rows (n, into) to project; where each should come to lie, as one or more (n, out); rows (n, into) whose
    projection it should meet, or None."""

    rows: Rows
    targets: Sequence[Rows]
    meets: Rows | None = None


def told(rows: Rows, among: Rows, instead: Rows, scale: float) -> Rows:
    """For each row (n, dim) the mean of `instead` (m, any), weighted by how well the row matches `among` (m, dim).

    Unit rows in, unit rows out; the weights are the softmax of scale * cosine.
    """
    import numpy as np

    parts = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        parts.append(unit(softmax(scale * (rows[start : start + ROWS_AT_ONCE] @ among.T)) @ instead))
    return np.concatenate(parts)


def softmax(logits: Rows) -> Rows:
    """Of each row."""
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def unit(rows: Rows) -> Rows:
    """Each row scaled to length one."""
    import numpy as np

    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)
