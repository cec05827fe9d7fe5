"""The nearest rows of several modalities -> one order by probability. See calibration.py for what that is.

Each modality is searched on its own, so that none can crowd out another, and all rows are put in order by probability.
Within a modality that is the order by cosine. A filter changes which rows are found, not what a cosine is worth: that
is told by the whole index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from multimodal.index.search.query import UNKNOWN, Kinds
from multimodal.index.search.ranking import Found
from multimodal.index.search.reference_sample import Background, Backgrounds, rows_of
from multimodal.index.search.score_calibration import LEAST, TOP, Scale, probability
from multimodal.index.search.view import Filter, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Answer = tuple[list[Found], str]  # rows, and the method; as of View.nearest


@dataclass(frozen=True, eq=False)
class Ways:
    """How one query reads the cosines of each modality."""

    scales: Mapping[str, Scale]

    def told(self, found: Sequence[Found]) -> list[Found]:
        """The same rows in the same order, with their probabilities."""
        known = {one.id: one.probability for one in self.ordered(found)}
        return [one._replace(probability=known[one.id]) for one in found]

    def ordered(self, found: Sequence[Found]) -> list[Found]:
        """The most probable first; equal ones by cosine, then by id."""
        ranked = []
        for name in {one.stored.row.modality for one in found}:
            own = [one for one in found if one.stored.row.modality == name]
            own.sort(key=lambda one: (-(one.cosine or 0.0), one.id))
            logits = self.scales[name].logits([one.cosine or 0.0 for one in own])
            ranked += [
                (-logit, -(one.cosine or 0.0), one.id, one._replace(probability=probability(logit)))
                for logit, one in zip(logits, own, strict=True)
            ]
        return [one for *_, one in sorted(ranked, key=lambda each: each[:3])]


def too_small(view: View, only: Filter) -> str | None:
    """Why the hits of a search cannot be calibrated; None if they can, or if there are no rows at all."""
    counts = rows_of(view)
    few = {name: counts[name] for name in _names(counts, only) if counts[name] < LEAST}
    if not few:
        return None
    name, n = min(few.items(), key=lambda each: each[1])
    return f"{n} {name} row{'s are' if n > 1 else ' is'} too few for statistics ({LEAST} are needed)"


def is_mixed(view: View, only: Filter) -> bool:
    """Whether a search is over several modalities that have rows."""
    return len(_names(rows_of(view), only)) > 1


def nearest(
    view: View,
    kept: Backgrounds,
    vectors: NDArray[np.float32],
    kinds: Sequence[Kinds],
    n: int,
    only: Filter,
    *,
    exact: bool = False,
) -> tuple[list[Answer], list[Ways]]:
    """The n most probable rows for each of the unit queries (m, dim), and how each query reads its cosines.

    kinds: of each query. Only where `too_small` is None.
    """
    counts = rows_of(view)
    names = _names(counts, only)
    if not names:
        return view.nearest(vectors, n, only, exact=exact), [Ways({})] * len(vectors)
    background, mean_rows = kept.of(view), sum(counts.values()) / len(counts)
    found: list[list[Answer]] = []
    scales: list[dict[str, Scale]] = [{} for _ in vectors]
    for name in names:
        own = only if len(counts) == 1 else replace(only, modalities=(name,))
        answers = view.nearest(vectors, max(n, TOP), own, exact=exact)
        tops = answers
        if only.condition is not None or only.ids is not None:
            tops = view.nearest(vectors, TOP, Filter((name,), without=only.without), exact=exact)
        for query, kind, (top, _), known in zip(vectors, kinds, tops, scales, strict=True):
            if top:
                cosines = [one.cosine or 0.0 for one in top[:TOP]]
                sampled, alike = (
                    _sampled(background, name, query),
                    kind.get(name, 0.0) + kind.get(UNKNOWN, 0.0),
                )
                known[name] = Scale.of(sampled, cosines, counts[name], mean_rows, alike)
        found.append(answers)
    ways = list(map(Ways, scales))
    merged = [_merged(answers, way, n) for answers, way in zip(zip(*found, strict=True), ways, strict=True)]
    return merged, ways


def _names(counts: Mapping[str, int], only: Filter) -> list[str]:
    """The modalities that are searched and have rows."""
    return [name for name in counts if only.modalities is None or name in only.modalities]


def _sampled(background: Background, name: str, query: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    return np.asarray(background.vectors[name] @ query, np.float32)


def _merged(answers: Sequence[Answer], way: Ways, n: int) -> Answer:
    """One order out of those of several modalities; its method is the least exact of theirs."""
    methods = [method for _, method in answers]
    rows = [one for found, _ in answers for one in found]
    return way.ordered(rows)[:n], next((one for one in methods if one != "exact"), "exact")
