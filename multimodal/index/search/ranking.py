"""Ranking of candidate rows: by cosine, by keywords or by both; deduplication and grouping. Ties are broken by id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.modality import Modality
from multimodal.index.results import Hit
from multimodal.index.storage.schema import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DECIMALS = 9  # float32 vectors carry seven: differences beyond are rounding, and must not decide an order
DUPLICATE_COSINE = 0.999  # cosine from which two items are duplicates
RANK_OFFSET = 60  # of reciprocal rank fusion (Cormack et al. 2009): how little the first ranks differ


class StoredRow(NamedTuple):
    """A row with its vector (dim,), and the hash of the content it belongs to, or None if unknown."""

    row: Row
    vector: NDArray[np.float32]
    content: str | None


class ScoredRow(NamedTuple):
    """A row with its cosine, its BM25 score, or both; its probability and its fused score, if any."""

    stored: StoredRow
    cosine: float | None = None
    text_score: float | None = None
    probability: float | None = None
    fused_score: float | None = None

    @property
    def id(self) -> str:
        return self.stored.row.id

    def hit(self) -> Hit:
        row = self.stored.row
        location = (row.start_s, row.end_s, row.start_char, row.end_char)
        score = self.cosine if self.cosine is not None else self.text_score
        return Hit(row.id, row.uri, score or 0.0, Modality(row.modality), dict(row.metadata), row.text, *location,
                   text_score=self.text_score, probability=self.probability, fused_score=self.fused_score)  # fmt: skip


def by_cosine(rows: Sequence[StoredRow], cosines: Sequence[float]) -> list[ScoredRow]:
    """Rows with their cosines, highest first."""
    return sorted(map(ScoredRow, rows, cosines), key=lambda row: (-(row.cosine or 0.0), row.id))


def reciprocal_rank_fusion(
    first: Sequence[ScoredRow], second: Sequence[ScoredRow], query: NDArray[np.float32]
) -> list[ScoredRow]:
    """One order from two: a row scores 1 / (60 + rank) for each order it is in. Every row gets its cosine.

    Only ranks are used, so cosines and BM25 scores need not be comparable.
    """
    import numpy as np

    merged: dict[str, ScoredRow] = {}
    weights: dict[str, float] = {}
    for order in (first, second):
        for rank, row in enumerate(order, 1):
            weights[row.id] = weights.get(row.id, 0.0) + 1 / (RANK_OFFSET + rank)
            known = merged.get(row.id, row)
            scores = (b if a is None else a for a, b in zip(known[1:], row[1:], strict=True))
            merged[row.id] = ScoredRow(row.stored, *scores)
    without = [row for row in merged.values() if row.cosine is None]
    if without:
        missing = cosines(query, np.stack([row.stored.vector for row in without])).tolist()
        merged |= {row.id: row._replace(cosine=cosine) for row, cosine in zip(without, missing, strict=True)}
    ordered = sorted(merged.values(), key=lambda row: (-weights[row.id], -(row.cosine or 0.0), row.id))
    return [row._replace(fused_score=round(weights[row.id], DECIMALS)) for row in ordered]


def deduplicate(rows: Sequence[ScoredRow]) -> list[ScoredRow]:
    """The first of rows with the same content, or with vectors of a cosine of at least DUPLICATE_COSINE."""
    import numpy as np

    kept: list[ScoredRow] = []
    contents: set[str] = set()
    vectors = np.empty((len(rows), len(rows[0].stored.vector) if rows else 0), np.float32)
    for row in rows:
        content, vector = row.stored.content, row.stored.vector
        if content in contents or (vectors[: len(kept)] @ vector >= DUPLICATE_COSINE).any():
            continue
        vectors[len(kept)] = vector
        kept.append(row)
        if content is not None:
            contents.add(content)
    return kept


def first_of_groups(rows: Sequence[ScoredRow], key: str | None) -> list[ScoredRow]:
    """The first row of each document (key=None), or of each value of a metadata key.

    A row whose metadata lacks the key is grouped by its document.
    """
    kept: dict[tuple[str, object], ScoredRow] = {}
    for scored in rows:
        row = scored.stored.row
        value = None if key is None else row.metadata.get(key)
        is_chunk = row.start_s is not None or row.start_char is not None
        document = row.id.rpartition("#")[0] if is_chunk else row.id
        group = ("document", document) if value is None else (f"metadata {type(value).__name__}", value)
        kept.setdefault(group, scored)
    return list(kept.values())


def cosines(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines (n,) of a query (dim,) with vectors (n, dim), in double precision.

    Computed row by row, so that a row's score does not depend on its position in the matrix.
    """
    import numpy as np

    wide, wide_query = vectors.astype(np.float64), query.astype(np.float64)
    dots = (wide * wide_query).sum(axis=1)
    norms = np.sqrt((wide * wide).sum(axis=1)) * np.sqrt((wide_query * wide_query).sum())
    return np.asarray(np.round(np.clip(dots / norms, -1.0, 1.0), DECIMALS))
