"""Fits of L(N, D) = E + A / N^alpha + B / D^beta by the Huber loss on logarithms, many at once.

The objective is that of Hoffmann et al. (2022): the sum over runs of huber(log L - log L(N, D)) with delta 1e-3.
Besiroglu et al. (2024) found that its published fit had stopped too early: a mean over the runs is so small that the
default tolerance of L-BFGS is met far from the minimum. Here the sum is minimised by iteratively reweighted
Gauss-Newton steps with damping, which use the structure of the objective and converge in tens of steps; a batch holds
all starting points, or all bootstrap samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multimodal.adapt.scaling.runs import Runs

Values = NDArray[np.float64]

DELTA = 1e-3
TOLERANCE = 1e-12  # relative decrease of the objective
MAX_STEPS = 3000
PATIENCE = 20  # steps below the tolerance
EXPONENTS = np.array([0.05, 0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3])  # of the starting points
N_STARTS = 12  # of them, the best
FLOOR = -30.0  # of log E: smaller is 0


class Problem:
    """The runs in centred logarithms. Parameters are rows (log E, log A', log B', alpha, beta).

    A' and B' belong to N and D over their geometric means, which takes most of the correlation between coefficient and
    exponent away.
    """

    def __init__(self, runs: Runs) -> None:
        self.log_n, self.log_d = np.log(runs.n_parameters), np.log(runs.data)
        self.centre = float(self.log_n.mean()), float(self.log_d.mean())
        self.x, self.y, self.target = (
            self.log_n - self.centre[0],
            self.log_d - self.centre[1],
            np.log(runs.loss),
        )

    def terms(self, parameters: Values) -> tuple[Values, Values, Values]:
        """(k, 5) -> E (k, 1), A / N^alpha (k, n), B / D^beta (k, n)."""
        e, a, b, alpha, beta = (parameters[:, column, None] for column in range(5))
        with np.errstate(over="ignore"):
            return np.exp(e), np.exp(a - alpha * self.x), np.exp(b - beta * self.y)

    def residuals(self, parameters: Values) -> Values:
        """log L - log L(N, D): (k, n)."""
        e, by_size, by_data = self.terms(parameters)
        with np.errstate(over="ignore", invalid="ignore"):
            return self.target - np.log(e + by_size + by_data)

    def starts(self) -> Values:
        """(N_STARTS, 5): for each pair of exponents the least-squares coefficients, of which the best fit."""
        loss = np.exp(self.target)
        rows = []
        for alpha in EXPONENTS:
            for beta in EXPONENTS:
                design = np.stack([np.ones_like(loss), np.exp(-alpha * self.x), np.exp(-beta * self.y)], 1)
                solution, *_ = np.linalg.lstsq(design / loss[:, None], np.ones_like(loss), rcond=None)
                coefficients = np.log(np.maximum(solution, 1e-3 * loss.min()))
                rows.append([*coefficients, alpha, beta])
        candidates = np.array(rows)
        order = np.argsort(huber(self.residuals(candidates)).sum(1))
        return candidates[order[:N_STARTS]]

    def natural(self, parameters: Values) -> Values:
        """(k, 5) of this problem -> (k, 5) E, A, B, alpha, beta."""
        e, a, b, alpha, beta = parameters.T
        a, b = a + alpha * self.centre[0], b + beta * self.centre[1]
        with np.errstate(over="ignore"):
            return np.stack([np.where(e <= FLOOR, 0.0, np.exp(e)), np.exp(a), np.exp(b), alpha, beta], 1)


def huber(residuals: Values) -> Values:
    """Half the square up to DELTA, linear beyond; infinite where a residual is not finite."""
    size = np.abs(residuals)
    with np.errstate(over="ignore", invalid="ignore"):
        value = np.where(size <= DELTA, 0.5 * size * size, DELTA * (size - 0.5 * DELTA))
    return np.where(np.isfinite(size), value, np.inf)


def minimise(problem: Problem, starts: Values, weights: Values | None = None) -> tuple[Values, Values]:
    """Minimises the objective from each start.

    Args:
        problem: The runs (n).
        starts: Parameters (k, 5).
        weights: How often each run counts (k, n); by default once.

    Returns:
        Parameters (k, 5) and objectives (k,).
    """
    parameters = starts.copy()
    weights = np.ones((len(starts), len(problem.target))) if weights is None else weights
    residuals = problem.residuals(parameters)
    objective = (weights * huber(residuals)).sum(1)
    damping = np.full(len(starts), 1e-2)
    quiet = np.zeros(len(starts), int)
    for _ in range(MAX_STEPS):
        active = np.flatnonzero(quiet < PATIENCE)
        if not len(active):
            break
        now, left = parameters[active], residuals[active]
        e, by_size, by_data = problem.terms(now)
        total = e + by_size + by_data
        slopes = np.stack(
            [
                e / total,
                by_size / total,
                by_data / total,
                -by_size * problem.x / total,
                -by_data * problem.y / total,
            ],
            1,
        )  # of log L(N, D): (k, 5, n)
        pull = weights[active] * DELTA / np.maximum(np.abs(left), DELTA)
        gram = (slopes * pull[:, None]) @ slopes.transpose(0, 2, 1)
        gradient = (slopes * (pull * left)[:, None]).sum(2)
        scale = np.einsum("kii->ki", gram) + 1e-12
        damped = gram + np.eye(5) * (scale * damping[active, None])[:, None]
        tried = now + np.linalg.solve(damped, gradient[..., None])[..., 0].clip(-2, 2)
        tried[:, 0] = np.maximum(tried[:, 0], FLOOR)
        new_residuals = problem.residuals(tried)
        new = (weights[active] * huber(new_residuals)).sum(1)
        better = new < objective[active]
        small = objective[active] - new <= TOLERANCE * objective[active]
        quiet[active] = np.where(better & ~small, 0, quiet[active] + 1)
        damping[active] = np.clip(np.where(better, damping[active] / 3, damping[active] * 4), 1e-9, 1e9)
        kept = active[better]
        parameters[kept], residuals[kept], objective[kept] = tried[better], new_residuals[better], new[better]
    return parameters, objective


def fit_law(runs: Runs, resamples: int, seed: int) -> tuple[Values, Values, float]:
    """The law of the runs, and those of bootstrap samples of them.

    Returns:
        (E, A, B, alpha, beta) (5,), the same of each sample (resamples, 5), and the objective.
    """
    problem = Problem(runs)
    fitted, objective = minimise(problem, problem.starts())
    best = fitted[objective.argmin()]
    n = len(runs)
    if not resamples:
        return problem.natural(best[None])[0], np.empty((0, 5)), float(objective.min())
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    counts = np.stack([np.bincount(rows, minlength=n) for rows in drawn]).astype(np.float64)
    samples, _ = minimise(problem, np.repeat(best[None], resamples, 0), counts)
    return problem.natural(best[None])[0], problem.natural(samples), float(objective.min())
