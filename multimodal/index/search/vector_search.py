"""Queries against parts -> the nearest rows, row by row or by sketches. Knows vectors, not what the rows are.

Row by row, an answer is exact: no row outside it can be nearer than one inside. By sketches it is nearly so. The rows
whose coarse bits differ least are compared first. What was found to be near tells its angle, and the angle how likely
such a row differs in more bits than any that was compared: so each row that was found stands for a little more than
one, and what is over is how many must be expected to be missing. More rows are compared until that is MISSED of those
looked for. Where that would be many rows, they are sorted out by their fine bits first, by the same rule; and where
that does not help either, all are compared. Nothing in this depends on what the vectors are like.
"""

from __future__ import annotations

import bisect
import functools
import math
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.index.storage import codes
from multimodal.index.storage.codes import Basis
from multimodal.index.storage.segment import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT, SKETCH = "exact", "sketch"  # methods
MISSED = 0.005  # of the nearest, as expected; what that comes to is measured by benchmarks/search.py
HITS = 64  # rows from which that is told
FIRST_CANDIDATES = 512  # and at least 4 for each place looked for
LEAST_DEPTH = 16  # places looked for; else the next power of two from k on, so that pages share them
REACH = 4  # so many times these are picked out at first, since most searches end among them
MANY_CANDIDATES = 4000  # from so many on, and 16 for each place looked for, fine bits are faster
TOO_MANY = 8  # once one row in so many would be compared, comparing all of them in their order is no slower
TOO_COARSE = 3  # once the coarse bits leave one row in so many, they are of no use
FEW = 64  # of one row in so many or fewer, which a filter left, all are compared: faster than all sketches
FEW_ROWS = 1024
MANY = 8  # queries, from which on a matrix product over MATRIX_NUMBERS numbers takes no longer
MATRIX_NUMBERS = 1 << 24
SAMPLED = 32768  # rows from which it is taken how far sketches differ
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
    return pool.part.coarse is not None and pool.n > max(FEW_ROWS, 4 * k, len(pool.part) // FEW)


def best(scored: Sequence[Scored], k: int, method: str) -> Near:
    """What may be among the k best of these."""
    import numpy as np

    limit = _kth([one.scores for one in scored], k) - 2 * ADDING_UP
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
    """Searches some pools by their sketches and others row by row."""

    def __init__(self, sketched: Sequence[Pool], plain: Sequence[Pool], basis: Basis, k: int) -> None:
        self.sketched, self.plain, self.basis, self.k = sketched, plain, basis, k
        self.depth = max(LEAST_DEPTH, 1 << (k - 1).bit_length())
        self.total = sum(one.n for one in sketched)

    def nearest(self, query: NDArray[np.float32]) -> Near:
        known = [one.scored(query[None]).of(0) for one in self.plain]
        compared = self._compared(query, known)
        if compared is None:
            return best([*known, *(one.scored(query[None]).of(0) for one in self.sketched)], self.k, EXACT)
        return best([*known, *compared], self.k, SKETCH)

    def _compared(self, query: NDArray[np.float32], known: list[Scored]) -> list[Scored] | None:
        """What was compared of the sketched pools; None if that would be too much."""
        bits = self.basis.bits(query[None])[0]
        coarse, fine = bits[: codes.COARSE_WORDS], bits[codes.COARSE_WORDS :]
        by_coarse = _by_coarse(self.sketched, coarse)
        search = _Search(query, self.basis, known, self.depth, MISSED / 2)
        compared, bound = search.through(by_coarse, max(MANY_CANDIDATES, 16 * self.depth))
        if compared is not None:
            return compared
        if by_coarse.within(bound) > self.total / TOO_COARSE:
            return None
        return search.through(_by_fine(by_coarse.up_to(bound), fine), self.total / TOO_MANY)[0]


@dataclass(frozen=True, eq=False)
class _Sorted:
    """Rows by how many of so many bits differ: of each part, the places (n,) or None for all, and the distances (n,).
    spread: about how many rows there are at each distance; the last counts all that are as far as that or further."""

    bits: int
    parts: Sequence[tuple[Part, NDArray[np.intp] | None, NDArray[Any]]]
    spread: NDArray[np.float64]

    def within(self, distance: int) -> float:
        """About how many rows differ by no more than that; all, if that is the last distance."""
        return float(self.spread[: distance + 1].sum())

    def between(self, done: int, bound: int) -> Iterator[tuple[Part, NDArray[np.intp]]]:
        """Of each part, the rows that differ by more than `done` and no more than `bound`."""
        for part, places, distances in self.parts:
            chosen = ((distances <= bound) & (distances > done)).nonzero()[0]
            yield part, chosen if places is None else places[chosen]

    def up_to(self, bound: int) -> _Sorted:
        """Only those that differ by no more than that."""
        found = []
        for part, places, distances in self.parts:
            chosen = (distances <= bound).nonzero()[0]
            found.append((part, chosen if places is None else places[chosen], distances[chosen]))
        return replace(self, parts=found)


def _by_coarse(pools: Sequence[Pool], bits: NDArray[np.uint64]) -> _Sorted:
    import numpy as np

    total, found, spread = sum(one.n for one in pools), [], np.zeros(OUT + 1)
    stride = max(1, total // SAMPLED)
    for pool in pools:
        distances = _distances(pool.part, bits)
        if pool.left_out is not None:
            distances = np.maximum(distances, pool.left_out)
        found.append((pool.part, None, distances))
        spread += np.bincount(distances[::stride], minlength=OUT + 1) * float(stride)
    spread[OUT] = max(0.0, total - spread[:OUT].sum())  # without the rows that do not count
    return _Sorted(codes.COARSE_BITS, found, spread)


_recent = threading.local()


def _distances(part: Part, bits: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """In how many coarse bits the rows of a part differ, (n,); good until the next query of the same thread.

    Kept so long, since a search over several modalities asks for them once for each.
    """
    import numpy as np

    known = _recent.__dict__.setdefault("known", weakref.WeakKeyDictionary())
    asked, out = known.get(part, (None, None))
    if asked != bits.tobytes():
        blocks: NDArray[np.uint64] = part.coarse  # type: ignore[assignment]
        out = np.empty((len(blocks), codes.BLOCK), np.uint8) if out is None else out
        codes.distances(blocks, bits, out)
        known[part] = bits.tobytes(), out
    return out.reshape(-1)[: len(part)]  # type: ignore[no-any-return]


def _by_fine(coarse: _Sorted, bits: NDArray[np.uint64]) -> _Sorted:
    """The same rows by all their bits."""
    import numpy as np

    found, spread = [], np.zeros(codes.BITS + 1)
    for part, places, distances in coarse.parts:
        sharper = codes.more_distances(part.fine[places], bits) + distances  # type: ignore[index]
        found.append((part, places, sharper))
        spread += np.bincount(sharper, minlength=len(spread))
    return _Sorted(codes.BITS, found, spread)


@dataclass(frozen=True, eq=False)
class _Search:
    """One query. known: what is compared already; depth: places looked for; missed: the share of these that may be
    missing."""

    query: NDArray[np.float32]
    basis: Basis
    known: list[Scored]
    depth: int
    missed: float

    def through(self, rows: _Sorted, most: float) -> tuple[list[Scored] | None, int]:
        """Compares the rows that differ least, until enough are -> (those, up to which distance).

        (None, up to which distance it would have to go) if that is more than `most` rows.
        """
        import numpy as np

        compared: list[Scored] = []
        last, first = len(rows.spread) - 1, max(FIRST_CANDIDATES, 4 * self.depth)
        counts = rows.spread.cumsum()
        done, bound = -1, int(np.searchsorted(counts, first))
        reach = max(bound, int(np.searchsorted(counts, REACH * first)) - 1)
        close = rows.up_to(reach)
        while bound < last and rows.within(bound) <= most:
            for part, places in (close if bound <= reach else rows).between(done, bound):
                compared.append(
                    Scored(part, places, part.scores(np.stack([self.query, self.basis.mean]), places))
                )
            enough = self._enough(compared, rows.bits)
            if enough <= bound:
                return [one.of(0) for one in compared], bound
            done, bound = bound, enough
        return None, min(bound, last)

    def _enough(self, compared: Sequence[Scored], bits: int) -> int:
        """The least distance beyond which no more are to be expected than may be missing; `bits` if there is none."""
        import numpy as np

        lowest = _kth([one.scores for one in self.known] + [one.scores[:, 0] for one in compared], self.depth)
        if not math.isfinite(lowest):
            return bits
        near = np.concatenate([one.scores[one.scores[:, 0] >= lowest] for one in compared])
        if not len(
            near
        ):  # all that is near is known from elsewhere: a row just as near, in the middle of the others
            along = np.concatenate([one.scores[:, 1] for one in compared])
            near = np.array([[lowest, np.median(along) if len(along) else 0.0]], np.float32)
        share = min(1.0, len(near) / self.depth)  # of the places looked for, those that could be missing
        near = near[:: -(-len(near) // HITS)]
        angles = self.basis.angles(self.query, near[:, 0], near[:, 1]).tolist()

        def missing(distance: int) -> float:
            """The share of the places that must be expected beyond a distance."""
            chances = codes.beyond(distance, angles, bits)
            return share * sum(one / max(1 - one, 1e-9) for one in chances) / len(chances)

        return bisect.bisect_left(range(bits), True, key=lambda distance: missing(distance) <= self.missed)
