"""SnapshotView: filtering and searching one snapshot of an index.

Candidates that vector_search.py returns are scored again in double precision.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.index.config import DEFAULT, SearchConfig
from multimodal.index.search import ranking, vector_search
from multimodal.index.search.inverted_index import InvertedIndexCache, matching_rows
from multimodal.index.search.ranking import ScoredRow, StoredRow, TextMatches
from multimodal.index.search.text_query import TextQuery
from multimodal.index.search.vector_search import Candidates, NearestRows
from multimodal.index.storage.segment import Segment
from multimodal.index.storage.segment_store import SegmentedSnapshot
from multimodal.index.storage.vector_formats import INT16

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

APPROXIMATE = "approximate"
TEXT_SCORE_DECIMALS = 5  # BM25 is summed in single precision
PHRASE_CHECK_ROWS = 256  # rows read at a time to check phrases

RankedRows = tuple[list[ScoredRow], str]  # rows, best first, and the method that found them


@dataclass(frozen=True)
class Filter:
    """Which rows a search considers.

    modalities: only these. condition: an SQL condition on the metadata. ids: only these items, or chunks of these
    documents. exclude: none of these items or chunks of these documents.
    """

    modalities: tuple[str, ...] | None = None
    condition: str | None = None
    ids: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()


class SnapshotView:
    """A searchable snapshot. May be used by several threads."""

    def __init__(
        self,
        segmented: SegmentedSnapshot,
        inverted_indexes: InvertedIndexCache,
        config: SearchConfig = DEFAULT,
    ) -> None:
        self.segmented, self._inverted_indexes, self._config = segmented, inverted_indexes, config
        self.snapshot = segmented.snapshot
        self._candidates: dict[Filter, list[Candidates]] = {}
        self._lock = threading.Lock()

    def candidates(self, row_filter: Filter) -> list[Candidates]:
        """The rows of each segment that a filter selects."""
        with self._lock:
            if row_filter not in self._candidates:
                if len(self._candidates) >= self._config.cached_filters:
                    self._candidates.clear()
                pairs = zip(self.segmented.segments, self._masks(row_filter), strict=True)
                self._candidates[row_filter] = [Candidates(segment, mask) for segment, mask in pairs]
            return self._candidates[row_filter]

    def _masks(self, row_filter: Filter) -> list[NDArray[np.bool_] | None]:
        import numpy as np

        masks, segments = list(self.segmented.live), self.segmented.segments
        if row_filter.modalities is not None:
            names = self.snapshot.index_metadata.modalities
            wanted = [names.index(name) for name in row_filter.modalities]
            masks = [
                _and(mask, np.isin(segment.modality_ids, wanted))
                for mask, segment in zip(masks, segments, strict=True)
            ]
        for row_ids in self._selected_row_ids(row_filter):
            masks = [_and(mask, segment.mask(row_ids)) for mask, segment in zip(masks, segments, strict=True)]
        if row_filter.exclude:
            row_ids = self._row_ids_of(row_filter.exclude)
            masks = [
                _and(mask, ~segment.mask(row_ids)) for mask, segment in zip(masks, segments, strict=True)
            ]
        return masks

    def _selected_row_ids(self, row_filter: Filter) -> Iterator[NDArray[np.uint64]]:
        if row_filter.condition is not None:
            yield self.snapshot.row_ids(row_filter.condition)
        if row_filter.ids is not None:
            yield self._row_ids_of(row_filter.ids)

    def _row_ids_of(self, ids: Sequence[str]) -> NDArray[np.uint64]:
        import numpy as np

        by_id = self.snapshot.row_ids_of(ids)
        return np.array([row_id for row_ids in by_id.values() for row_id in row_ids], np.uint64)

    def nearest(
        self, vectors: NDArray[np.float32], n: int, row_filter: Filter, *, exact: bool = False
    ) -> list[RankedRows]:
        """The n nearest rows for each of the unit queries (m, dim), nearest first, and the method."""
        candidates = self.candidates(row_filter)
        n = max(1, min(n, sum(rows.n_rows for rows in candidates)))
        if not exact and row_filter == Filter() and self.snapshot.has_vector_index:
            answers = [
                NearestRows(*self.snapshot.approximate_nearest(query, n), APPROXIMATE) for query in vectors
            ]
        else:
            projection = self.segmented.manifest.projection
            answers = list(
                vector_search.nearest(candidates, projection, vectors, n, exact=exact, config=self._config)
            )
        pairs = zip(vectors, answers, strict=True)
        return [(self._rank(query, answer.row_ids, n, exact), answer.method) for query, answer in pairs]

    def _rank(
        self, query: NDArray[np.float32], row_ids: NDArray[np.uint64], n: int, exact: bool
    ) -> list[ScoredRow]:
        import numpy as np

        vectors = self._stored_vectors(row_ids) if exact else self._vectors(row_ids)
        cosines = ranking.cosines(query, vectors)
        if len(row_ids) > n:  # only the n nearest and those equal to the last are read
            first = cosines >= np.partition(cosines, -n)[-n]
            row_ids, cosines = row_ids[first], cosines[first]
        stored = self.fetch(row_ids)
        return ranking.by_cosine([stored[row_id] for row_id in row_ids.tolist()], cosines.tolist())[:n]

    def text_search(self, text: str, n: int, row_filter: Filter) -> TextMatches:
        """The n rows that match a keyword query best, best first; fewer if fewer match.

        Raises InvalidInput if the text contains no term.
        """
        candidates, query = self.candidates(row_filter), TextQuery.parse(text)
        indexes = [self._inverted_indexes.get(rows.segment) for rows in candidates]
        every_match, bound = matching_rows(candidates, indexes, query)
        matches: Iterable[tuple[int, float]] = every_match
        if query.phrases:
            matches = self._with_phrases(matches, query)
        first = list(_first_with_ties(matches, n))
        ids = self.ids([row_id for row_id, _ in first]) if len(first) > 1 else {}
        best = sorted(first, key=lambda match: (-match[1], ids.get(match[0], "")))[:n]
        stored = self.fetch([row_id for row_id, _ in best])
        rows = [ScoredRow(stored[row_id], None, round(score, TEXT_SCORE_DECIMALS)) for row_id, score in best]
        return TextMatches(rows, bound)

    def _with_phrases(
        self, matches: Iterable[tuple[int, float]], query: TextQuery
    ) -> Iterator[tuple[int, float]]:
        """The matches whose rows contain the phrases; rows are read only as far as they are consumed."""
        remaining = iter(matches)
        while batch := list(itertools.islice(remaining, PHRASE_CHECK_ROWS)):
            stored = self.fetch([row_id for row_id, _ in batch])
            yield from (match for match in batch if query.phrases_match(stored[match[0]].row))

    def prepare_text_search(self) -> None:
        """Builds the inverted indexes that the first keyword search would have to build."""
        for segment in self.segmented.segments:
            self._inverted_indexes.get(segment)

    def fetch(self, row_ids: NDArray[np.uint64] | Sequence[int]) -> dict[int, StoredRow]:
        """Rows of this snapshot by row id."""
        names, rows = self.snapshot.index_metadata.modalities, {}
        for segment, position, row_id in self._locate(row_ids):
            row, content = segment.columns.row(position, names[segment.modality_ids[position]])
            rows[row_id] = StoredRow(row, segment.vectors[position], content)
        return rows

    def ids(self, row_ids: Sequence[int]) -> dict[int, str]:
        """Item ids of rows of this snapshot, by row id."""
        return {row_id: segment.columns.id(position) for segment, position, row_id in self._locate(row_ids)}

    def _stored_vectors(self, row_ids: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Vectors (n, dim) of rows of this snapshot, as the table has them and not rounded to int16."""
        vectors = self._vectors(row_ids)
        for segment in self.segmented.segments:
            if segment.vectors.format.name == INT16:
                rounded = (segment.positions_of(row_ids) >= 0).nonzero()[0]
                stored = self.snapshot.vectors(row_ids[rounded].tolist()) if len(rounded) else {}
                for position in rounded.tolist():
                    vectors[position] = stored[int(row_ids[position])]
        return vectors

    def _vectors(self, row_ids: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Vectors (n, dim) of rows of this snapshot."""
        import numpy as np

        vectors = np.empty((len(row_ids), self.snapshot.index_metadata.dim), np.float32)
        for segment in self.segmented.segments:
            positions = segment.positions_of(row_ids)
            vectors[positions >= 0] = segment.vectors[positions[positions >= 0]]
        return vectors

    def _locate(self, row_ids: NDArray[np.uint64] | Sequence[int]) -> Iterator[tuple[Segment, int, int]]:
        """(segment, position in it, row id) of rows, unordered."""
        import numpy as np

        wanted = np.asarray(row_ids, np.uint64)
        for segment in self.segmented.segments:
            positions = segment.positions_of(wanted)
            here = positions >= 0
            for position, row_id in zip(positions[here].tolist(), wanted[here].tolist(), strict=True):
                yield segment, position, row_id


def _first_with_ties(matches: Iterable[tuple[int, float]], n: int) -> Iterator[tuple[int, float]]:
    """The first n of (row id, score) in falling order, and those with the same score as the n-th."""
    last = None
    for rank, match in enumerate(matches, 1):
        if last is not None and match[1] < last:
            return
        yield match
        if rank == n:
            last = match[1]


def _and(mask: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return other if mask is None else mask & other
