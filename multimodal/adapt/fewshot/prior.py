"""How much the words of the labels count beside the examples.

The scores of zero-shot classification are added to those of the examples with a weight found by leave-one-out. Where
the words are no better than chance on the examples themselves, the weight is 0.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from multimodal.adapt.fewshot.discriminant import ENOUGH_TO_CHOOSE, Fit, fit_sharpness, losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEIGHTS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
SINGLE_WEIGHT = 0.1  # where no example can be left out
LARGEST_FEW = (
    0.2  # with few examples: those that are left are so much worse than all that the words look too good
)
SIGNIFICANCE = 0.05


def better_than_chance(hits: int, n: int, n_classes: int) -> bool:
    """Whether so many hits among n guesses of one class in `n_classes` have a probability below SIGNIFICANCE."""
    chance = 1 / n_classes
    tail = sum(
        math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            + k * math.log(chance) + (n - k) * math.log1p(-chance)
        )
        for k in range(hits, n + 1)
    )  # fmt: skip
    return tail < SIGNIFICANCE


def blend(fit: Fit, words: NDArray[np.float64], classes: NDArray[np.int64]) -> tuple[float, float]:
    """(weight of the words, sharpness of the examples' scores).

    Args:
        fit: Of the examples.
        words: (n, classes) zero-shot scores of all examples.
        classes: (n,) their classes.
    """
    hits = int((words.argmax(axis=1) == classes).sum())
    if not better_than_chance(hits, len(classes), words.shape[1]):
        return 0.0, fit.sharpness
    if not len(fit.rows):
        return SINGLE_WEIGHT, fit.sharpness
    own, prior = classes[fit.rows], words[fit.rows]
    before = losses(fit.sharpness * fit.held_out, own)
    best = (0.0, fit.sharpness, before)
    is_few = float(np.median(np.bincount(classes))) < ENOUGH_TO_CHOOSE
    for weight in (weight for weight in WEIGHTS if not is_few or weight <= LARGEST_FEW):
        sharpness = fit_sharpness(fit.held_out, own, weight * prior)
        after = losses(sharpness * fit.held_out + weight * prior, own)
        if after.mean() < best[2].mean():
            best = (weight, sharpness, after)
    gain = before - best[2]
    # Within one standard error the words have not been shown to help
    if gain.mean() <= gain.std() / math.sqrt(len(gain)):
        return 0.0, fit.sharpness
    return best[0], best[1]
