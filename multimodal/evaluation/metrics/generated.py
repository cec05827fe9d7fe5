"""Metrics of generated images in the vectors of a judge: CLIPScore and the kernel distance (KID)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from multimodal.evaluation.figure import Figure, Z

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CLIP_SCORE_SCALE = 2.5


def clip_score(images: NDArray[np.float32], texts: NDArray[np.float32]) -> Floats:
    """2.5 · max(cosine, 0) of each pair of unit rows (Hessel et al. 2021), (n,)."""
    import numpy as np

    cosines = (images.astype(np.float64) * texts.astype(np.float64)).sum(1)
    scores: Floats = CLIP_SCORE_SCALE * np.maximum(cosines, 0.0)
    return scores


def kernel_distance(generated: NDArray[np.float32], real: NDArray[np.float32]) -> Figure:
    """The unbiased squared maximum mean discrepancy with the cubic kernel of KID (Bińkowski et al. 2018).

    The interval is normal, with the standard error of the jackknife: resampling with replacement would put equal rows
    into a kernel that leaves out the diagonal, and bias it.

    Args:
        generated: Vectors (n, dim), n at least 2.
        real: Vectors (m, dim), m at least 2.

    Returns:
        The distance; it may be slightly below 0.
    """
    import numpy as np

    first, second = generated.astype(np.float64), real.astype(np.float64)
    dim, n, m = first.shape[1], len(first), len(second)

    def kernel(a: Floats, b: Floats) -> Floats:
        cubes: Floats = (a @ b.T / dim + 1) ** 3
        return cubes

    within_a, within_b, across = kernel(first, first), kernel(second, second), kernel(first, second)
    np.fill_diagonal(within_a, 0.0)
    np.fill_diagonal(within_b, 0.0)
    sum_a, sum_b, sum_ab = within_a.sum(), within_b.sum(), across.sum()
    value = sum_a / (n * (n - 1)) + sum_b / (m * (m - 1)) - 2 * sum_ab / (n * m)
    variance = 0.0
    if n > 2 and m > 2:
        without_a = (sum_a - 2 * within_a.sum(1)) / ((n - 1) * (n - 2)) + sum_b / (m * (m - 1))
        without_a -= 2 * (sum_ab - across.sum(1)) / ((n - 1) * m)
        without_b = (sum_b - 2 * within_b.sum(1)) / ((m - 1) * (m - 2)) + sum_a / (n * (n - 1))
        without_b -= 2 * (sum_ab - across.sum(0)) / (n * (m - 1))
        variance = (n - 1) * without_a.var() + (m - 1) * without_b.var()
    half = Z * math.sqrt(variance)
    has_interval = variance > 0
    low, high = (float(value - half), float(value + half)) if has_interval else (None, None)
    return Figure(float(value), low, high, n, m)
