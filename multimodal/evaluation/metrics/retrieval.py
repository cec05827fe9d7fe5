"""Ranks of the right answers of each query, and the metrics that follow from them.

A wrong candidate that ties with a right one counts as half before it (the middle rank): a model whose vectors are all
equal gets the middle of the gallery, neither the first place nor the last. Right answers do not compete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TIE = 5e-7  # cosines closer than this, a few units in the last place of float32, are ties
BLOCK = 512  # queries scored at once
CUTOFFS = (1, 5, 10)
DEPTH = 10  # of nDCG and of the reciprocal rank with a cut-off


@dataclass(frozen=True, eq=False)
class Ranks:
    """The ranking of each query.

    Attributes:
        right: For each query the middle ranks of its right answers, ascending; 1 is first.
        tied: Whether a wrong candidate ties with the best right one, (n,).
        nearest: The candidate with the highest score of each query, (n,).
        gallery: The number of candidates.
    """

    right: list[Floats]
    tied: NDArray[np.bool_]
    nearest: NDArray[np.int64]
    gallery: int

    @property
    def best(self) -> Floats:
        """The rank of the best right answer of each query, (n,)."""
        import numpy as np

        return np.array([ranks[0] for ranks in self.right])


def rank(queries: NDArray[np.float32], gallery: NDArray[np.float32], right: Sequence[Sequence[int]]) -> Ranks:
    """Ranks candidates by the inner product.

    Args:
        queries: Unit rows (n, dim).
        gallery: Unit rows (m, dim).
        right: The positions of the right answers of each query in the gallery, at least one for each.

    Returns:
        The ranks.
    """
    import numpy as np

    ranks: list[Floats] = []
    tied = np.zeros(len(queries), bool)
    nearest = np.zeros(len(queries), np.int64)
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK].astype(np.float64) @ gallery.T.astype(np.float64)
        nearest[start : start + len(scores)] = scores.argmax(1)
        for row, own in enumerate(scores):
            positions = np.asarray(right[start + row], dtype=np.int64)
            found = np.sort(own[positions])[::-1]
            wrong = np.delete(own, positions)
            above = (wrong[None] > found[:, None] + TIE).sum(1)
            equal = (np.abs(wrong[None] - found[:, None]) <= TIE).sum(1)
            ranks.append(np.arange(1, len(found) + 1) + above + equal / 2)
            tied[start + row] = bool(equal[0])
    return Ranks(ranks, tied, nearest, len(gallery))


def item_values(ranks: Ranks) -> dict[str, Floats]:
    """The metrics of each query, (n,) each; an evaluation reports their means.

    hit@k: whether a right answer is among the first k (what CLIP's papers call recall at k). recall@k: the share of the
    right answers among the first k. ndcg@10, map (mean average precision) and mrr (mean reciprocal rank), mrr@10.
    """
    import numpy as np

    best = ranks.best
    values: dict[str, Floats] = {f"hit@{k}": (best <= k).astype(np.float64) for k in CUTOFFS}
    for k in CUTOFFS:
        values[f"recall@{k}"] = np.array([float((own <= k).mean()) for own in ranks.right])
    values[f"ndcg@{DEPTH}"] = np.array([_ndcg(own) for own in ranks.right])
    values["map"] = np.array([float((np.arange(1, len(own) + 1) / own).mean()) for own in ranks.right])
    values["mrr"] = 1 / best
    values[f"mrr@{DEPTH}"] = np.where(best <= DEPTH, 1 / best, 0.0)
    return values


def _ndcg(own: Floats) -> float:
    import numpy as np

    gained = (1 / np.log2(1 + own[own <= DEPTH])).sum()
    possible = (1 / np.log2(2 + np.arange(min(len(own), DEPTH)))).sum()
    return float(gained / possible)
