"""`fit` and `extrapolate`: scaling laws of anyone's training runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multimodal.adapt.scaling.huber import fit_law
from multimodal.adapt.scaling.isoflop import FLOPS
from multimodal.adapt.scaling.law import PARAMETERS, Estimate, ScalingLaw, estimate, law_at
from multimodal.adapt.scaling.runs import COLUMNS, MIN_DISTINCT, MIN_RUNS, Runs, read_runs
from multimodal.core import checks
from multimodal.core.errors import InvalidInput

WIDE = 0.10  # of the 80 % interval of an exponent
FEW = 30  # runs
LARGEST_COMPUTES = 3


@dataclass(frozen=True)
class Extrapolation:
    """How well a law that was fitted without some runs predicts them.

    Attributes:
        held_out: Which runs were left out, such as "largest N".
        n_runs: How many.
        error: Mean relative error of the predicted loss.
        worst: The largest.
        constant_error: Mean relative error of predicting the lowest loss among the fitted runs: what to beat.
    """

    held_out: str
    n_runs: int
    error: float
    worst: float
    constant_error: float


def fit(runs: object, *, columns: Sequence[str] = COLUMNS, resamples: int = 200, seed: int = 0) -> ScalingLaw:
    """Fits L(N, D) = E + A / N^alpha + B / D^beta to training runs (Hoffmann et al. 2022).

    Each run must have finished its own learning-rate schedule: in the middle of a longer one, the loss is too high.
    The fit minimises the sum over runs of the Huber loss (delta 1e-3) on logarithms from several starting points, as
    corrected by Besiroglu et al. (2024). Intervals are percentiles of fits to resampled runs.

    Args:
        runs: A .csv, .tsv, .jsonl or .parquet file, a table with the columns N (parameters), D (units of data) and
            loss, or rows of mappings or (N, D, loss).
        columns: The names of these columns in the table, if others.
        resamples: Bootstrap samples for the 80 % intervals; 0 for none.
        seed: Of the resampling.

    Returns:
        The law, with predictions and the compute-optimal size.

    Raises:
        InvalidInput: If the table cannot be read, has a value that is missing or not above 0, or has too few runs,
            sizes or amounts of data.
    """
    resamples = checks.whole_number(resamples, "resamples", least=0)
    return _fit(read_runs(runs, columns), resamples, checks.seed(seed))


def extrapolate(runs: object, *, columns: Sequence[str] = COLUMNS) -> tuple[Extrapolation, ...]:
    """Predicts the largest runs from the others: the runs of the largest N, of the largest D, and of the three largest
    computes are left out in turn.

    Args:
        runs: As for `fit`.
        columns: As for `fit`.

    Returns:
        The errors of each of the three predictions.

    Raises:
        InvalidInput: As for `fit`, also for the runs that remain.
    """
    table = read_runs(runs, columns)
    compute = FLOPS * table.n_parameters * table.data
    third = np.sort(np.unique(compute))[-LARGEST_COMPUTES:][0]
    masks = {
        "largest N": table.n_parameters == table.n_parameters.max(),
        "largest D": table.data >= 0.99 * table.data.max(),
        "three largest computes": compute >= third,
    }
    return tuple(_extrapolation(table, name, mask) for name, mask in masks.items())


def _fit(table: Runs, resamples: int, seed: int) -> ScalingLaw:
    row, samples, _ = fit_law(table, resamples, seed)
    predicted = law_at(row, table.n_parameters, table.data)
    residuals = np.log(table.loss) - np.log(predicted)
    spread = np.log(table.loss) - np.log(table.loss).mean()
    values = {
        name: estimate(float(row[place]), samples[:, place].tolist()) for place, name in enumerate(PARAMETERS)
    }
    return ScalingLaw(
        **values,
        r2=float(1 - (residuals**2).sum() / max((spread**2).sum(), 1e-300)),
        error=float(np.abs(predicted / table.loss - 1).mean()),
        n_runs=len(table),
        notes=_notes(table, values, row),
        runs=table,
        samples=samples,
    )


def _notes(table: Runs, values: dict[str, Estimate], row: NDArray[np.float64]) -> tuple[str, ...]:
    notes = []
    for name in ("alpha", "beta"):
        width = values[name].high - values[name].low
        if row[PARAMETERS.index(name)] <= 0:
            notes.append(f"{name} is not above 0: the loss does not fall with it in these runs")
        elif width > WIDE:
            notes.append(
                f"the 80 % interval of {name} is {width:.2f} wide: do not rely on the exponent; more runs over a wider "
                "range narrow it"
            )
    if len(table) < FEW:
        notes.append(f"{len(table)} runs are few: intervals by resampling them are themselves uncertain")
    return tuple(notes)


def _extrapolation(table: Runs, name: str, mask: NDArray[np.bool_]) -> Extrapolation:
    rest = table[~mask]
    enough = len(rest) >= MIN_RUNS and all(
        len(np.unique(values)) >= MIN_DISTINCT for values in (rest.n_parameters, rest.data)
    )
    if not enough:
        raise InvalidInput(
            f"without the runs of the {name}, {len(rest)} runs remain, which are too few to fit a law: train more runs"
        )
    law, held = _fit(rest, 0, 0), table[mask]
    errors = np.abs(law.predict(held.n_parameters, held.data) / held.loss - 1)
    constant = np.abs(rest.loss.min() / held.loss - 1)
    return Extrapolation(name, len(held), float(errors.mean()), float(errors.max()), float(constant.mean()))
