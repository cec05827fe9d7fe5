"""Ranking quality over mixed modalities: python -m benchmarks.fairness --work WORK [--folder SPACE]

WORK is the data folder of recipes/starter. Prints nDCG@10 of methods to rank texts, images and speech in a single list,
by the modality of the query, with the share of each modality in the top ten; the calibration of hit.probability; and
the effect of min_probability. Writes benchmarks/results/fairness.json and fairness.png, the modality gap before and
after calibration.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.fairness_figures import OURS, WAYS, calibration_error, ndcg, perfect, scored, top_ten
from multimodal.index.search.score_calibration import probability
from recipes.bridge import spaces
from recipes.starter.figures.galleries import FITTED, JUDGES, KINDS, Gallery, World, gather

RESULTS = Path("benchmarks/results")
ABSENT = 200
LEAST = (0.5, 0.7, 0.8, 0.87, 0.9, 0.95)
COPIES = ("name", "ground")  # queries that are in the gallery themselves


def galleries(world: World) -> dict[str, Gallery]:
    """The balanced gallery, and unbalanced subsets of it; all contain concepts of the evaluation half."""
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
    """{method: {modality of the query: {judge: nDCG, "shares": of each modality in the top ten}}}.

    "perfect" is the upper bound for all methods.
    """
    figures_by_way: dict[str, Any] = {}
    for way in (*WAYS, OURS):
        figures_by_way[way] = {}
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
            figures_by_way[way][kind] = figures
    figures_by_way["perfect"] = {
        kind: {"mean": round(float(np.mean([perfect(world.queries[name], gallery) for name in names])), 1)}
        for kind, names in JUDGES.items()
    }
    return figures_by_way


def reliability(world: World, gallery: Gallery) -> dict[str, Any]:
    """Calibration over the top ten, on concepts and judges that were not used for fitting."""
    probabilities, matches, errors = [], [], {}
    here = np.isin(np.arange(len(world.names)), gallery.concepts)
    for name in (name for names in JUDGES.values() for name in names):
        queries = world.queries[name].within(world.halves()[1])
        if len(here) > len(np.unique(gallery.concepts)) * 4:  # of few concepts, only queries about them
            queries = queries.only(queries.about[:, here].any(1))
        scores = scored(OURS, queries, gallery)
        order, matched = top_ten(scores, queries, gallery)
        values = np.vectorize(probability)(np.take_along_axis(scores, order, 1))
        errors[name] = round(calibration_error(values.ravel(), matched.ravel()), 3)
        probabilities.append(values.ravel())
        matches.append(matched.ravel())
    every, true = np.concatenate(probabilities), np.concatenate(matches)
    figures = {"error": round(calibration_error(every, true), 3), "by judge": errors}
    return figures | {
        "mean probability": round(float(every.mean()), 3),
        "matches": round(float(true.mean()), 3),
    }


def rejection(
    world: World, half: NDArray[np.bool_], names: Sequence[str], *, families: bool
) -> dict[str, Any]:
    """The effect of min_probability on queries about absent and present concepts of one half.

    families: concepts are removed with all of their Unicode subgroup, so that no similar concept remains. Copies of the
    query are removed from the gallery. "false accept": the share of queries about absent concepts with any hit;
    "recall": that of queries about present concepts; "right": the share of the latter with a correct hit.
    """
    gone = absent(world, half, families=families)
    figures: dict[str, Any] = {"absent": int((gone & half).sum())}
    for name in names:
        queries = world.queries[name].within(half)
        rows = ~gone[world.gallery.concepts] & ((world.gallery.kinds != queries.kind) | (name not in COPIES))
        gallery = world.gallery.only(rows)
        scores = scored(OURS, queries, gallery)
        order, right = top_ten(scores, queries, gallery)
        probabilities = np.vectorize(probability)(np.take_along_axis(scores, order, 1))
        missing, there = ~queries.about[:, ~gone].any(1), ~queries.about[:, gone].any(1)
        figures[name] = {
            f"at {least:g}": {
                "false accept": round(float((probabilities[missing, 0] >= least).mean()), 3),
                "recall": round(float((probabilities[there, 0] >= least).mean()), 3),
                "right": round(float(((probabilities >= least) & right)[there].any(1).mean()), 3),
            }
            for least in LEAST
        }
    return figures


def absent(world: World, half: NDArray[np.bool_], *, families: bool) -> NDArray[np.bool_]:
    """Concepts to remove, at least ABSENT of one half."""
    rng, gone = np.random.default_rng(3), np.zeros(len(world.names), bool)
    groups = np.array(world.families if families else list(map(str, range(len(world.names)))))
    for family in rng.permutation(np.unique(groups)):
        if (gone & half).sum() < ABSENT:
            gone |= groups == family
    return gone


def draw(world: World, path: Path) -> None:
    """Plots the modality gap: the best cosine with each modality for all queries, and the calibrated log odds."""
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


def show(result: dict[str, Any]) -> None:
    """Prints the tables."""
    for title, table in result["ranking"].items():
        print(
            f"\n{title}: nDCG@10, in brackets against plain cosine, and shares of text, image, audio in the top ten"
        )
        for way, by_kind in table.items():
            cells = []
            for kind, figures in by_kind.items():
                ratio = figures["mean"] / table["plain cosine"][kind]["mean"]
                shares = " ".join(f"{100 * share:2.0f}" for share in figures.get("shares", {}).values())
                cells.append(f"{kind} {figures['mean']:5.1f} ({ratio:.2f}) {shares}")
            print(f"  {way:18}", "   ".join(cells))
    print("\nreliability")
    for name, figures in result["reliability"].items():
        print(f"  {name:24} {json.dumps(figures)}")
    levels = ", ".join(f"{least:g}" for least in LEAST)
    print(f"\nrejection by min_probability {levels}: false accept/recall/right, percent")
    for title, figures in result["rejection"].items():
        print(f"  {title}, {figures['absent']} concepts absent")
        for name, by_least in list(figures.items())[1:]:
            cells = (
                "/".join(f"{100 * share:.0f}" for share in rates.values()) for rates in by_least.values()
            )
            print(f"    {name:18}", "  ".join(f"{cell:>10}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="the data folder of recipes/starter")
    parser.add_argument("--folder", type=Path, default=Path("assets/starter"), help="the space")
    parser.add_argument("--name", default="fairness", help="name of the files in benchmarks/results")
    args = parser.parse_args()
    spaces.family()  # so that the spaces of recipes/bridge open
    world = gather(args.folder, args.work)
    galleries_by_name = galleries(world)
    first, second = world.halves()
    chosen, measured = (sum(names.values(), ()) for names in (FITTED, JUDGES))
    result = {
        "scale": world.scale,
        "ranking": {name: ranking(world, gallery) for name, gallery in list(galleries_by_name.items())[:3]},
        "reliability": {name: reliability(world, gallery) for name, gallery in galleries_by_name.items()},
        "rejection": {
            "to choose by": rejection(world, first, ("name", *chosen), families=True),
            "nothing alike left": rejection(world, second, ("name", *measured), families=True),
            "things alike left": rejection(world, second, ("name", *measured), families=False),
        },
    }
    show(result)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    draw(world, RESULTS / f"{args.name}.png")


if __name__ == "__main__":
    main()
