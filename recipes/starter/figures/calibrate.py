"""Fits SAME_MODALITY and CROSS_MODALITY of multimodal/index/search/score_calibration.py; plots calibration.png.

    python -m recipes.starter.figures.calibrate --work WORK

Logistic regression of "the same concept" on how far a score stands out, over half of the concepts and over kinds of
queries (galleries.FITTED) that are not used for evaluation; in galleries of all concepts, of which all objects or half
have each modality. Fitted separately for matches within a modality and across modalities. The plot shows the other
half of the concepts, with the other kinds of queries.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fairness import galleries
from benchmarks.harness.fairness_figures import OURS, scored, top_ten
from multimodal.index.search import score_calibration
from multimodal.index.search.score_calibration import probability
from recipes.starter.figures.galleries import FITTED, JUDGES, World, gather

FITTED_ON = ("even", "half lacks a modality")
PLACES = 10  # of each modality
BINS = 15


@dataclass(frozen=True, eq=False)
class Examples:
    """Retrieved rows: how far each stands out, minus log rows, whether it matches, and its weight; each (n,)."""

    outstanding: NDArray[Any]
    offsets: NDArray[Any]
    matches: NDArray[Any]
    weights: NDArray[Any]


def examples(world: World, *, alike: bool) -> Examples:
    """Of what queries find in their own modality, or else in others. Each kind of query counts the same."""
    results = []
    several = galleries(world)
    slope, level = score_calibration.SAME_MODALITY if alike else score_calibration.CROSS_MODALITY
    for title in FITTED_ON:
        gallery = several[title]
        offset = np.log(len(gallery.kinds) / 3)
        for name in (name for names in FITTED.values() for name in names):
            queries = world.queries[name].within(world.halves()[0])
            logits = scored(OURS, queries, gallery, with_background=False)
            for kind in (kind for kind in range(3) if (kind == queries.kind) == alike):
                own = np.flatnonzero(gallery.kinds == kind)
                order = own[np.argsort(-logits[:, own], 1)[:, :PLACES]]
                predicted = np.take_along_axis(logits, order, 1)
                matches = queries.about[np.arange(len(order))[:, None], gallery.concepts[order]]
                # The constants as they are now are taken out again.
                outstanding = (predicted - level + offset) / slope
                size = predicted.size
                each = (outstanding.ravel(), np.full(size, -offset), matches.ravel(), np.full(size, 1 / size))
                results.append(each)
    return Examples(*map(np.concatenate, zip(*results, strict=True)))


def fitted(given: Examples) -> tuple[float, float]:
    """Slope and level by Newton's method."""
    middle, count = given.outstanding.mean(), len(given.outstanding)
    design = np.stack([given.outstanding - middle, np.ones(count)], 1)
    each = given.weights * count / given.weights.sum()
    values = np.array([1.0, 0.0])
    for _ in range(100):
        predicted = 1 / (1 + np.exp(-np.clip(design @ values + given.offsets, -30, 30)))
        curvature = (design * (each * predicted * (1 - predicted))[:, None]).T @ design + 1e-6 * np.eye(2)
        values += np.clip(np.linalg.solve(curvature, design.T @ (each * (given.matches - predicted))), -1, 1)
    return float(values[0]), float(values[1] - values[0] * middle)


def draw(world: World, path: Path) -> None:
    """A reliability curve: the share of matches and the number of hits by predicted probability."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (panel, below) = pyplot.subplots(2, 1, figsize=(5, 6), layout="constrained", height_ratios=(3, 1))
    gallery, edges = world.gallery, np.linspace(0, 1, BINS + 1)
    for kind, names in JUDGES.items():
        predicted, right = [], []
        for name in names:
            queries = world.queries[name].within(world.halves()[1])
            scores = scored(OURS, queries, gallery)
            order, results = top_ten(scores, queries, gallery)
            predicted.append(np.vectorize(probability)(np.take_along_axis(scores, order, 1)).ravel())
            right.append(results.ravel())
        every, true = np.concatenate(predicted), np.concatenate(right)
        bins = np.minimum((every * BINS).astype(int), BINS - 1)
        filled = [b for b in range(BINS) if (bins == b).sum() >= 20]
        panel.plot(
            [every[bins == b].mean() for b in filled],
            [true[bins == b].mean() for b in filled],
            "o-",
            label=kind,
        )
        below.hist(every, edges, histtype="step", log=True)
    panel.plot([0, 1], [0, 1], color="0.6")
    panel.set(title="held-out concepts and judges", ylabel="share that are matches")
    panel.legend(title="queries")
    below.set(xlabel="hit.probability", ylabel="hits")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="where recipes/starter keeps its data")
    parser.add_argument("--folder", type=Path, default=Path("assets/starter"), help="the starter")
    args = parser.parse_args()
    world = gather(args.folder, args.work)
    for name, alike in (("SAME_MODALITY", True), ("CROSS_MODALITY", False)):
        slope, level = fitted(examples(world, alike=alike))
        print(f"{name} = ({slope:.2f}, {level:.2f}), and now it is {getattr(score_calibration, name)}")
    draw(world, args.folder / "calibration.png")


if __name__ == "__main__":
    main()
