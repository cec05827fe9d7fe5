"""Pseudo pairs for unpaired media, after C-MCR's semantic enhancement (Wang et al. 2023).

An audio item of the source space attends to the corpus texts in that space: a softmax over its similarities gives
weights. The same weights over the texts' vectors in the target space give its pseudo target. Images of the target space
are assigned to texts in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

BLOCK_ROWS = 1024


@dataclass(frozen=True)
class TrainingPairs:
    """Rows to project and their targets.

    Attributes:
        rows: Unit rows (n, source dim).
        targets: One or more sets of unit rows (n, target dim).
        anchors: Unit rows (n, source dim) whose projections should be close to those of `rows`, or None.
    """

    rows: Rows
    targets: Sequence[Rows]
    anchors: Rows | None = None


def soft_lookup(rows: Rows, keys: Rows, values: Rows, inverse_temperature: float) -> Rows:
    """Attention of unit rows over keys: weights are softmax(inverse_temperature * cosine).

    Args:
        rows: Unit rows (n, dim).
        keys: Unit rows (m, dim).
        values: Rows (m, value dim), one per key.
        inverse_temperature: Factor of the cosines.

    Returns:
        Weighted means of the values, scaled to unit length (n, value dim).
    """
    import numpy as np

    blocks = []
    for start in range(0, len(rows), BLOCK_ROWS):
        weights = softmax(inverse_temperature * (rows[start : start + BLOCK_ROWS] @ keys.T))
        blocks.append(unit(weights @ values))
    return np.concatenate(blocks)


def softmax(logits: Rows) -> Rows:
    """Softmax of each row (n, m)."""
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def unit(rows: Rows) -> Rows:
    """Scales each row (n, dim) to unit length."""
    import numpy as np

    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)
