"""Linear classifiers of centred unit vectors, and their leave-one-out scores in closed form.

With x the centred unit vector of an item, m_k the mean of class k, W the pooled within-class scatter of the n examples
and P = (W + λI)⁻¹, the score of class k is

    s_k = x'P m_k / √(m_k'P m_k)

that is the cosine to the class mean where distances are those of Gaussian discriminant analysis with one covariance for
all classes, shrunk towards a multiple of the identity. The discriminant itself has no root and subtracts m_k'P m_k / 2:
with few examples the lengths of the means are mostly noise, and it falls below the nearest mean. λ is a multiple of the
scatter's mean degrees of freedom, tr(W) / (n - K); a large multiple gives the cosine to the nearest mean.

Leaving out example i of class c with n_c examples subtracts a·r r' from W, with r = x_i - m_c and a = n_c / (n_c - 1),
and moves m_c by -r / (n_c - 1). Both are rank-one changes, so the scores of all examples, each judged without itself,
cost no more than the scores with it (Sherman and Morrison). The common centre and λ keep their values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHRINKAGES = (0.1, 0.3, 1.0, 3.0, 10.0)
FIXED_SHRINKAGE = 1.0
ENOUGH_TO_CHOOSE = (
    6  # examples of a class in the median, for λ by leave-one-out; with fewer the choice is noise
)
# Scores have unit variance over all examples and classes; the temperature is fitted around this inverse, which fits
# digits, textures, sounds, speech and drawings at 2 to 16 examples of each (benchmarks/few_shot.py)
USUAL_SHARPNESS, SPREAD = 3.0, 0.7
SINGLE_SHARPNESS = 10.0  # of plain cosines, where no example can be left out
TINY = 1e-12  # squared length of a class mean at the centre
PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)  # of logistic regression, as its C
COARSE = tuple(-3.0 + 0.5 * step for step in range(13))  # logarithms of the ratio to the usual sharpness
FINE = tuple(0.125 * step for step in range(-3, 4))


@dataclass(frozen=True)
class LinearScores:
    """Scores of centred unit vectors: `centred(x) @ weights + bias`.

    Attributes:
        mean: (dim,), subtracted first.
        weights: (dim, classes).
        bias: (classes,).
    """

    mean: NDArray[np.float64]
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Unit vectors (n, dim) -> scores (n, classes)."""
        return centred(vectors, self.mean) @ self.weights + self.bias


@dataclass(frozen=True)
class Fit:
    """A fitted classifier with its leave-one-out scores.

    Attributes:
        scores: The classifier.
        sharpness: The factor of the scores inside the softmax: an inverse temperature.
        rows: (m,) the examples that could be left out: those whose class has another.
        held_out: (m, classes) their scores without themselves.
    """

    scores: LinearScores
    sharpness: float
    rows: NDArray[np.int64]
    held_out: NDArray[np.float64]
    gain: float = 1.0
    """The factor of `sharpness` for the classifier of all examples: its scores are less noisy than those held out."""


def centred(vectors: NDArray[np.float32], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors (n, dim) minus a mean (dim,), scaled to length one."""
    rows = np.asarray(vectors, np.float64) - mean
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def class_means(rows: NDArray[np.float64], classes: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    """(classes, dim): the mean row of each class."""
    sums = np.zeros((n_classes, rows.shape[1]))
    np.add.at(sums, classes, rows)
    return np.asarray(sums / np.bincount(classes, minlength=n_classes)[:, None])


def nearest_mean(vectors: NDArray[np.float32], classes: NDArray[np.int64], n_classes: int) -> Fit:
    """Cosines to the class means, for classes of which none has two examples. Nothing is held out."""
    mean = np.asarray(vectors, np.float64).mean(axis=0)
    means = class_means(centred(vectors, mean), classes, n_classes)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    scores = LinearScores(mean, np.ascontiguousarray(means.T), np.zeros(n_classes))
    return Fit(scores, SINGLE_SHARPNESS, np.empty(0, np.int64), np.empty((0, n_classes)))


def discriminant(vectors: NDArray[np.float32], classes: NDArray[np.int64], n_classes: int) -> Fit:
    """Fits the classifier; λ by leave-one-out if there are enough examples of each class.

    Args:
        vectors: (n, dim) unit rows.
        classes: (n,) the class of each row; every class has at least one, and some class two.
        n_classes: The number of classes.
    """
    mean = np.asarray(vectors, np.float64).mean(axis=0)
    rows = centred(vectors, mean)
    counts = np.bincount(classes, minlength=n_classes)
    scatter = _Scatter(rows, classes, class_means(rows, classes, n_classes), counts)
    candidates = SHRINKAGES if np.median(counts) >= ENOUGH_TO_CHOOSE else (FIXED_SHRINKAGE,)
    fits = [scatter.fit(shrinkage, mean) for shrinkage in candidates]
    return min(fits, key=lambda fit: float(held_out_losses(fit, classes).mean()))


class _Scatter:
    """The examples with the eigenvectors of their within-class scatter, for any λ."""

    def __init__(
        self,
        rows: NDArray[np.float64],
        classes: NDArray[np.int64],
        means: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> None:
        self.rows, self.classes, self.means, self.counts = rows, classes, means, counts
        self.residuals = rows - means[classes]
        n, dim = rows.shape
        spread = float((self.residuals**2).sum()) / (n - len(means))
        self.unit = max(spread, 1e-6)  # of λ; identical examples of each class have no scatter
        if n < dim:
            _, singular, self.axes = np.linalg.svd(self.residuals, full_matrices=False)
            self.scatter = singular**2
        else:
            values, columns = np.linalg.eigh(self.residuals.T @ self.residuals)
            self.scatter, self.axes = values.clip(min=0), columns.T

    def fit(self, shrinkage: float, mean: NDArray[np.float64]) -> Fit:
        """The classifier for λ = shrinkage · unit; `mean` is the centre of its inputs."""
        ridge = shrinkage * self.unit
        gains = 1 / np.sqrt(self.scatter + ridge) - 1 / np.sqrt(ridge)

        def whiten(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(matrix / np.sqrt(ridge) + ((matrix @ self.axes.T) * gains) @ self.axes)

        means = whiten(self.means)
        left_out = np.flatnonzero(self.counts[self.classes] > 1)
        held_out = self._held_out(
            whiten(self.rows[left_out]), means, whiten(self.residuals[left_out]), left_out
        )
        # A difference of scores matters, not their common level
        deviation = float((held_out - held_out.mean(axis=1, keepdims=True)).std())
        factor = 1 / max(deviation, 1e-12)
        lengths = np.sqrt(np.maximum((means**2).sum(axis=1, keepdims=True), TINY))
        weights = np.ascontiguousarray(
            factor * whiten(means / lengths).T
        )  # as it is stored: the same order of sums
        scores = LinearScores(mean, weights, np.zeros(len(means)))
        held_out, count = factor * held_out, float(np.median(self.counts[self.classes[left_out]]))
        sharpness = fit_sharpness(held_out, self.classes[left_out])
        return Fit(scores, sharpness, left_out, held_out, math.sqrt(count / (count - 1)))

    def _held_out(
        self,
        rows: NDArray[np.float64],
        means: NDArray[np.float64],
        residuals: NDArray[np.float64],
        left_out: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Whitened rows (m, dim), means (classes, dim), residuals (m, dim) -> scores (m, classes)."""
        own, places = self.classes[left_out], np.arange(len(left_out))
        count = self.counts[own]
        shift = 1 / (count - 1.0)
        row_mean, residual_mean = rows @ means.T, residuals @ means.T
        squares = np.tile((means**2).sum(axis=1), (len(rows), 1))
        residual_square, row_residual = (residuals**2).sum(axis=1), (rows * residuals).sum(axis=1)
        squares[places, own] += shift**2 * residual_square - 2 * shift * residual_mean[places, own]
        row_mean[places, own] -= shift * row_residual
        residual_mean[places, own] -= shift * residual_square
        weight = count / (count - 1.0)
        gain = (weight / np.maximum(1 - weight * residual_square, 1e-9))[:, None]
        first = row_mean + gain * row_residual[:, None] * residual_mean
        return np.asarray(first / np.sqrt(np.maximum(squares + gain * residual_mean**2, TINY)))


def logistic(vectors: NDArray[np.float32], classes: NDArray[np.int64], n_classes: int, seed: int) -> Fit:
    """Logistic regression with its penalty by cross-validation (scikit-learn); the scores are cross-validated too.

    The arguments are those of `discriminant`; every class needs two examples.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    mean = np.asarray(vectors, np.float64).mean(axis=0)
    rows = centred(vectors, mean)
    folds = StratifiedKFold(min(5, int(np.bincount(classes).min())), shuffle=True, random_state=seed)
    fits = []
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=500)
        held_out = cross_val_predict(model, rows, classes, cv=folds, method="decision_function")
        if n_classes == 2:  # one score for both
            held_out = np.stack([-held_out, held_out], axis=1) / 2
        factor = 1 / max(float((held_out - held_out.mean(axis=1, keepdims=True)).std()), 1e-12)
        fits.append((model, factor, factor * held_out, fit_sharpness(factor * held_out, classes)))
    model, factor, held_out, sharpness = min(
        fits, key=lambda fit: float(losses(fit[3] * fit[2], classes).mean())
    )
    model.fit(rows, classes)
    weights, bias = model.coef_, model.intercept_
    if n_classes == 2:
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    scores = LinearScores(mean, np.ascontiguousarray(factor * weights.T), factor * bias)
    return Fit(scores, sharpness, np.arange(len(classes)), held_out)


def losses(scores: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,): the negative log-probability that a softmax of scores (n, classes) gives each row's class."""
    top = scores.max(axis=1, keepdims=True)
    totals = np.log(np.exp(scores - top).sum(axis=1)) + top[:, 0]
    return np.asarray(totals - scores[np.arange(len(classes)), classes])


def held_out_losses(fit: Fit, classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """(m,): `losses` of the scores that were held out. classes: of all examples."""
    return losses(fit.sharpness * fit.held_out, classes[fit.rows])


def fit_sharpness(
    scores: NDArray[np.float64], classes: NDArray[np.int64], extra: NDArray[np.float64] | float = 0.0
) -> float:
    """The factor of scores (n, classes) that makes `softmax(factor · scores + extra)` fit the classes best.

    A log-normal prior keeps it near the usual one where a handful of examples would be fitted perfectly.
    """

    def cost(log_ratio: float) -> float:
        penalty = 0.5 * (log_ratio / SPREAD) ** 2 / max(1, len(classes))
        return penalty + float(losses(USUAL_SHARPNESS * math.exp(log_ratio) * scores + extra, classes).mean())

    best = min(COARSE, key=cost)  # the cost is nearly convex
    return USUAL_SHARPNESS * math.exp(min((best + step for step in FINE), key=cost))
