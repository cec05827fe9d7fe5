"""Cosine similarity of the vectors of a competitor to those of the reference."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def similarity(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> dict[str, float]:
    """Of two sets of rows (n, dim), scaled to length one: the least and the median cosine after the mean of the
    reference is taken from both, and the largest difference of a number.

    Without the mean, for random weights (and CLIP's own) put all of a modality in a narrow cone, where any two vectors
    have a cosine near one.
    """
    one, other = _unit(vectors), _unit(reference)
    mean = other.mean(0)
    cosines = (_unit(one - mean) * _unit(other - mean)).sum(1)
    return {
        "least centred cosine": float(cosines.min()),
        "median centred cosine": float(np.median(cosines)),
        "largest difference": float(np.abs(one - other).max()),
    }


def over_rounds(several: Sequence[dict[str, float]]) -> dict[str, float]:
    """The worst of the extremes, and the median of the medians."""
    return {
        "least centred cosine": min(one["least centred cosine"] for one in several),
        "median centred cosine": statistics.median(one["median centred cosine"] for one in several),
        "largest difference": max(one["largest difference"] for one in several),
    }


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = np.asarray(rows, np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)
