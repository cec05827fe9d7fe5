"""Whether mixed results are fair: python -m benchmarks.fairness --work WORK [--folder SPACE]

WORK is where recipes/starter keeps its data. Prints nDCG@10 of ways to put texts, pictures and speech in one order, by
the kind of query, with the share of each modality in the top ten; how reliable hit.probability is; and what
min_probability rejects. Writes benchmarks/results/fairness.json and fairness.png, the gap before and after.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multimodal.index.calibration import TOP, Scale, probability
from recipes.starter.mixed import JUDGES, KINDS, Gallery, Queries, World, gather

RESULTS = Path("benchmarks/results")
GAIN = 1 / np.log2(np.arange(2, 12))
SAMPLED = 1000
BINS = 15
ABSENT = 200

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
    """The share of sampled cosines below; equal ones by cosine."""
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


def scored(way: str, queries: Queries, gallery: Gallery, seed: int = 0) -> Floats:
    """(queries, items): what the items are put in order by; -inf for what cannot be among the first TOP."""
    rng, mean = np.random.default_rng(seed), len(gallery.kinds) / len(np.unique(gallery.kinds))
    found = np.full((len(queries.vectors), len(gallery.kinds)), -np.inf)
    for kind in np.unique(gallery.kinds):
        own = np.flatnonzero(gallery.kinds == kind)
        cosines = (queries.vectors @ gallery.vectors[own].T).astype(np.float64)
        sampled = cosines[:, rng.choice(len(own), min(len(own), SAMPLED), replace=False)]
        if way != OURS:
            found[:, own] = WAYS[way](cosines, sampled)
            continue
        top = np.argsort(-cosines, 1)[:, :TOP]
        for row, places in enumerate(top):
            known = cosines[row, places]
            scale = Scale.of(sampled[row], known.tolist(), len(own), mean)
            found[row, own[places]] = scale.logits(known.tolist())
    return found


def top_ten(scores: Floats, queries: Queries, gallery: Gallery) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places (queries, 10) of the best items, and whether each is a match."""
    order = np.argsort(-scores, 1, kind="stable")[:, :10]
    return order, queries.about[np.arange(len(scores))[:, None], gallery.concepts[order]]


def ndcg(right: NDArray[Any], queries: Queries, gallery: Gallery) -> float:
    """Percent; queries without a match in the gallery are left out."""
    total = queries.about[:, gallery.concepts].sum(1)
    ideal = np.concatenate([[0.0], GAIN.cumsum()])[np.minimum(total, 10)]
    return float(100 * ((right * GAIN[: right.shape[1]]).sum(1)[total > 0] / ideal[total > 0]).mean())


def calibration_error(told: Floats, right: NDArray[Any]) -> float:
    """Expected: over BINS equal bins of probability, how far it is from the share of matches."""
    bins = np.minimum((told * BINS).astype(int), BINS - 1)
    return float(
        sum(
            abs(told[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean()
            for b in np.unique(bins)
        )
    )


def galleries(world: World) -> dict[str, Gallery]:
    """The even one, and uneven ones made from it, all with the concepts that are measured on among others."""
    full, rng = world.gallery, np.random.default_rng(1)
    kept = rng.random((3, len(world.names))) < 0.5
    few = rng.permutation(np.flatnonzero(world.halves()[1]))[:100]
    turn = full.concepts % np.array([1, 4, 8])[full.kinds] == 0
    return {
        "even": full,
        "half lacks a modality": full.only(kept[full.kinds, full.concepts]),
        "uneven": full.only(turn),
        "100 concepts": full.only(np.isin(full.concepts, few)),
        "10 concepts": full.only(np.isin(full.concepts, few[:10])),
        "crowd": world.crowd,
    }


def ranking(world: World, gallery: Gallery) -> dict[str, Any]:
    """{way: {kind of query: {judge: nDCG, "shares": of each modality in the top ten}}}."""
    found: dict[str, Any] = {}
    for way in (*WAYS, OURS):
        found[way] = {}
        for kind, names in JUDGES.items():
            figures: dict[str, Any] = {}
            shares = []
            for name in names:
                queries = world.queries[name]
                order, right = top_ten(scored(way, queries, gallery), queries, gallery)
                figures[name] = round(ndcg(right, queries, gallery), 1)
                shares += [gallery.kinds[order].ravel()]
            mixed = np.concatenate(shares)
            figures["mean"] = round(float(np.mean(list(figures.values()))), 1)
            figures["shares"] = {k: round(float((mixed == n).mean()), 3) for n, k in enumerate(KINDS)}
            found[way][kind] = figures
    return found


def reliability(world: World, gallery: Gallery) -> dict[str, Any]:
    """Of the top ten, on the concepts and judges that nothing was fitted on."""
    told, right, errors = [], [], {}
    here = np.isin(np.arange(len(world.names)), gallery.concepts)
    for name in (name for names in JUDGES.values() for name in names):
        queries = world.queries[name].within(world.halves()[1])
        if len(here) > len(np.unique(gallery.concepts)) * 4:  # of few concepts, only queries about them
            queries = queries.only(queries.about[:, here].any(1))
        scores = scored(OURS, queries, gallery)
        order, found = top_ten(scores, queries, gallery)
        values = np.vectorize(probability)(np.take_along_axis(scores, order, 1))
        errors[name] = round(calibration_error(values.ravel(), found.ravel()), 3)
        told.append(values.ravel())
        right.append(found.ravel())
    every, true = np.concatenate(told), np.concatenate(right)
    figures = {"error": round(calibration_error(every, true), 3), "by judge": errors}
    return figures | {
        "mean probability": round(float(every.mean()), 3),
        "matches": round(float(true.mean()), 3),
    }


def rejection(world: World, *, families: bool) -> dict[str, Any]:
    """What min_probability lets through of queries about absent concepts, and about present ones.

    families: concepts are taken away with all of their Unicode subgroup, so that nothing like them is left.
    """
    rng, gone = np.random.default_rng(3), np.zeros(len(world.names), bool)
    groups = np.array(world.families if families else list(map(str, range(len(world.names)))))
    for family in rng.permutation(np.unique(groups)):
        if gone.sum() < ABSENT:
            gone |= groups == family
    found: dict[str, Any] = {"absent": int(gone.sum())}
    for name in ("name", "untouched ground", "espeak1"):
        rows = ~gone[world.gallery.concepts] & ((world.gallery.kinds > 0) | (name != "name"))
        gallery, queries = world.gallery.only(rows), world.queries[name]
        best = np.vectorize(probability)(scored(OURS, queries, gallery).max(1))
        absent = queries.about[:, gone].any(1)
        strict = round(float(np.quantile(best[absent], 0.95)), 3)
        found[name] = {
            f"at {least:g}": {
                "false accept": round(float((best[absent] >= least).mean()), 3),
                "recall": round(float((best[~absent] >= least).mean()), 3),
            }
            for least in (0.5, 0.7, 0.9, strict)
        }
    return found


def draw(world: World, path: Path) -> None:
    """The gap: the best cosine with each modality for every query of a kind, and what it becomes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 3, figsize=(12, 6), layout="constrained")
    for column, (kind, name) in enumerate(
        zip(KINDS, ("unicode name", "untouched ground", "espeak1"), strict=True)
    ):
        for row, (way, label) in enumerate(
            (("plain cosine", "cosine"), (OURS, "log odds of hit.probability"))
        ):
            scores = scored(way, world.queries[name], world.gallery)
            best = [scores[:, world.gallery.kinds == number].max(1) for number in range(3)]
            panels[row, column].hist(best, bins=40, histtype="step", label=list(KINDS))
            panels[row, column].set(title=f"{kind} queries ({name})" if row == 0 else "", xlabel=label)
            panels[row, column].set_yticks([])
    panels[0, 0].legend(title="the best hit of each modality")
    figure.savefig(path, dpi=110)


def show(found: dict[str, Any]) -> None:
    """The tables."""
    for title, table in found["ranking"].items():
        print(
            f"\n{title}: nDCG@10, in brackets against plain cosine, and shares of text, image, audio in the top ten"
        )
        for way, by_kind in table.items():
            cells = []
            for kind, figures in by_kind.items():
                ratio = figures["mean"] / table["plain cosine"][kind]["mean"]
                shares = " ".join(f"{100 * share:2.0f}" for share in figures["shares"].values())
                cells.append(f"{kind} {figures['mean']:5.1f} ({ratio:.2f}) {shares}")
            print(f"  {way:18}", "   ".join(cells))
    for title in ("reliability", "rejection"):
        print(f"\n{title}")
        for name, figures in found[title].items():
            print(f"  {name:24} {json.dumps(figures)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="where recipes/starter keeps its data")
    parser.add_argument("--folder", type=Path, default=Path("assets/starter"), help="the space")
    parser.add_argument("--name", default="fairness", help="of the files in benchmarks/results")
    asked = parser.parse_args()
    world = gather(asked.folder, asked.work)
    several = galleries(world)
    found = {
        "ranking": {name: ranking(world, gallery) for name, gallery in list(several.items())[:3]},
        "reliability": {name: reliability(world, gallery) for name, gallery in several.items()},
        "rejection": {
            "nothing alike left": rejection(world, families=True),
            "things alike left": rejection(world, families=False),
        },
    }
    show(found)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{asked.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(world, RESULTS / f"{asked.name}.png")


if __name__ == "__main__":
    main()
