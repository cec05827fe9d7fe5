"""Scaling laws: a known law is recovered, no other optimiser fits better, and bad tables are refused."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import multimodal as mm
from multimodal.adapt.scaling import ScalingLaw, extrapolate, fit, huber
from multimodal.adapt.scaling.runs import Runs
from multimodal.core.errors import InvalidInput
from tests.cli.conftest import Cli, cli

__all__ = ["cli"]  # a fixture

TRUE = {"E": 0.95, "A": 20.0, "B": 60.0, "alpha": 0.35, "beta": 0.42}
SIZES, DATA = np.geomspace(3e3, 7e5, 6), np.geomspace(2e5, 2e7, 8)
N, D = (grid.ravel() for grid in np.meshgrid(SIZES, DATA))


def true_loss(n: Any, d: Any) -> Any:
    return TRUE["E"] + TRUE["A"] * n ** -TRUE["alpha"] + TRUE["B"] * d ** -TRUE["beta"]


@pytest.fixture(scope="module")
def noisy() -> Runs:
    """Runs of the true law with 1 % noise, and one outlier that the Huber loss must not follow."""
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(N))
    noise[17] = 0.5
    return Runs(N, D, true_loss(N, D) * np.exp(noise))


@pytest.fixture(scope="module")
def law(noisy: Runs) -> ScalingLaw:
    return fit(noisy, resamples=60)


@pytest.fixture
def table(tmp_path: Path, noisy: Runs) -> Path:
    path = tmp_path / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["N", "D", "loss"])
        writer.writerows(zip(noisy.n_parameters, noisy.data, noisy.loss, strict=True))
    return path


def test_a_law_without_noise_is_recovered_exactly() -> None:
    exact = fit({"N": N, "D": D, "loss": true_loss(N, D)}, resamples=0)
    for name, value in TRUE.items():
        assert getattr(exact, name).value == pytest.approx(value, rel=1e-4), name
    assert exact.r2 == pytest.approx(1)
    assert exact.error < 1e-6


def test_a_noisy_law_is_recovered_within_its_intervals_in_spite_of_an_outlier(law: ScalingLaw) -> None:
    assert law.alpha.value == pytest.approx(TRUE["alpha"], abs=0.05)
    assert law.beta.value == pytest.approx(TRUE["beta"], abs=0.12)
    for name in ("E", "alpha", "beta"):
        estimate = getattr(law, name)
        assert estimate.low < estimate.value < estimate.high
    assert law.predict(N, D) == pytest.approx(true_loss(N, D), rel=0.02)
    interval = law.interval(1e4, 1e6)
    assert interval.low < law.predict(1e4, 1e6) < interval.high


def test_no_other_optimiser_finds_a_lower_objective(noisy: Runs) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    problem = huber.Problem(noisy)

    def objective(parameters: np.ndarray) -> float:
        return float(huber.huber(problem.residuals(parameters[None])).sum())

    starts = problem.starts()
    _, ours = huber.minimise(problem, starts)
    options = {"ftol": 1e-15, "gtol": 1e-12, "maxiter": 300}
    theirs = min(
        optimize.minimize(objective, start, method="L-BFGS-B", options=options).fun for start in starts[:1]
    )
    assert ours.min() <= theirs * (1 + 1e-6)
    assert ours.max() == pytest.approx(ours.min(), rel=1e-6)  # from every start


def test_the_compute_optimal_size_is_the_minimum_along_equal_compute(law: ScalingLaw) -> None:
    best = law.compute_optimal(1e12)
    sizes = best.N.value * np.array([0.97, 1, 1.03])
    losses = law.predict(sizes, 1e12 / (6 * sizes))
    assert losses.argmin() == 1
    assert losses[1] == pytest.approx(best.loss.value)
    assert 6 * best.N.value * best.D.value == pytest.approx(1e12)
    assert not best.is_extrapolated
    assert law.compute_optimal(1e18).is_extrapolated


def test_isoflop_minima_lie_where_the_law_that_made_the_runs_has_them() -> None:
    sizes = np.geomspace(1e3, 3e6, 14)
    n, d = (grid.ravel() for grid in np.meshgrid(sizes, np.geomspace(1e4, 1e9, 30)))
    exact = fit(np.stack([n, d, true_loss(n, d)], 1), resamples=0)
    curves = [curve for curve in exact.isoflop((1e11, 1e12, 1e13)) if curve.is_interior]
    assert len(curves) == 3
    for curve in curves:
        assert pytest.approx(exact.compute_optimal(curve.C).N.value, rel=0.1) == curve.N


def test_a_best_size_at_the_edge_of_the_runs_is_not_called_a_minimum(law: ScalingLaw) -> None:
    (edge,) = law.isoflop((6 * SIZES[3] * DATA[0],))  # larger models have no runs of so little compute
    losses = [loss for _, loss in edge.points]
    assert not edge.is_interior
    assert edge.loss == losses[-1] == min(losses)
    assert pytest.approx(SIZES[3]) == edge.N


def test_held_out_runs_are_predicted_better_than_by_a_constant(noisy: Runs) -> None:
    predictions = {prediction.held_out: prediction for prediction in extrapolate(noisy)}
    assert set(predictions) == {"largest N", "largest D", "three largest computes"}
    assert predictions["largest N"].n_runs == len(DATA)
    assert predictions["three largest computes"].n_runs == 3
    for prediction in predictions.values():
        assert prediction.error < min(0.06, prediction.constant_error)
        assert prediction.worst >= prediction.error


def test_every_form_of_a_table_gives_the_same_law(table: Path, noisy: Runs, tmp_path: Path) -> None:
    columns = {"n": noisy.n_parameters, "d": noisy.data, "l": noisy.loss}
    rows = [dict(zip("ndl", row, strict=True)) for row in zip(*columns.values(), strict=True)]
    (tmp_path / "runs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    named = {"columns": ("n", "d", "l"), "resamples": 0}
    laws = [
        mm.adapt.scaling.fit(table, resamples=0),
        fit(columns, **named),
        fit(rows, **named),
        fit(tmp_path / "runs.jsonl", **named),
        fit(list(zip(*columns.values(), strict=True)), resamples=0),
    ]
    assert {str(one) for one in laws} == {str(laws[0])}


def test_a_law_shows_its_intervals_and_its_figures_and_is_saved(law: ScalingLaw, tmp_path: Path) -> None:
    shown = law._repr_html_()
    assert shown.count("<svg") == 2
    assert shown.count("<circle") >= len(N)
    assert f"{law.alpha.low:.3g} to {law.alpha.high:.3g}" in shown
    for name in ("law.html", "law.json", "law.svg"):
        law.save(tmp_path / name)
    saved = json.loads((tmp_path / "law.json").read_text())
    assert saved["beta"]["value"] == law.beta.value
    with pytest.raises(InvalidInput, match="png"):
        law.save(tmp_path / "law.png")


def test_few_runs_are_fitted_with_a_warning_not_to_rely_on_them(noisy: Runs) -> None:
    some = fit(noisy[np.arange(0, 48, 4)], resamples=20)
    assert any("12 runs are few" in note for note in some.notes)


GOOD = [(float(n), float(d), float(true_loss(n, d))) for n in (1e3, 1e4, 1e5) for d in (1e5, 1e6, 1e7)]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (GOOD[:7], "got 7 runs.*at least 8.*train more"),
        ([(1e4, d, loss) for _, d, loss in GOOD], "got 1 different N in 9 runs.*vary N"),
        ([(n, 1e6, loss) for n, _, loss in GOOD], "got 1 different D"),
        ([*GOOD[:-1], (1e5, 1e7, float("nan"))], "run 9: loss is nan.*remove runs that diverged"),
        ([*GOOD[:-1], (1e5, 1e7, -1.0)], "run 9: loss is -1"),
        ([*GOOD[:-1], (0.0, 1e7, 2.0)], "run 9: N is 0"),
        ([*GOOD[:-1], (1e5, 1e7, "high")], "run 9: loss is 'high', which is not a number"),
        ([{"params": 1, "D": 2, "loss": 3}], r"no column 'N'.*params, D, loss.*columns="),
        ({"N": [1.0] * 9, "D": [1.0] * 9, "loss": [1.0] * 8}, "one length.*loss 8"),
        ([], "got no rows"),
        (3, "got int"),
        ([(1.0, 2.0)], r"\(N, D, loss\)"),
        ("nowhere.csv", "no table of runs at 'nowhere.csv'"),
        (__file__, r"is .csv, .tsv, .jsonl or .parquet, got 'test_scaling.py'"),
    ],
)
def test_a_table_that_cannot_give_a_law_is_refused_with_the_cure(runs: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        fit(runs)


def test_a_prediction_needs_a_positive_size(law: ScalingLaw) -> None:
    with pytest.raises(InvalidInput, match="N must be finite and above 0"):
        law.predict(0, 1e6)
    with pytest.raises(InvalidInput, match="C must be"):
        law.compute_optimal(-1)
    with pytest.raises(InvalidInput, match="only 0 sizes have runs around 1 FLOPs"):
        law.isoflop((1.0,))


def test_the_command_prints_the_law_with_its_intervals(cli: Cli, table: Path, tmp_path: Path) -> None:
    options = ("--resamples", 10, "-C", "1e12", "-o", tmp_path / "law.html")
    shown = cli("scaling", "fit", table, *options)
    assert shown.code == 0, shown.stderr
    assert re.search(r"alpha +0\.3", shown.stdout)
    assert "three largest computes" in shown.stdout
    found = cli("scaling", "fit", table, "--resamples", 10, "-C", "1e12", "--json").json()
    assert found["alpha"]["low"] < found["alpha"]["value"] < found["alpha"]["high"]
    assert found["compute_optimal"][0]["N"]["value"] > 0
    assert next(entry["held_out"] for entry in found["held_out"]) == "largest N"
    assert (tmp_path / "law.html").read_text().count("<svg") == 2


def test_the_command_reports_a_bad_table_as_json(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("N,D,loss\n1,2,3\n")
    refused = cli("scaling", "fit", tmp_path / "runs.csv", "--json")
    assert refused.code == 1
    assert refused.json()["error"]["type"] == "InvalidInput"
