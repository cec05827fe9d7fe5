"""Pseudo pairs for media that have none, after C-MCR's semantic enhancement (Wang et al. 2023).

A sound of the first space is told by the texts it lies nearest to there: their mean, weighted by how likely each is to
be its match. The same weights over the same texts' vectors in the second space say where the sound should come to lie.
A text of the second space tells of pictures in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.core.errors import InvalidInput
from multimodal.core.space import Space
from multimodal.core.types import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

SCALE = 100.0  # of a space that does not know its own: what CLIP's and CLAP's is limited to
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
        logits = scale * (rows[start : start + ROWS_AT_ONCE] @ among.T)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        parts.append(unit(powers @ instead))  # a unit row needs no division by the sum
    return np.concatenate(parts)


def scale_of(space: Space, over: Modality, modality: Modality) -> float:
    """The factor by which the space itself turns cosines of two modalities into logits."""
    try:
        return space.head_for(over, modality).scale
    except InvalidInput:  # it has no head for them
        return SCALE


def unit(rows: Rows) -> Rows:
    """Each row scaled to length one."""
    import numpy as np

    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)
