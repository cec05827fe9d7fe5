"""Fits the calibration of an index to labelled pairs of a query and an item, as `Index.calibrate` does.

The labels change four numbers: slope and intercept of the logit for rows of the query's own modality, and for others
(score_calibration.py). They are fitted by logistic regression with a Gaussian prior around the built-in values, so that
few labels change little. Each query counts the same, however many of its rows are labelled.

The errors in the report are those of probabilities that were fitted on other queries (cross-validation), since errors
on the fitted labels would be too low.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.errors import IndexStateError
from multimodal.core.remote.path import AnyPath
from multimodal.index.search.score_calibration import DEFAULT_COEFFICIENTS, Coefficients
from multimodal.index.storage.remote.stored_file import StoredFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "calibration.json"
FORMAT = 1
FOLDS = 5
BINS = 10  # of probability, in the expected calibration error
SLOPE_PRIOR, INTERCEPT_PRIOR = 0.5, 2.0  # standard deviations around the built-in values
MIN_SLOPE = 0.05  # a slope of 0 or below would turn the order around
NEWTON_STEPS, TOLERANCE = 50, 1e-6
TARGET_PRECISION = 0.95  # of the hits at or above the suggested threshold


class Example(NamedTuple):
    """One labelled row: v and the fixed part of its logit, as score_calibration.py defines them.

    query: number of its query. same_modality: share of the query that is of the row's modality. relevant: the label.
    """

    query: int
    prominence: float
    offset: float
    same_modality: float
    relevant: bool


@dataclass(frozen=True)
class CalibrationReport:
    """What `Index.calibrate` changed.

    Attributes:
        n_queries: Distinct queries.
        n_pairs: Pairs of a query and an item that the fit used.
        n_relevant: Those that are relevant.
        error_before: Expected calibration error of the probabilities before, 0 to 1.
        error_after: The same afterwards, for queries that were not fitted on (cross-validated).
        threshold_before: The least min_probability at which 95 % of the hits were relevant before; None if there is
            none.
        threshold_after: The same afterwards.
        same_modality: (slope, intercept) of the logit for rows of the query's modality.
        cross_modality: (slope, intercept) for rows of other modalities.
    """

    n_queries: int
    n_pairs: int
    n_relevant: int
    error_before: float
    error_after: float
    threshold_before: float | None
    threshold_after: float | None
    same_modality: tuple[float, float]
    cross_modality: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        before, after = (
            "none" if threshold is None else f"{threshold:.2f}"
            for threshold in (self.threshold_before, self.threshold_after)
        )
        return (
            f"{self.n_pairs:,} pairs of {self.n_queries:,} queries, {self.n_relevant:,} relevant: expected calibration "
            f"error {self.error_before:.3f} -> {self.error_after:.3f}, min_probability for "
            f"{TARGET_PRECISION:.0%} relevant hits {before} -> {after}"
        )


class CalibrationStore:
    """The fitted coefficients of an index, in INDEX/calibration.json. May be used by several threads."""

    def __init__(self, index: AnyPath, fingerprint: str) -> None:
        self._file, self._fingerprint = StoredFile(index, FILE), fingerprint
        self._cached: tuple[object, Coefficients] = (None, DEFAULT_COEFFICIENTS)
        self._lock = threading.Lock()

    def get(self) -> Coefficients:
        """The fitted coefficients, or the built-in ones if there are none, or the file is of another space."""
        with self._lock:
            try:
                state = self._file.state()
            except OSError:
                return DEFAULT_COEFFICIENTS
            if state is None:
                return DEFAULT_COEFFICIENTS
            if state != self._cached[0]:
                self._cached = (state, self._read())
            return self._cached[1]

    def _read(self) -> Coefficients:
        try:
            stored = json.loads(self._file.read())
            if stored["format"] != FORMAT or stored["fingerprint"] != self._fingerprint:
                return DEFAULT_COEFFICIENTS
            pairs = [tuple(map(float, stored[name])) for name in ("same_modality", "cross_modality")]
        except (OSError, ValueError, KeyError, TypeError):
            return DEFAULT_COEFFICIENTS
        if not all(len(pair) == 2 and all(map(math.isfinite, pair)) and pair[0] > 0 for pair in pairs):
            return DEFAULT_COEFFICIENTS
        (same_slope, same_intercept), (cross_slope, cross_intercept) = pairs
        return Coefficients((same_slope, same_intercept), (cross_slope, cross_intercept))

    def write(self, report: CalibrationReport) -> None:
        """Stores the coefficients atomically, with the rest of the report. Raises IndexStateError."""
        content = {"format": FORMAT, "fingerprint": self._fingerprint} | report.to_dict()
        try:
            self._file.replace(json.dumps(content, indent=1) + "\n")
        except OSError as error:
            raise IndexStateError(
                f"the calibration cannot be stored in {str(self._file.folder)!r}: {error.strerror or error}; "
                "make the folder writable"
            ) from error

    def clear(self) -> bool:
        """Removes the fitted coefficients; whether there were any. Raises IndexStateError."""
        try:
            return self._file.delete()
        except OSError as error:
            raise IndexStateError(
                f"{str(self._file.path)!r} cannot be deleted: {error.strerror or error}; make the folder writable"
            ) from error


def fit_coefficients(examples: Sequence[Example]) -> Coefficients:
    """The coefficients with the highest posterior probability."""
    import numpy as np

    design, offsets, labels, weights = _matrices(examples)
    prior = _as_vector(DEFAULT_COEFFICIENTS)
    precision = np.array([1 / SLOPE_PRIOR**2, 1 / INTERCEPT_PRIOR**2] * 2)

    def objective(values: NDArray[Any]) -> float:
        """Log posterior, up to a constant; concave."""
        logits = design @ values + offsets
        log_likelihood = labels * logits - np.logaddexp(0, logits)
        return float((weights * log_likelihood).sum() - (precision * (values - prior) ** 2).sum() / 2)

    values, best = prior, objective(prior)
    for _ in range(NEWTON_STEPS):
        predicted = _sigmoid(design @ values + offsets)
        gradient = design.T @ (weights * (labels - predicted)) - precision * (values - prior)
        curvature = (design * (weights * predicted * (1 - predicted))[:, None]).T @ design + np.diag(
            precision
        )
        step = np.linalg.solve(curvature, gradient)
        while objective(values + step) < best and float(np.abs(step).max()) > TOLERANCE:
            step /= 2
        if float(np.abs(step).max()) <= TOLERANCE:
            break
        values = values + step
        best = objective(values)
    same_slope, same_intercept, cross_slope, cross_intercept = (round(float(value), 4) for value in values)
    return Coefficients(
        (max(same_slope, MIN_SLOPE), same_intercept), (max(cross_slope, MIN_SLOPE), cross_intercept)
    )


def make_report(examples: Sequence[Example], before: Coefficients) -> CalibrationReport:
    """Fits the coefficients, and compares the probabilities before and after."""
    import numpy as np

    numbers = sorted({example.query for example in examples})
    fold_of = {query: place % FOLDS for place, query in enumerate(numbers)}
    held_out, held_out_labels = [np.empty(0)], [np.empty(0)]
    for fold in range(FOLDS):
        others = [example for example in examples if fold_of[example.query] != fold]
        own = [example for example in examples if fold_of[example.query] == fold]
        if own:
            coefficients = fit_coefficients(others) if others else before
            held_out.append(_predict(own, coefficients))
            held_out_labels.append(_matrices(own)[2])
    labels = _matrices(examples)[2]
    earlier, later, later_labels = (
        _predict(examples, before), np.concatenate(held_out), np.concatenate(held_out_labels)
    )  # fmt: skip
    fitted = fit_coefficients(examples)
    return CalibrationReport(
        len(numbers),
        len(examples),
        int(labels.sum()),
        round(expected_calibration_error(earlier, labels), 4),
        round(expected_calibration_error(later, later_labels), 4),
        threshold(earlier, labels),
        threshold(later, later_labels),
        fitted.same_modality,
        fitted.cross_modality,
    )


def expected_calibration_error(probabilities: NDArray[Any], labels: NDArray[Any]) -> float:
    """How far probabilities (n,) are from the share of true labels (n,), on average over bins of equal width."""
    import numpy as np

    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = [
        abs(probabilities[bins == number].mean() - labels[bins == number].mean()) * (bins == number).mean()
        for number in np.unique(bins)
    ]
    return float(sum(gaps))


def threshold(probabilities: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """The least probability such that TARGET_PRECISION of the rows at or above it are relevant; None if none is."""
    import numpy as np

    order = np.argsort(-probabilities, kind="stable")
    precision = labels[order].cumsum() / np.arange(1, len(order) + 1)
    # Equal probabilities stand or fall together.
    is_last = np.append(np.diff(probabilities[order]) != 0, True)
    reached = np.flatnonzero((precision >= TARGET_PRECISION) & is_last)
    return round(float(probabilities[order][reached[-1]]), 4) if len(reached) else None


def _predict(examples: Sequence[Example], coefficients: Coefficients) -> NDArray[Any]:
    design, offsets, _, _ = _matrices(examples)
    return _sigmoid(design @ _as_vector(coefficients) + offsets)


def _matrices(
    examples: Sequence[Example],
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Design (n, 4), offsets (n,), labels (n,) and weights (n,), equal in sum for each query."""
    import numpy as np

    rows_of: dict[int, int] = {}
    for example in examples:
        rows_of[example.query] = rows_of.get(example.query, 0) + 1
    design = np.array([_design_row(example) for example in examples], np.float64).reshape(-1, 4)
    offsets = np.array([example.offset for example in examples], np.float64)
    labels = np.array([example.relevant for example in examples], np.float64)
    weights = np.array([1 / rows_of[example.query] for example in examples], np.float64)
    return design, offsets, labels, weights * (len(examples) / max(1, len(rows_of)))


def _design_row(example: Example) -> tuple[float, float, float, float]:
    same, cross = example.same_modality, 1 - example.same_modality
    return same * example.prominence, same, cross * example.prominence, cross


def _as_vector(coefficients: Coefficients) -> NDArray[np.float64]:
    import numpy as np

    return np.array([*coefficients.same_modality, *coefficients.cross_modality], np.float64)


def _sigmoid(logits: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -40, 40))))
