"""Candidates -> an order: by cosine, by words, or by both; without what looks the same; ties by id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.modality import Modality
from multimodal.index.results import Hit, Hits
from multimodal.index.storage.schema import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DECIMALS = 9  # float32 vectors carry seven: what differs beyond is rounding, and must decide no order
SAME = 0.999  # the cosine from which two things look alike
RANK_OFFSET = 60  # of reciprocal rank fusion (Cormack et al. 2009): how little the first places differ


class Stored(NamedTuple):
    """A row as it is answered, with its vector (dim,) and the hash of the content it is a part of, if known."""

    row: Row
    vector: NDArray[np.float32]
    content: str | None


class Found(NamedTuple):
    """A row with its cosine, its score by words, or both; and how likely it is what was meant, if that was told."""

    stored: Stored
    cosine: float | None = None
    by_words: float | None = None
    probability: float | None = None

    @property
    def id(self) -> str:
        return self.stored.row.id

    def hit(self) -> Hit:
        row = self.stored.row
        place = (row.start_s, row.end_s, row.start_char, row.end_char)
        score = self.cosine if self.cosine is not None else self.by_words
        return Hit(row.id, row.uri, score or 0.0, Modality(row.modality), dict(row.metadata), row.text, *place,
                   text_score=self.by_words, probability=self.probability)  # fmt: skip


def by_cosine(rows: Sequence[Stored], cosines: Sequence[float]) -> list[Found]:
    """The highest first."""
    return sorted(map(Found, rows, cosines), key=lambda one: (-(one.cosine or 0.0), one.id))


def fused(first: Sequence[Found], second: Sequence[Found], query: NDArray[np.float32]) -> list[Found]:
    """Reciprocal rank fusion: a row counts 1 / (60 + its place) for each order it is in; every row gets its cosine.

    Places are all it takes from either, so cosines and BM25 need not be comparable.
    """
    import numpy as np

    merged: dict[str, Found] = {}
    weights: dict[str, float] = {}
    for order in (first, second):
        for place, one in enumerate(order, 1):
            weights[one.id] = weights.get(one.id, 0.0) + 1 / (RANK_OFFSET + place)
            known = merged.get(one.id, one)
            merged[one.id] = Found(
                one.stored, *(b if a is None else a for a, b in zip(known[1:], one[1:], strict=True))
            )
    bare = [one for one in merged.values() if one.cosine is None]
    if bare:
        found = cosines(query, np.stack([one.stored.vector for one in bare])).tolist()
        merged |= {one.id: one._replace(cosine=cosine) for one, cosine in zip(bare, found, strict=True)}
    return sorted(merged.values(), key=lambda one: (-weights[one.id], -(one.cosine or 0.0), one.id))


def distinct(found: Sequence[Found]) -> list[Found]:
    """The first of those that have the same content, or vectors with a cosine of at least SAME."""
    import numpy as np

    kept: list[Found] = []
    contents: set[str] = set()
    vectors = np.empty((len(found), len(found[0].stored.vector) if found else 0), np.float32)
    for one in found:
        content, vector = one.stored.content, one.stored.vector
        if content in contents or (vectors[: len(kept)] @ vector >= SAME).any():
            continue
        vectors[len(kept)] = vector
        kept.append(one)
        if content is not None:
            contents.add(content)
    return kept


def grouped(found: Sequence[Found], by: str | None) -> list[Found]:
    """The first row of each group: of one long thing, or of those with one value of a metadata key. What lacks the key
    is a group of its own."""
    kept: dict[tuple[str, object], Found] = {}
    for one in found:
        row = one.stored.row
        value = None if by is None else row.metadata.get(by)
        is_part = row.start_s is not None or row.start_char is not None
        whole = row.id.rpartition("#")[0] if is_part else row.id
        key = ("thing", whole) if value is None else (type(value).__name__, value)
        kept.setdefault(key, one)
    return list(kept.values())


def cosines(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """With each of some vectors (n, dim), in double precision; row by row, so that a row's score does not depend on
    where it stands."""
    import numpy as np

    wide, one = vectors.astype(np.float64), query.astype(np.float64)
    dots = (wide * one).sum(axis=1)
    norms = np.sqrt((wide * wide).sum(axis=1)) * np.sqrt((one * one).sum())
    return np.asarray(np.round(np.clip(dots / norms, -1.0, 1.0), DECIMALS))


def page(found: Sequence[Found], offset: int, k: int, method: str) -> Hits:
    """k hits from a place on."""
    return Hits([one.hit() for one in found[offset : offset + k]], method)
