"""Metrics of probabilities over classes: accuracy, class-mean accuracy, calibration error, Brier score."""

from __future__ import annotations

from typing import TYPE_CHECKING

from multimodal.evaluation.figure import ratio

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.evaluation.figure import Statistic

    Floats = NDArray[np.float64]
    Whole = NDArray[np.int64]

BINS = 15


def class_mean(correct: Floats, classes: Whole) -> Statistic:
    """The mean over classes of the accuracy within each.

    As a ratio of sums in which an item counts one over the size of its class: a bootstrap sample that lacks a class is
    then no special case, and classes of one item each have the interval of the accuracy.
    """
    import numpy as np

    _, numbers, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    shares = 1 / sizes[numbers]
    return ratio(correct * shares, shares)


def calibration_error(confidence: Floats, correct: Floats, bins: int = BINS) -> Statistic:
    """Expected calibration error over bins of equal width of the probability of the predicted class."""
    import numpy as np

    members = np.zeros((len(confidence), bins))
    members[np.arange(len(confidence)), bin_of(confidence, bins)] = 1.0
    gaps = members * (correct - confidence)[:, None]

    def statistic(weights: Floats) -> Floats:
        errors: Floats = np.abs(weights @ gaps).sum(1) / weights.sum(1)
        return errors

    return statistic


def bin_of(confidence: Floats, bins: int = BINS) -> Whole:
    """The bin of each probability: (0, 1/bins], …"""
    import numpy as np

    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def brier(probabilities: Floats, truth: Whole) -> Floats:
    """The squared distance of the probabilities (n, classes) from the right answer, summed over the classes: (n,)."""
    import numpy as np

    own = probabilities[np.arange(len(truth)), truth]
    scores: Floats = (probabilities**2).sum(1) - 2 * own + 1
    return scores
