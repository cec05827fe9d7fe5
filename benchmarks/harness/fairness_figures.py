"""Methods to rank texts, images and speech in a single list, and metrics of rankings and probabilities."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodal.index.search.reference_sample import ReferenceSample
from multimodal.index.search.score_calibration import TOP_ROWS, ModalityCalibration
from recipes.starter.figures.galleries import KINDS, Gallery, Queries

GAIN = 1 / np.log2(np.arange(2, 12))
SAMPLED = 1000
BINS = 15

Floats = NDArray[np.float64]
Way = Callable[[Floats, Floats], Floats]


def centred(cosines: Floats, sampled: Floats) -> Floats:
    return cosines - sampled.mean(1, keepdims=True)


def z_pair(cosines: Floats, sampled: Floats) -> Floats:
    return (cosines - sampled.mean()) / sampled.std()


def z_query(cosines: Floats, sampled: Floats) -> Floats:
    return (cosines - sampled.mean(1, keepdims=True)) / sampled.std(1, keepdims=True)


def z_robust(cosines: Floats, sampled: Floats) -> Floats:
    middle = np.median(sampled, 1, keepdims=True)
    return (cosines - middle) / np.median(abs(sampled - middle), 1, keepdims=True)


def tail(cosines: Floats, sampled: Floats) -> Floats:
    """Minus the logarithm of an exponential tail beyond the 95th percentile."""
    limit = np.quantile(sampled, 0.95, axis=1, keepdims=True)
    beyond = np.maximum(sampled - limit, 0)
    return (cosines - limit) / (beyond.sum(1) / (beyond > 0).sum(1))[:, None]


def empirical(cosines: Floats, sampled: Floats) -> Floats:
    """The share of sampled cosines below each cosine; ties are broken by the cosine."""
    ordered = np.sort(sampled, 1)
    below = np.array([np.searchsorted(a, b) for a, b in zip(ordered, cosines, strict=True)])
    return below / sampled.shape[1] + 1e-6 * cosines


def reciprocal(cosines: Floats, sampled: Floats) -> Floats:
    return 1 / (61 + np.argsort(np.argsort(-cosines, 1), 1)) + 1e-9 * cosines


WAYS: dict[str, Way] = {
    "plain cosine": lambda cosines, sampled: cosines,
    "reciprocal rank": reciprocal,
    "centred": centred,
    "robust z": z_robust,
    "z, all pairs": z_pair,
    "z, each query": z_query,
    "exponential tail": tail,
    "empirical tail": empirical,
}
OURS = "multimodal"


def scored(
    way: str, queries: Queries, gallery: Gallery, seed: int = 0, *, with_background: bool = True
) -> Floats:
    """Ranking scores (queries, items); -inf for items that cannot be among the first TOP_ROWS.

    with_background: whether OURS uses the deviation of unrelated pairs, as searches do. Without it a logit is a linear
    function of how far an item stands out.
    """
    rng, mean = np.random.default_rng(seed), len(gallery.kinds) / len(np.unique(gallery.kinds))
    scores = np.full((len(queries.vectors), len(gallery.kinds)), -np.inf)
    sample = _reference_sample(gallery, seed)
    for kind in np.unique(gallery.kinds):
        own = np.flatnonzero(gallery.kinds == kind)
        cosines = (queries.vectors @ gallery.vectors[own].T).astype(np.float64)
        sampled = cosines[:, rng.choice(len(own), min(len(own), SAMPLED), replace=False)]
        if way != OURS:
            scores[:, own] = WAYS[way](cosines, sampled)
            continue
        top = np.argsort(-cosines, 1)[:, :TOP_ROWS]
        same_modality = float(kind == queries.kind)
        background = sample.background(KINDS[queries.kind], KINDS[kind]) if with_background else None
        for row, places in enumerate(top):
            known = cosines[row, places]
            calibration = ModalityCalibration.fit(
                sampled[row], known.tolist(), len(own), mean, same_modality, background
            )
            scores[row, own[places]] = calibration.logits(known.tolist())
    return scores


def _reference_sample(gallery: Gallery, seed: int) -> ReferenceSample:
    """The sample that an index of the gallery would draw."""
    rng = np.random.default_rng(seed)
    rows = {KINDS[kind]: np.flatnonzero(gallery.kinds == kind) for kind in np.unique(gallery.kinds)}
    return ReferenceSample(
        {name: len(own) for name, own in rows.items()},
        {name: gallery.vectors[rng.choice(own, min(len(own), SAMPLED), replace=False)] for name, own in rows.items()},
    )  # fmt: skip


def top_ten(scores: Floats, queries: Queries, gallery: Gallery) -> tuple[NDArray[Any], NDArray[Any]]:
    """Positions (queries, 10) of the best items, and whether each is a match."""
    order = np.argsort(-scores, 1, kind="stable")[:, :10]
    return order, queries.about[np.arange(len(scores))[:, None], gallery.concepts[order]]


def ndcg(right: NDArray[Any], queries: Queries, gallery: Gallery) -> float:
    """nDCG@10 in percent, over queries with a match in the gallery."""
    return _share((right * GAIN[: right.shape[1]]).sum(1), queries, gallery)


def _share(gained: Floats, queries: Queries, gallery: Gallery) -> float:
    """The gain in percent of the ideal gain, averaged over queries."""
    total = queries.about[:, gallery.concepts].sum(1)
    ideal = np.concatenate([[0.0], GAIN.cumsum()])[np.minimum(total, 10)]
    return float(100 * (gained[total > 0] / ideal[total > 0]).mean())


def calibration_error(probabilities: Floats, right: NDArray[Any]) -> float:
    """Expected calibration error over BINS bins of equal width."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return float(
        sum(
            abs(probabilities[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )


def perfect(queries: Queries, gallery: Gallery) -> float:
    """The upper bound of nDCG, in percent, for rankings that keep the order by cosine within each modality.

    Computed by dynamic programming over the number of items taken from each modality.
    """
    kinds = np.unique(gallery.kinds)
    matches_by_modality = []
    for kind in kinds:
        own = gallery.only(gallery.kinds == kind)
        matches_by_modality.append(
            top_ten((queries.vectors @ own.vectors.T).astype(np.float64), queries, own)[1]
        )
    best = {(0,) * len(kinds): np.zeros(len(queries.vectors))}
    for gain in GAIN:
        longer: dict[tuple[int, ...], Floats] = {}
        for taken, value in best.items():
            for place, matches in enumerate(matches_by_modality):
                if taken[place] < matches.shape[1]:
                    more = (*taken[:place], taken[place] + 1, *taken[place + 1 :])
                    with_it = value + gain * matches[:, taken[place]]
                    longer[more] = np.maximum(longer.get(more, with_it), with_it)
        best = longer or best
    return _share(np.max(list(best.values()), axis=0), queries, gallery)
