"""Calibrated search: one order by probability over several modalities. score_calibration.py defines the probability.

Each modality is searched on its own, so that none can crowd out another, and all rows are ordered by probability.
Within a modality that is the order by cosine. A filter changes which rows match, not their probabilities: those are
computed from the whole index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from multimodal.index.search.query import UNKNOWN, ModalityWeights
from multimodal.index.search.ranking import ScoredRow
from multimodal.index.search.reference_sample import ReferenceSample, ReferenceSampleStore, row_counts
from multimodal.index.search.score_calibration import (
    DEFAULT_COEFFICIENTS,
    MIN_ROWS,
    TOP_ROWS,
    Coefficients,
    ModalityCalibration,
    probability,
)
from multimodal.index.search.view import Filter, RankedRows, SnapshotView

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class QueryCalibration:
    """How the cosines of one query are converted to probabilities, by modality of the row."""

    by_modality: Mapping[str, ModalityCalibration]

    def with_probabilities(self, rows: Sequence[ScoredRow]) -> list[ScoredRow]:
        """The same rows in the same order, with their probabilities."""
        probabilities = {row.id: row.probability for row in self.ordered(rows)}
        return [row._replace(probability=probabilities[row.id]) for row in rows]

    def ordered(self, rows: Sequence[ScoredRow]) -> list[ScoredRow]:
        """Rows with their probabilities, most probable first; equal ones by cosine, then by id."""
        keyed = []
        for name in {row.stored.row.modality for row in rows}:
            own = [row for row in rows if row.stored.row.modality == name]
            own.sort(key=lambda row: (-(row.cosine or 0.0), row.id))
            logits = self.by_modality[name].logits([row.cosine or 0.0 for row in own])
            for logit, row in zip(logits, own, strict=True):
                key = (-logit, -(row.cosine or 0.0), row.id)
                keyed.append((key, row._replace(probability=probability(logit))))
        return [row for _, row in sorted(keyed, key=lambda pair: pair[0])]


def too_small(view: SnapshotView, row_filter: Filter) -> str | None:
    """Why a search cannot be calibrated; None if it can, or if there are no rows at all."""
    counts = row_counts(view)
    small = {name: counts[name] for name in _searched(counts, row_filter) if counts[name] < MIN_ROWS}
    if not small:
        return None
    name, n = min(small.items(), key=lambda item: item[1])
    return f"{n} {name} row{'s are' if n > 1 else ' is'} too few for statistics ({MIN_ROWS} are needed)"


def is_mixed(view: SnapshotView, row_filter: Filter) -> bool:
    """Whether a search covers several modalities that have rows."""
    return len(_searched(row_counts(view), row_filter)) > 1


def nearest(
    view: SnapshotView,
    samples: ReferenceSampleStore,
    vectors: NDArray[np.float32],
    weights: Sequence[ModalityWeights],
    n: int,
    row_filter: Filter,
    *,
    exact: bool = False,
    coefficients: Coefficients = DEFAULT_COEFFICIENTS,
) -> tuple[list[RankedRows], list[QueryCalibration]]:
    """The n most probable rows for each of the unit queries (m, dim), and the calibration of each query.

    weights: the modalities of each query. Only valid where `too_small` is None.
    """
    counts = row_counts(view)
    names = _searched(counts, row_filter)
    if not names:
        return view.nearest(vectors, n, row_filter, exact=exact), [QueryCalibration({})] * len(vectors)
    sample, mean_rows = samples.get(view), sum(counts.values()) / len(counts)
    by_modality: list[list[RankedRows]] = []
    calibrations: list[dict[str, ModalityCalibration]] = [{} for _ in vectors]
    for name in names:
        own = row_filter if len(counts) == 1 else replace(row_filter, modalities=(name,))
        answers = view.nearest(vectors, max(n, TOP_ROWS), own, exact=exact)
        unfiltered = answers
        if row_filter.condition is not None or row_filter.ids is not None:
            without_filter = Filter((name,), exclude=row_filter.exclude)
            unfiltered = view.nearest(vectors, TOP_ROWS, without_filter, exact=exact)
        for query, weight, (top, _), calibration in zip(
            vectors, weights, unfiltered, calibrations, strict=True
        ):
            if top:
                cosines = [row.cosine or 0.0 for row in top[:TOP_ROWS]]
                same = weight.get(name, 0.0) + weight.get(UNKNOWN, 0.0)
                sampled = _sample_cosines(sample, name, query)
                calibration[name] = ModalityCalibration.fit(
                    sampled,
                    cosines,
                    counts[name],
                    mean_rows,
                    same,
                    _background(sample, name, weight),
                    coefficients,
                )
        by_modality.append(answers)
    queries = list(map(QueryCalibration, calibrations))
    merged = [
        _merge(answers, calibration, n)
        for answers, calibration in zip(zip(*by_modality, strict=True), queries, strict=True)
    ]
    return merged, queries


def _searched(counts: Mapping[str, int], row_filter: Filter) -> list[str]:
    """The modalities that a filter allows and that have rows."""
    return [name for name in counts if row_filter.modalities is None or name in row_filter.modalities]


def _sample_cosines(sample: ReferenceSample, name: str, query: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    return np.asarray(sample.vectors[name] @ query, np.float32)


def _background(sample: ReferenceSample, name: str, weights: ModalityWeights) -> float:
    """Standard deviation of the cosines of unrelated pairs: the mean over a query's modalities, by their shares."""
    total = sum(weights.values())
    if not total:  # only negative parts
        return sample.background(name, name)
    return sum(
        share * sample.background(name if modality == UNKNOWN else modality, name) / total
        for modality, share in weights.items()
    )


def _merge(answers: Sequence[RankedRows], calibration: QueryCalibration, n: int) -> RankedRows:
    """One order from those of several modalities; its method is the least exact of theirs."""
    methods = [method for _, method in answers]
    rows = [row for ranked, _ in answers for row in ranked]
    return calibration.ordered(rows)[:n], next((method for method in methods if method != "exact"), "exact")
