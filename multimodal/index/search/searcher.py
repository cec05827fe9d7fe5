"""Searcher: answers the queries of one index. Callers search inside `reading` of lock.py, from `view` to the last hit.

`Hits.method` states how complete an answer is:

    exact        no other row is nearer
    quantized    binary codes chose the candidates; about half a percent of the nearest rows may be missing
                 (vector_search.py)
    approximate  LanceDB's vector index chose the candidates; only after optimize(approximate=True), and without a
                 filter or calibration over several modalities, which search each modality on its own
    text         keywords: every row that contains one of the terms was considered
    hybrid       vectors and keywords, joined by `ranking.fuse`, from the first `fusion_depth` rows of each

Over several modalities, vectors are ordered by probability (calibration.py), or otherwise by cosine.

Filters apply first: if k rows match, k are found. Ties are broken by id, so that an answer depends neither on chance
nor on the order of rows on disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.core.errors import InvalidInput
from multimodal.index.config import DEFAULT, SearchConfig
from multimodal.index.results import Hits
from multimodal.index.search import calibration, ranking
from multimodal.index.search.calibration import QueryCalibration
from multimodal.index.search.calibration_fit import CalibrationReport, CalibrationStore, make_report
from multimodal.index.search.inverted_index import InvertedIndexCache
from multimodal.index.search.labelled_pairs import LabelledQuery, collect
from multimodal.index.search.query import ModalityWeights
from multimodal.index.search.ranking import ScoredRow
from multimodal.index.search.reference_sample import ReferenceSampleStore
from multimodal.index.search.view import Filter, RankedRows, SnapshotView
from multimodal.index.storage.lock import reading
from multimodal.index.storage.remote.cache import derived_folder
from multimodal.index.storage.segment_store import SegmentStore
from multimodal.index.storage.snapshot import LatestVersion
from multimodal.index.storage.table import ItemTable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# n -> the n best rows of each query, and its calibration, or None without one
FindNearest = Callable[[int], tuple[list[RankedRows], Sequence["QueryCalibration | None"]]]
METHOD_TEXT, METHOD_HYBRID = "text", "hybrid"


@dataclass(frozen=True)
class SearchPlan:
    """Validated options that all queries of one search share; `group_key` is None to group by document."""

    k: int
    row_filter: Filter
    offset: int = 0
    exact: bool = False
    deduplicate: bool = False
    calibrated: bool = True
    min_probability: float | None = None
    grouped: bool = False
    group_key: str | None = None

    @property
    def depth(self) -> int:
        """Rows needed to fill the requested page."""
        return self.offset + self.k

    def reduce(self, rows: Sequence[ScoredRow]) -> list[ScoredRow]:
        """Deduplicates and groups rows as requested."""
        kept = ranking.deduplicate(rows) if self.deduplicate else list(rows)
        return ranking.first_of_groups(kept, self.group_key) if self.grouped else kept

    def page(self, rows: Sequence[ScoredRow], method: str, note: str) -> Hits:
        """The requested page of hits."""
        least = self.min_probability
        kept = [row for row in rows if least is None or (row.probability or 0.0) >= least]
        hits = [row.hit() for row in kept[self.offset : self.depth]]
        return Hits(hits, method, note if hits else "")


class Searcher:
    """Searches one index and caches what it has read. May be used by several threads."""

    def __init__(self, table: ItemTable, config: SearchConfig = DEFAULT) -> None:
        self._config, self._path = config, table.path
        fingerprint = table.index_metadata.fingerprint
        folder = derived_folder(table.path, table.identity, fingerprint)
        self._segments = SegmentStore(folder, LatestVersion(table.path, table.index_metadata), config)
        self._samples = ReferenceSampleStore(folder, fingerprint)
        self.calibration = CalibrationStore(table.path, fingerprint)
        self._inverted_indexes = InvertedIndexCache()
        self._view: SnapshotView | None = None
        self._lock = threading.Lock()

    def view(self) -> SnapshotView:
        """The current content of the index. Raises IndexStateError."""
        with self._lock:
            previous = None if self._view is None else self._view.segmented
            segmented = self._segments.load(previous)
            if self._view is None or segmented is not previous:
                self._view = SnapshotView(segmented, self._inverted_indexes, self._config)
            return self._view

    def prepare(self) -> None:
        """Builds segment files that the next search would have to build first."""
        with reading(self._path):
            self._segments.prepare()

    def calibrate(
        self,
        queries: Sequence[LabelledQuery],
        vectors: NDArray[np.float32],
        weights: Sequence[ModalityWeights],
    ) -> CalibrationReport:
        """Fits and stores the calibration of the index to labelled queries with unit vectors (m, dim)."""
        examples = collect(self.view(), self._samples, queries, vectors, weights)
        report = make_report(examples, self.calibration.get())
        self.calibration.write(report)
        return report

    def vector_search(
        self, vectors: NDArray[np.float32], weights: Sequence[ModalityWeights], plan: SearchPlan
    ) -> list[Hits]:
        """Hits for each of the unit queries (m, dim), with the modalities of each query."""
        view = self.view()
        find_nearest = self._find_nearest(view, vectors, weights, plan)
        return _fill_page(lambda n: find_nearest(n)[0], plan, _note(view, plan))

    def text_search(self, texts: Sequence[str], plan: SearchPlan) -> list[Hits]:
        """Hits for each keyword query."""
        view = self.view()
        return _fill_page(
            lambda n: [(view.text_search(text, n, plan.row_filter).rows, METHOD_TEXT) for text in texts], plan
        )

    def hybrid_search(
        self,
        vectors: NDArray[np.float32],
        weights: Sequence[ModalityWeights],
        texts: Sequence[str],
        plan: SearchPlan,
    ) -> list[Hits]:
        """Hits for each vector and its keyword query."""
        view = self.view()
        find_nearest = self._find_nearest(view, vectors, weights, plan)

        def find(n: int) -> list[RankedRows]:
            depth = max(self._config.fusion_depth, 2 * n)
            answers, calibrations = find_nearest(depth)
            fused = []
            for vector, text, (near, _), query in zip(vectors, texts, answers, calibrations, strict=True):
                by_text = view.text_search(text, depth, plan.row_filter)
                rows = ranking.fuse(near, by_text, vector)
                fused.append((rows if query is None else query.with_probabilities(rows), METHOD_HYBRID))
            return fused

        return _fill_page(find, plan, _note(view, plan))

    def _find_nearest(
        self,
        view: SnapshotView,
        vectors: NDArray[np.float32],
        weights: Sequence[ModalityWeights],
        plan: SearchPlan,
    ) -> FindNearest:
        if plan.calibrated and calibration.too_small(view, plan.row_filter) is None:
            coefficients = self.calibration.get()
            return lambda n: calibration.nearest(
                view, self._samples, vectors, weights, n, plan.row_filter, exact=plan.exact, coefficients=coefficients
            )  # fmt: skip
        return lambda n: (
            view.nearest(vectors, n, plan.row_filter, exact=plan.exact),
            [None] * len(vectors),
        )


def _note(view: SnapshotView, plan: SearchPlan) -> str:
    """Why hits are not calibrated although that was requested. Raises InvalidInput if min_probability needs it."""
    reason = calibration.too_small(view, plan.row_filter) if plan.calibrated else None
    if reason is None:
        return ""
    if plan.min_probability is not None:
        raise InvalidInput(
            f"min_probability={plan.min_probability:g} cannot be applied: {reason}; leave it out, or add more items"
        )
    if not calibration.is_mixed(view, plan.row_filter):
        return ""  # within one modality, the order by cosine is right
    return f"not calibrated, ordered by cosine: {reason}"


def _fill_page(find: Callable[[int], list[RankedRows]], plan: SearchPlan, note: str = "") -> list[Hits]:
    """The requested page of each query; searches deeper while deduplication and grouping leave too few rows."""
    n = plan.depth
    while True:
        answers = find(n)
        reduced = [(plan.reduce(rows), method) for rows, method in answers]
        if all(
            len(kept) >= plan.depth or len(rows) < n
            for (kept, _), (rows, _) in zip(reduced, answers, strict=True)
        ):
            return [plan.page(rows, method, note) for rows, method in reduced]
        n *= 4
