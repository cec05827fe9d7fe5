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
# Of the nearest row in hybrid search, where all words of the query, each found often, score 1. Measured by
# benchmarks/answers.py with the starter and with all-MiniLM-L6-v2.
VECTOR_WEIGHT = 0.15
# Of the nearest function of source code: its words say more, and a small space knows little of code. Measured on
# functions that benchmarks/code_search.py leaves out
CODE_VECTOR_WEIGHT = 0.08


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


class TextMatches(NamedTuple):
    """Rows with their BM25 scores, best first. bound: what no score can reach."""

    rows: list[ScoredRow]
    bound: float


def by_cosine(rows: Sequence[StoredRow], cosines: Sequence[float]) -> list[ScoredRow]:
    """Rows with their cosines, highest first."""
    return sorted(map(ScoredRow, rows, cosines), key=lambda row: (-(row.cosine or 0.0), row.id))


def fuse(near: Sequence[ScoredRow], by_text: TextMatches, query: NDArray[np.float32]) -> list[ScoredRow]:
    """One order from two. Every row gets its cosine.

    A row scores the share of the highest possible BM25 score that it reaches, and VECTOR_WEIGHT / rank for its
    rank among the nearest rows (CODE_VECTOR_WEIGHT / rank of a function). The share says whether the words of the
    query are there, which a rank does not: of ten rows that hold a single word of many, one is first. Of the vectors
    only ranks are used, because cosines of different modalities are not comparable.

    Args:
        near: Rows in the order of vectors, nearest first.
        by_text: Rows that match the keywords.
        query: Unit vector (dim,).
    """
    import numpy as np

    merged: dict[str, ScoredRow] = {}
    fused: dict[str, float] = {}
    for rank, row in enumerate(near, 1):
        merged[row.id], fused[row.id] = row, _vector_weight(row) / rank
    for row in by_text.rows:
        known = merged.get(row.id, row)
        merged[row.id] = known._replace(text_score=row.text_score)
        fused[row.id] = fused.get(row.id, 0.0) + (row.text_score or 0.0) / by_text.bound
    without = [row for row in merged.values() if row.cosine is None]
    if without:
        missing = cosines(query, np.stack([row.stored.vector for row in without])).tolist()
        merged |= {row.id: row._replace(cosine=cosine) for row, cosine in zip(without, missing, strict=True)}
    scores = {id_: round(score, DECIMALS) for id_, score in fused.items()}
    ordered = sorted(merged.values(), key=lambda row: (-scores[row.id], -(row.cosine or 0.0), row.id))
    return [row._replace(fused_score=scores[row.id]) for row in ordered]


def _vector_weight(row: ScoredRow) -> float:
    return CODE_VECTOR_WEIGHT if "symbol" in row.stored.row.metadata else VECTOR_WEIGHT


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
