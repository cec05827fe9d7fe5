"""Nearest-neighbour search over segments, exact or by binary codes. Knows vectors, not what the rows are.

An exact result is complete: no row outside it can be nearer than one inside. A search by binary codes ("quantized") is
nearly so. Rows whose coarse codes differ least are compared exactly first. The rows found to be near give their angles,
and an angle gives the probability that such a row differs in more bits than any row compared so far; so each row found
stands for slightly more than one, and the excess is the number of rows expected to be missing. More rows are compared
until that is at most `max_expected_miss` of those requested. Where that would be many rows, their fine codes filter
them by the same rule; where that does not suffice either, all rows are compared. Nothing here depends on the
distribution of the vectors.
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

from multimodal.index.config import DEFAULT, SearchConfig
from multimodal.index.storage import codes
from multimodal.index.storage.codes import Projection
from multimodal.index.storage.parallel import n_cores, spread
from multimodal.index.storage.segment import Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXACT, QUANTIZED = "exact", "quantized"  # methods
ANGLE_ROWS = 64  # near rows from which the expected miss is computed
CANDIDATES_PER_RESULT = 4  # compared exactly at first, if more than `first_candidates`
MIN_DEPTH = 16  # results searched for; above it the next power of two, so that consecutive pages agree
SELECTED_FACTOR = 4  # this multiple is selected at first, because most searches end among them
FINE_CANDIDATES = 4000  # candidates, or 16 per result, from which filtering by fine codes is faster
MAX_COMPARED_SHARE = 8  # once one row in 8 would be compared, comparing all of them in order is no slower
MAX_COARSE_SHARE = 3  # once the coarse codes leave one row in 3, they are of no use
FILTERED_SHARE = (
    64  # if a filter leaves one row in 64 or fewer, comparing them all is faster than comparing codes
)
MATRIX_QUERIES = 8  # queries from which a matrix product over `matrix_elements` is no slower
DISTRIBUTION_ROWS = 32768  # rows from which the distribution of distances is estimated
SUM_ERROR = 2e-5  # error of a float32 dot product of some thousand dimensions, with a vector in int16
THREAD_ROWS = 500_000  # rows from which selecting the nearest by their codes is worth another thread
EXCLUDED = 255  # distance given to rows that a filter excludes


@dataclass(frozen=True, eq=False)
class Candidates:
    """The rows of a segment that a filter selects: those where `mask` (n,) is true; all if it is None."""

    segment: Segment
    mask: NDArray[np.bool_] | None = None

    @functools.cached_property
    def n_rows(self) -> int:
        return len(self.segment) if self.mask is None else int(self.mask.sum())

    @functools.cached_property
    def positions(self) -> NDArray[np.intp] | None:
        return None if self.mask is None else self.mask.nonzero()[0]

    @functools.cached_property
    def exclusion(self) -> NDArray[np.uint8] | None:
        """EXCLUDED for rows that are not selected, 0 for the others, (n,)."""
        import numpy as np

        return None if self.mask is None else np.where(self.mask, np.uint8(0), np.uint8(EXCLUDED))

    def score(self, queries: NDArray[np.float32]) -> ScoredCandidates:
        return ScoredCandidates(self.segment, self.positions, self.segment.scores(queries, self.positions))


class ScoredCandidates(NamedTuple):
    """Rows of a segment, at `positions` (n,) or all, with their cosines for one query (n,) or several (n, m)."""

    segment: Segment
    positions: NDArray[np.intp] | None
    scores: NDArray[np.float32]

    def for_query(self, number: int) -> ScoredCandidates:
        return self._replace(scores=self.scores[:, number])


@dataclass(frozen=True, eq=False)
class NearestRows:
    """Row ids (c,) and approximate cosines (c,) of the compared rows that may be among the k nearest.

    There are at least k if the index has as many. method: "exact" if no other row can be, or how they were chosen.
    """

    row_ids: NDArray[np.uint64]
    scores: NDArray[np.float32]
    method: str


def nearest(
    candidates: Sequence[Candidates],
    projection: Projection | None,
    queries: NDArray[np.float32],
    k: int,
    *,
    exact: bool = False,
    config: SearchConfig = DEFAULT,
) -> Iterator[NearestRows]:
    """The nearest rows for each of the unit queries (m, dim). projection: of the codes, if any segment has codes."""
    n_elements = sum(rows.n_rows for rows in candidates) * queries.shape[1]
    exact = exact or (len(queries) >= MATRIX_QUERIES and n_elements <= config.matrix_elements)
    coded = [rows for rows in candidates if not exact and _is_worth_codes(rows, k, config)]
    plain = [rows for rows in candidates if rows not in coded]
    if projection is not None and coded:
        search = _CodeSearch(coded, plain, projection, k, config)
        yield from (search.nearest(query) for query in queries)
        return
    step = max(1, config.max_scores // max(1, sum(rows.n_rows for rows in plain)))
    for start in range(0, len(queries), step):
        scored = [rows.score(queries[start : start + step]) for rows in plain]
        for number in range(len(queries[start : start + step])):
            yield best([rows.for_query(number) for rows in scored], k, EXACT)


def _is_worth_codes(rows: Candidates, k: int, config: SearchConfig) -> bool:
    least = max(config.min_code_rows, 4 * k, len(rows.segment) // FILTERED_SHARE)
    return rows.segment.coarse_codes is not None and rows.n_rows > least


def best(scored: Sequence[ScoredCandidates], k: int, method: str) -> NearestRows:
    """The rows that may be among the k nearest of these."""
    import numpy as np

    limit = _kth_highest([rows.scores for rows in scored], k) - 2 * SUM_ERROR
    row_ids, scores = [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
    for rows in scored:
        chosen = np.flatnonzero(rows.scores >= limit)
        row_ids.append(rows.segment.row_ids[chosen if rows.positions is None else rows.positions[chosen]])
        scores.append(rows.scores[chosen])
    return NearestRows(np.concatenate(row_ids), np.concatenate(scores), method)


def _kth_highest(scores: Sequence[NDArray[np.float32]], k: int) -> float:
    """The k-th highest of all scores, or minus infinity if there are fewer."""
    import numpy as np

    highest = [np.partition(array, len(array) - k)[-k:] if len(array) > k else array for array in scores]
    together = np.concatenate([np.empty(0, np.float32), *highest])
    return float(np.partition(together, len(together) - k)[-k]) if len(together) >= k else -math.inf


class _CodeSearch:
    """Searches some segments by their codes and others row by row."""

    def __init__(
        self,
        coded: Sequence[Candidates],
        plain: Sequence[Candidates],
        projection: Projection,
        k: int,
        config: SearchConfig,
    ) -> None:
        self.coded, self.plain, self.projection, self.k, self.config = coded, plain, projection, k, config
        self.depth = max(MIN_DEPTH, 1 << (k - 1).bit_length())
        self.n_rows = sum(rows.n_rows for rows in coded)

    def nearest(self, query: NDArray[np.float32]) -> NearestRows:
        known = [rows.score(query[None]).for_query(0) for rows in self.plain]
        compared = self._compare(query, known)
        if compared is None:
            everything = [rows.score(query[None]).for_query(0) for rows in self.coded]
            return best([*known, *everything], self.k, EXACT)
        return best([*known, *compared], self.k, QUANTIZED)

    def _compare(
        self, query: NDArray[np.float32], known: list[ScoredCandidates]
    ) -> list[ScoredCandidates] | None:
        """The rows with codes that were compared exactly; None if there would be too many."""
        code = self.projection.encode(query[None])[0]
        coarse, fine = code[: codes.COARSE_WORDS], code[codes.COARSE_WORDS :]
        by_coarse = _coarse_distances(self.coded, coarse, self.config.threads or n_cores())
        scan = _AdaptiveScan(
            query,
            self.projection,
            known,
            self.depth,
            self.config.max_expected_miss / 2,
            self.config.first_candidates,
        )
        compared, bound = scan.run(by_coarse, max(FINE_CANDIDATES, 16 * self.depth))
        if compared is not None:
            return compared
        if by_coarse.count_within(bound) > self.n_rows / MAX_COARSE_SHARE:
            return None
        return scan.run(_fine_distances(by_coarse.up_to(bound), fine), self.n_rows / MAX_COMPARED_SHARE)[0]


@dataclass(frozen=True, eq=False)
class _RowsByDistance:
    """Rows with the Hamming distances of their codes.

    bits: compared bits. segments: for each, the positions (n,), or None for all, and the distances (n,). histogram:
    estimated rows at each distance; the last element counts all rows at that distance or beyond.
    """

    bits: int
    segments: Sequence[tuple[Segment, NDArray[np.intp] | None, NDArray[Any]]]
    histogram: NDArray[np.float64]
    threads: int = 1

    def count_within(self, distance: int) -> float:
        """Estimated rows at up to this distance; all of them for the last distance."""
        return float(self.histogram[: distance + 1].sum())

    def between(self, done: int, bound: int) -> Iterator[tuple[Segment, NDArray[np.intp]]]:
        """Positions of the rows of each segment at a distance of more than `done`, and up to `bound`."""
        for segment, positions, distances in self.segments:
            chosen = ((distances <= bound) & (distances > done)).nonzero()[0]
            yield segment, chosen if positions is None else positions[chosen]

    def up_to(self, bound: int) -> _RowsByDistance:
        """Only the rows at up to this distance."""
        selected = []
        for segment, positions, distances in self.segments:
            chosen = _at_most(distances, bound, self.threads)
            selected.append((segment, chosen if positions is None else positions[chosen], distances[chosen]))
        return replace(self, segments=selected)


def _at_most(distances: NDArray[Any], bound: int, threads: int) -> NDArray[np.intp]:
    """The positions of distances up to a bound."""
    import numpy as np

    def select(part: slice) -> NDArray[np.intp]:
        positions: NDArray[np.intp] = (distances[part] <= bound).nonzero()[0]
        positions += part.start
        return positions

    return np.concatenate(spread(select, len(distances), threads=threads, least=THREAD_ROWS))


def _coarse_distances(
    candidates: Sequence[Candidates], code: NDArray[np.uint64], threads: int
) -> _RowsByDistance:
    import numpy as np

    n_rows, segments = sum(rows.n_rows for rows in candidates), []
    histogram = np.zeros(EXCLUDED + 1)
    stride = max(1, n_rows // DISTRIBUTION_ROWS)
    for rows in candidates:
        distances = _segment_distances(rows.segment, code, threads)
        if rows.exclusion is not None:
            distances = np.maximum(distances, rows.exclusion)
        segments.append((rows.segment, None, distances))
        histogram += np.bincount(distances[::stride], minlength=EXCLUDED + 1) * float(stride)
    histogram[EXCLUDED] = max(0.0, n_rows - histogram[:EXCLUDED].sum())  # without the excluded rows
    return _RowsByDistance(codes.COARSE_BITS, segments, histogram, threads)


_recent = threading.local()


def _segment_distances(segment: Segment, code: NDArray[np.uint64], threads: int) -> NDArray[np.uint8]:
    """Coarse distances (n,) of a segment's rows; valid until the next query of the same thread.

    Cached because a search over several modalities needs them once for each.
    """
    import numpy as np

    cache = _recent.__dict__.setdefault("distances", weakref.WeakKeyDictionary())
    cached_code, out = cache.get(segment, (None, None))
    if cached_code != code.tobytes():
        blocks: NDArray[np.uint64] = segment.coarse_codes  # type: ignore[assignment]
        out = np.empty((len(blocks), codes.BLOCK), np.uint8) if out is None else out
        codes.coarse_distances(blocks, code, out, threads)
        cache[segment] = code.tobytes(), out
    return out.reshape(-1)[: len(segment)]  # type: ignore[no-any-return]


def _fine_distances(coarse: _RowsByDistance, code: NDArray[np.uint64]) -> _RowsByDistance:
    """The same rows, by all bits of their codes."""
    import numpy as np

    segments, histogram = [], np.zeros(codes.BITS + 1)
    for segment, positions, distances in coarse.segments:
        fine: NDArray[np.uint64] = segment.fine_codes  # type: ignore[assignment]
        total = codes.fine_distances(fine[positions], code) + distances
        segments.append((segment, positions, total))
        histogram += np.bincount(total, minlength=len(histogram))
    return _RowsByDistance(codes.BITS, segments, histogram)


@dataclass(frozen=True, eq=False)
class _AdaptiveScan:
    """The stopping rule for one query.

    known: rows compared already. depth: results searched for. max_expected_miss: share of them that may be missing.
    first_candidates: rows compared at first.
    """

    query: NDArray[np.float32]
    projection: Projection
    known: list[ScoredCandidates]
    depth: int
    max_expected_miss: float
    first_candidates: int

    def run(self, rows: _RowsByDistance, max_rows: float) -> tuple[list[ScoredCandidates] | None, int]:
        """Compares rows in the order of distance until enough are compared: (those, their greatest distance).

        If that would be more than max_rows: (None, the distance that would be needed).
        """
        import numpy as np

        compared: list[ScoredCandidates] = []
        last = len(rows.histogram) - 1
        first = max(self.first_candidates, CANDIDATES_PER_RESULT * self.depth)
        counts = rows.histogram.cumsum()
        done, bound = -1, int(np.searchsorted(counts, first))
        selected_to = max(bound, int(np.searchsorted(counts, SELECTED_FACTOR * first)) - 1)
        selected = rows.up_to(selected_to)
        while bound < last and rows.count_within(bound) <= max_rows:
            for segment, positions in (selected if bound <= selected_to else rows).between(done, bound):
                directions = np.stack([self.query, self.projection.mean])
                compared.append(ScoredCandidates(segment, positions, segment.scores(directions, positions)))
            enough = self._sufficient_distance(compared, rows.bits)
            if enough <= bound:
                return [scored.for_query(0) for scored in compared], bound
            done, bound = bound, enough
        return None, min(bound, last)

    def _sufficient_distance(self, compared: Sequence[ScoredCandidates], bits: int) -> int:
        """The least distance beyond which few enough rows are expected to be missing; `bits` if there is none."""
        import numpy as np

        cosines = [scored.scores for scored in self.known] + [scored.scores[:, 0] for scored in compared]
        lowest = _kth_highest(cosines, self.depth)
        if not math.isfinite(lowest):
            return bits
        near = np.concatenate([scored.scores[scored.scores[:, 0] >= lowest] for scored in compared])
        if not len(near):
            # All near rows are in `known`: assume a row just as near, in the middle of the compared ones.
            dots = np.concatenate([scored.scores[:, 1] for scored in compared])
            near = np.array([[lowest, np.median(dots) if len(dots) else 0.0]], np.float32)
        share = min(1.0, len(near) / self.depth)  # of the requested results, those that could be missing
        near = near[:: -(-len(near) // ANGLE_ROWS)]
        angles = self.projection.angles(self.query, near[:, 0], near[:, 1]).tolist()

        def expected_miss(distance: int) -> float:
            """The share of the results that must be expected beyond a distance."""
            tails = codes.tail_probabilities(distance, angles, bits)
            return share * sum(tail / max(1 - tail, 1e-9) for tail in tails) / len(tails)

        return bisect.bisect_left(
            range(bits), True, key=lambda distance: expected_miss(distance) <= self.max_expected_miss
        )
