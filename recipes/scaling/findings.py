"""What the runs say: the law and its predictions, equal compute, and metrics with and without a jump."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from multimodal.adapt.scaling import extrapolate, fit
from recipes.scaling.metrics import EXACT

Rows = Sequence[dict[str, Any]]
RESAMPLES = 500
SAME_COMPUTE = 0.01
PAIR_TIMES = 3.0  # parameters of the larger model of a pair, at least


def results(rows: Rows) -> dict[str, Any]:
    """JSON values of everything that is found."""
    law = fit(rows, resamples=RESAMPLES)
    return {
        "law": law.to_dict(),
        "held_out": [asdict(prediction) for prediction in extrapolate(rows)],
        "compute_optimal": [asdict(law.compute_optimal(curve.C)) for curve in law.isoflop()],
        "seeds": seed_spread(rows),
        "equal_compute": equal_compute(rows),
        "emergence": emergence(rows),
    }


def seed_spread(rows: Rows) -> dict[str, float]:
    """Relative standard deviation of the loss over seeds, where there are several."""
    groups: dict[tuple[int, int], list[float]] = {}
    for row in rows:
        groups.setdefault((row["N"], row["D"]), []).append(row["loss"])
    spreads = [np.std(losses, ddof=1) / np.mean(losses) for losses in groups.values() if len(losses) > 1]
    if not spreads:
        return {}
    return {"mean": float(np.mean(spreads)), "largest": float(np.max(spreads)), "groups": len(spreads)}


def equal_compute(rows: Rows) -> list[dict[str, Any]]:
    """Pairs of sizes with several seeds at the same compute: loss of the larger - loss of the smaller, with a 95 %
    interval (Welch's t)."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["N"], row["D"]), []).append(row)
    repeated = [group for group in groups.values() if len(group) > 1]
    pairs = []
    for small in repeated:
        for large in repeated:
            times = large[0]["N"] / small[0]["N"]
            if times >= PAIR_TIMES and abs(large[0]["C"] / small[0]["C"] - 1) < SAME_COMPUTE:
                pairs.append(_difference(small, large))
    return pairs


def _difference(small: Rows, large: Rows) -> dict[str, Any]:
    first, second = (np.array([row["loss"] for row in group]) for group in (small, large))
    errors = [losses.var(ddof=1) / len(losses) for losses in (first, second)]
    error = float(np.sqrt(sum(errors)))
    freedom = sum(errors) ** 2 / sum(
        variance**2 / (len(losses) - 1) for variance, losses in zip(errors, (first, second), strict=True)
    )
    half = student(freedom) * error
    difference = float(second.mean() - first.mean())
    return {
        "C": small[0]["C"],
        "smaller": {"N": small[0]["N"], "D": small[0]["D"], "losses": first.tolist()},
        "larger": {"N": large[0]["N"], "D": large[0]["D"], "losses": second.tolist()},
        "difference": difference, "low": difference - half, "high": difference + half,
    }  # fmt: skip


def student(freedom: float) -> float:
    """The 97.5th percentile of Student's t, rounded to fewer degrees of freedom: a wider interval."""
    table = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 8: 2.31, 10: 2.23, 20: 2.09}
    return table[max(known for known in table if known <= max(1.0, freedom))]


def emergence(rows: Rows) -> dict[str, Any]:
    """For each metric how much of its rise over the runs lies in the quarter with the lowest loss.

    A metric that falls in proportion to the loss has about a quarter of its change there; one that jumps has most.
    """
    ordered = sorted(rows, key=lambda row: -float(row["loss"]))
    losses = np.array([row["loss"] for row in ordered])
    turn = losses.min() + 0.25 * (losses.max() - losses.min())
    late: dict[str, float] = {}
    for metric in ("loss", "accuracy", "edit_distance", *(f"exact_{k}" for k in EXACT)):
        values = np.array([row[metric] for row in ordered])
        start, end = values[:3].mean(), values[-3:].mean()
        before = float(np.interp(-turn, -losses, values))
        late[metric] = float((end - before) / (end - start)) if end != start else 0.0
    last = ordered[-1]
    return {
        "turn": float(turn),
        "late_share": late,
        "largest_run": {f"exact_{k}": last[f"exact_{k}"] for k in EXACT} | {"accuracy": last["accuracy"]},
        "independent": {f"exact_{k}": last["accuracy"] ** k for k in EXACT},
    }
