"""Queries against parts -> the nearest rows, row by row or by sketches. Knows vectors, not what the rows are.

Row by row, an answer is exact: no row outside it can be nearer than one inside. By sketches it is nearly so. The rows
whose sketches differ least are compared first; how their cosines fall as the sketches differ more, and how much they
scatter about that, tells how many nearer rows must be expected among those not compared. More are compared until
these are MISSED of those looked for, or until so many would be needed that comparing all is no slower.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from multimodal.index import sketch
from multimodal.index.part import Part
from multimodal.index.sketch import Basis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT, SKETCH = "exact", "sketch"  # methods
MISSED = 0.005  # of the nearest, as expected; what that comes to is measured by benchmarks/search.py
FIRST_CANDIDATES = 1000  # and at least 4 for each place looked for
LEAST_DEPTH = (
    32  # places looked for, or else the next power of two from k on: so that most pages come from one search
)
TOO_MANY = 8  # once one row in so many would be compared, comparing all of them in their order is no slower
FEW = 64  # of one row in so many or fewer, which a filter left, all are compared: faster than all sketches
FEW_ROWS = 1024
MANY, MATRIX_NUMBERS = (
    8,
    1 << 24,
)  # from so many queries on, a matrix product over so many numbers takes no longer
SAMPLED = 65536  # rows from which it is taken how far sketches differ
ADDING_UP = 1e-5  # how far off a float32 sum over some thousand numbers may be
SCORES_AT_ONCE = 1 << 24  # 64 MiB: of many queries, so many scores are held at a time
OUT = 255  # the distance of a row that a filter leaves out


@dataclass(frozen=True, eq=False)
class Pool:
    """The rows of a part that count: those where `mask` (n,) is true, or all."""

    part: Part
    mask: NDArray[np.bool_] | None = None

    @functools.cached_property
    def n(self) -> int:
        return len(self.part) if self.mask is None else int(self.mask.sum())

    @functools.cached_property
    def places(self) -> NDArray[np.intp] | None:
        return None if self.mask is None else self.mask.nonzero()[0]

    @functools.cached_property
    def left_out(self) -> NDArray[np.uint8] | None:
        """OUT for the rows that do not count, 0 for the others, (n,)."""
        import numpy as np

        return None if self.mask is None else np.where(self.mask, np.uint8(0), np.uint8(OUT))

    def scored(self, queries: NDArray[np.float32]) -> Scored:
        return Scored(self.part, self.places, self.part.scores(queries, self.places))


class Scored(NamedTuple):
    """Rows of a part, at `places` (n,) or all, and their cosines with one query (n,) or several (n, m)."""

    part: Part
    places: NDArray[np.intp] | None
    scores: NDArray[np.float32]

    def of(self, query: int) -> Scored:
        return self._replace(scores=self.scores[:, query])


@dataclass(frozen=True, eq=False)
class Near:
    """Numbers (c,) and approximate cosines (c,) of all the compared rows that may be among the k nearest: at least k
    if there are so many. method: "exact" if no other row can be, or else how these were chosen."""

    numbers: NDArray[np.uint64]
    scores: NDArray[np.float32]
    method: str


def nearest(
    pools: Sequence[Pool], basis: Basis | None, queries: NDArray[np.float32], k: int, *, exact: bool = False
) -> Iterator[Near]:
    """For each of the unit queries (m, dim) in turn. basis: that of the sketches, if any part has some."""
    numbers = sum(one.n for one in pools) * queries.shape[1]
    exact = exact or (len(queries) >= MANY and numbers <= MATRIX_NUMBERS)
    sketched = [one for one in pools if not exact and _worth_sketching(one, k)]
    plain = [one for one in pools if one not in sketched]
    if basis is not None and sketched:
        search = _Sketched(sketched, plain, basis, k)
        yield from (search.nearest(query) for query in queries)
        return
    step = max(1, SCORES_AT_ONCE // max(1, sum(one.n for one in plain)))
    for start in range(0, len(queries), step):
        scored = [one.scored(queries[start : start + step]) for one in plain]
        for query in range(len(queries[start : start + step])):
            yield best([one.of(query) for one in scored], k, EXACT)


def _worth_sketching(pool: Pool, k: int) -> bool:
    return pool.part.sketches is not None and pool.n > max(FEW_ROWS, 4 * k, len(pool.part) // FEW)


def best(scored: Sequence[Scored], k: int, method: str) -> Near:
    """What may be among the k best of these."""
    import numpy as np

    rounding = max((one.part.rounding for one in scored), default=0.0)
    limit = _kth([one.scores for one in scored], k) - 2 * (rounding + ADDING_UP)
    numbers, scores = [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
    for one in scored:
        chosen = np.flatnonzero(one.scores >= limit)
        numbers.append(one.part.numbers[chosen if one.places is None else one.places[chosen]])
        scores.append(one.scores[chosen])
    return Near(np.concatenate(numbers), np.concatenate(scores), method)


def _kth(scores: Sequence[NDArray[np.float32]], k: int) -> float:
    """The k-th highest of all, or minus infinity if there are fewer."""
    import numpy as np

    highest = [np.partition(part, len(part) - k)[-k:] if len(part) > k else part for part in scores]
    together = np.concatenate([np.empty(0, np.float32), *highest])
    return float(np.partition(together, len(together) - k)[-k]) if len(together) >= k else -math.inf


class _Sketched:
    """Searches some pools by their sketches and others row by row, and keeps what several queries share."""

    def __init__(self, sketched: Sequence[Pool], plain: Sequence[Pool], basis: Basis, k: int) -> None:
        import numpy as np

        self.sketched, self.plain, self.basis, self.k = sketched, plain, basis, k
        self.depth = max(LEAST_DEPTH, 1 << (k - 1).bit_length())
        self.total = sum(one.n for one in sketched)
        self.stride = max(1, self.total // SAMPLED)
        n_blocks = [sketch.n_blocks(len(one.part)) for one in sketched]
        self.distances = [np.empty((n, sketch.BLOCK), np.uint8) for n in n_blocks]

    def nearest(self, query: NDArray[np.float32]) -> Near:
        known = [one.scored(query[None]).of(0) for one in self.plain]
        compared = self._compare(query, known)
        if compared is None:
            return best([*known, *(one.scored(query[None]).of(0) for one in self.sketched)], self.k, EXACT)
        return best([*known, *compared], self.k, SKETCH)

    def _compare(self, query: NDArray[np.float32], known: list[Scored]) -> list[Scored] | None:
        """What was compared of the sketched pools; None if that would be too much."""
        import numpy as np

        far = self._distances(query)
        spread = self._spread(far)
        compared: list[Scored] = []
        differing: list[NDArray[np.uint8]] = []
        done, bound = -1, int(np.searchsorted(spread.cumsum(), max(FIRST_CANDIDATES, 4 * self.depth)))
        while True:
            if bound >= OUT or spread[: bound + 1].sum() > self.total / TOO_MANY:
                return None
            for pool, distances in zip(self.sketched, far, strict=True):
                near = distances <= bound
                places = np.flatnonzero(near if done < 0 else near & (distances > done))
                compared.append(Scored(pool.part, places, pool.part.scores(query[None], places)[:, 0]))
                differing.append(distances[places])
            law = _Law.of(np.concatenate(differing), np.concatenate([one.scores for one in compared]))
            lowest = _kth([one.scores for one in (*known, *compared)], self.depth)
            enough = law.distance_enough(spread, lowest, MISSED * self.depth)
            if enough <= bound:
                return compared
            done, bound = bound, enough

    def _distances(self, query: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
        """Of each sketched pool, how far every row of its part is, (n,); OUT for those not in the pool."""
        import numpy as np

        bits = self.basis.bits(query[None])[0]
        found = []
        for pool, out in zip(self.sketched, self.distances, strict=True):
            sketch.distances(pool.part.sketches, bits, out)  # type: ignore[arg-type]
            flat = out.reshape(-1)[: len(pool.part)]
            found.append(flat if pool.left_out is None else np.maximum(flat, pool.left_out, out=flat))
        return found

    def _spread(self, far: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """About how many rows there are at each distance, (OUT + 1,); at OUT, those of the pools that are no nearer."""
        import numpy as np

        spread = np.zeros(OUT + 1)
        for one in far:
            spread += np.bincount(one[:: self.stride], minlength=OUT + 1) * float(self.stride)
        spread[OUT] = max(0.0, self.total - spread[:OUT].sum())
        return spread


@dataclass(frozen=True)
class _Law:
    """How cosines depend on the distance d of the sketches, among the rows compared: near level + slope * d, with a
    scatter about it (a standard deviation)."""

    level: float
    slope: float
    scatter: float

    @classmethod
    def of(cls, distances: NDArray[np.uint8], scores: NDArray[np.float32]) -> _Law:
        import numpy as np

        d, s = distances.astype(np.float64), scores.astype(np.float64)
        d_mean, s_mean = float(d.mean()), float(s.mean())
        spread = float(((d - d_mean) ** 2).mean())
        slope = min(0.0, float(((d - d_mean) * (s - s_mean)).mean()) / spread) if spread else 0.0
        level = s_mean - slope * d_mean
        return cls(level, slope, math.sqrt(float(((s - level - slope * d) ** 2).mean())))

    def distance_enough(self, spread: NDArray[np.float64], wanted: float, missed: float) -> int:
        """The least distance beyond which no more than `missed` rows are expected to reach the cosine `wanted`."""
        expected = [
            n
            * 0.5
            * math.erfc((wanted - self.level - self.slope * d) / (max(self.scatter, 1e-9) * math.sqrt(2)))
            for d, n in enumerate(spread.tolist())
        ]
        beyond = 0.0
        for d in range(len(expected) - 1, -1, -1):
            beyond += expected[d]
            if beyond > missed:
                return d
        return 0
