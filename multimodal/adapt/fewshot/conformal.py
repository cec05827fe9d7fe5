"""Rejection: sets of candidate labels by conformal prediction, and inputs unlike every example.

Each example gets the probability of its own label from a classifier without it. A label is a candidate for an input if
its probability is not below all but a share `reject` of these. If inputs are drawn like the examples, the right label
is among the candidates of at least 1 - reject of them (up to the small bias of leave-one-out). With four or five
examples of a label the classifier without one of them is clearly worse than that of all, and the candidates would hold
the right label more often than promised, at the price of their number: the share is raised by one part in as many as
there are examples. With fewer than four it is too different, so nothing is promised.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from multimodal.adapt.fewshot.discriminant import ENOUGH_TO_CHOOSE
from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

FEWEST = 4
BLOCK = 1024  # rows


def check_reject(reject: float | None, counts: dict[str, int]) -> float | None:
    """The error rate. Raises InvalidInput if it is no share, or a label has too few examples for the promise."""
    if reject is None:
        return None
    if not 0 < reject < 1:
        raise InvalidInput(f"reject must be a share of errors between 0 and 1, as 0.1; got {reject!r}")
    label = min(counts, key=lambda name: counts[name])
    if counts[label] < FEWEST:
        raise InvalidInput(
            f"reject={reject:g} promises a share of errors, which takes at least {FEWEST} examples of each label; "
            f"{label!r} has {counts[label]}: add some, or leave out reject"
        )
    return float(reject)


def error_rate(reject: float, counts: Iterable[int]) -> float:
    """The share of examples whose label may be left out of the candidates. counts: examples of each label."""
    usual = float(np.median(list(counts)))
    return reject * (1 + 1 / usual) if usual < ENOUGH_TO_CHOOSE else reject


def threshold(own: NDArray[np.float64], reject: float) -> float:
    """The least probability of a candidate. own: (m,) of each example's label, without the example."""
    rank = math.floor((len(own) + 1) * reject)
    return 0.0 if rank < 1 else float(np.sort(own)[rank - 1])


def similarity_floor(vectors: NDArray[np.float32], reject: float) -> float:
    """The cosine to the nearest example below which an input is unlike all of them.

    At most a share `reject` of inputs like the examples is below it.
    """
    nearest = np.empty(len(vectors))
    for start in range(0, len(vectors), BLOCK):
        cosines = vectors[start : start + BLOCK] @ vectors.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -1.0
        nearest[start : start + BLOCK] = cosines.max(axis=1)
    return threshold(nearest, reject) if len(vectors) * reject >= 1 else -1.0
