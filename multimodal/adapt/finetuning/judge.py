"""Figures of retrieval with intervals: how often an item finds its partner, before and after."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from multimodal.adapt.finetuning.examples import Examples
from multimodal.core.encoder import Encoder
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]
    Scores = NDArray[np.float64]

Z = 1.96  # of a 95 % interval
RESAMPLES = 1000


@dataclass(frozen=True)
class Figure:
    """A measured number with its 95 % interval.

    Attributes:
        value: The number.
        low: Lower end of the interval.
        high: Upper end.
        n: How many items it was measured on.
    """

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float]:
        """JSON values."""
        return asdict(self)

    @property
    def percent(self) -> str:
        """In words: "43.1 % (40.0–46.2)"."""
        return f"{self.value:.1%} ({100 * self.low:.1f}–{100 * self.high:.1f})"


def share(scores: Scores) -> Figure:
    """The mean of scores (n) between 0 and 1, with Wilson's interval."""
    n = len(scores)
    p = float(scores.mean())
    centre = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    return Figure(p, max(0.0, centre - half), min(1.0, centre + half), n)


def mean(values: Scores) -> Figure:
    """The mean of values (n) of any size, with the interval of a normal distribution."""
    n = len(values)
    half = Z * float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    value = float(values.mean())
    return Figure(value, value - half, value + half, n)


def change(before: Scores, after: Scores, seed: int = 0) -> Figure:
    """The mean of after - before (n) of the same items, with a bootstrap interval."""
    import numpy as np

    differences = after - before
    n = len(differences)
    draws = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    means = differences[draws].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Figure(float(differences.mean()), float(low), float(high), n)


def scores(examples: Examples, encoders: Mapping[Modality, Encoder]) -> Scores:
    """Recall@1 of each pair.

    Args:
        examples: The pairs.
        encoders: The encoders that were trained; other modalities keep the vectors they had.

    Returns:
        (n) between 0 and 1. Of labelled items: whether the item's nearest class is its own. Of other pairs: the mean of
        both directions among the distinct items of the other side. Ties count as misses.
    """
    first, second = (
        rows if modality not in encoders else encoders[modality].encode(items, batch_size=64)
        for modality, items, rows in zip(
            examples.modalities,
            (examples.firsts, examples.seconds),
            (examples.first_rows, examples.second_rows),
            strict=True,
        )
    )
    forward = recall_at_1(first, examples.first_ids, second, examples.second_ids)
    if examples.labelled:
        return forward
    return (forward + recall_at_1(second, examples.second_ids, first, examples.first_ids)) / 2


def recall_at_1(
    queries: Rows, query_ids: NDArray[np.int64], gallery: Rows, gallery_ids: NDArray[np.int64]
) -> Scores:
    """Whether the nearest of the distinct gallery items belongs to the query (n); rows match by position.

    Args:
        queries: Unit rows (n, dim).
        query_ids: The content of each query; queries of one content share their answers (n).
        gallery: Unit rows (n, dim), the partner of each query.
        gallery_ids: The content of each partner (n); equal contents are one candidate.
    """
    import numpy as np

    _, positions, numbers = np.unique(gallery_ids, return_index=True, return_inverse=True)
    candidates = gallery[positions]
    answers: dict[int, set[int]] = {}
    for query, number in zip(query_ids.tolist(), numbers.tolist(), strict=True):
        answers.setdefault(query, set()).add(number)
    hits = np.zeros(len(queries))
    for start in range(0, len(queries), 1024):
        cosines = queries[start : start + 1024] @ candidates.T
        best = cosines.max(axis=1, keepdims=True)
        for row, near in enumerate(cosines >= best):
            nearest = set(np.flatnonzero(near).tolist())
            hits[start + row] = nearest <= answers[int(query_ids[start + row])]
    return hits
