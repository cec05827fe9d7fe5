"""Cosine similarity of the vectors of a competitor to those of the reference."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def similarity(vectors: NDArray[np.float32], reference: NDArray[np.float32]) -> dict[str, float]:
    """Minimum and median centred cosine, and largest absolute difference, of two sets of rows (n, dim).

    Rows are normalised, and the mean of the reference is subtracted from both sets: random weights, like those of CLIP,
    map a modality into a narrow cone, where the cosine of any two vectors is near 1.
    """
    rows, reference_rows = _unit(vectors), _unit(reference)
    mean = reference_rows.mean(0)
    cosines = (_unit(rows - mean) * _unit(reference_rows - mean)).sum(1)
    return {
        "least centred cosine": float(cosines.min()),
        "median centred cosine": float(np.median(cosines)),
        "largest difference": float(np.abs(rows - reference_rows).max()),
    }


def over_rounds(several: Sequence[dict[str, float]]) -> dict[str, float]:
    """The worst extremes, and the median of the medians."""
    return {
        "least centred cosine": min(figures["least centred cosine"] for figures in several),
        "median centred cosine": statistics.median(figures["median centred cosine"] for figures in several),
        "largest difference": max(figures["largest difference"] for figures in several),
    }


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = np.asarray(rows, np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)
