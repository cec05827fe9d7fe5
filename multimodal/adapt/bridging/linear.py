"""Closed-form least-squares maps between spaces: x -> W x + b, returned as (W (out, in), b (out,)).

Both subtract the mean of either side first: the vectors of a modality often fill a narrow cone, whose mean dominates
every vector without carrying information.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.projector import Projector

    LinearMap = tuple[NDArray[np.float64], NDArray[np.float64]]

PENALTIES = tuple(10.0**power for power in range(-6, 2))  # relative to the mean variance of the rows


def procrustes(rows: NDArray[np.float32], targets: NDArray[np.float32]) -> LinearMap:
    """Orthogonal Procrustes with scale (Schönemann 1966): W is a multiple of a semi-orthogonal matrix.

    Args:
        rows: (n, in).
        targets: (n, out).
    """
    import numpy as np

    (source, source_mean), (target, target_mean) = _centred(rows), _centred(targets)
    left, _, right = np.linalg.svd(target.T @ source, full_matrices=False)
    rotation = left @ right
    spread = float(((source @ rotation.T) ** 2).sum())
    weight = rotation * (float((target * (source @ rotation.T)).sum()) / spread if spread > 0 else 1.0)
    return weight, target_mean - weight @ source_mean


def ridge(rows: NDArray[np.float32], targets: NDArray[np.float32]) -> LinearMap:
    """Ridge regression with the penalty of PENALTIES that minimises the leave-one-out error, in closed form."""
    import numpy as np

    (source, source_mean), (target, target_mean) = _centred(rows), _centred(targets)
    left, values, right = np.linalg.svd(source, full_matrices=False)
    projected = left.T @ target
    best, best_error = None, np.inf
    for share in PENALTIES:
        penalty = share * float((values**2).mean())
        shrunk = values**2 / (values**2 + penalty)
        leverage = (left**2) @ shrunk + 1 / len(source)  # leverage of each row; 1/n is that of the mean
        left_out = (target - left @ (shrunk[:, None] * projected)) / np.maximum(1 - leverage, 1e-6)[:, None]
        error = float((left_out**2).sum())
        if error < best_error:
            best, best_error = penalty, error
    penalty = best or 0.0
    gains = np.divide(values, values**2 + penalty, out=np.zeros_like(values), where=values > 0)
    weight = (right.T @ (gains[:, None] * projected)).T
    return weight, target_mean - weight @ source_mean


def fit_projector(
    rows: NDArray[np.float32],
    targets: NDArray[np.float32],
    method: str,
    *,
    hidden: int = 0,
    n_stored: int = 0,
    seed: int = 0,
) -> Projector:
    """Fits a linear map as a projector.

    Args:
        rows: Unit rows (n, in).
        targets: Unit rows (n, out).
        method: "procrustes" or "ridge".
        hidden: Width of its network, which is initialised to have no effect; 0 for none.
        n_stored: Capacity of its kernel regression, which is initialised empty; 0 for none.
        seed: Seed of the network's initialisation.
    """
    import torch

    from multimodal.core.projector import Projector

    weight, bias = procrustes(rows, targets) if method == "procrustes" else ridge(rows, targets)
    with torch.random.fork_rng(devices=[]):  # keeps the caller's random state
        torch.manual_seed(seed)
        projector = Projector(rows.shape[1], targets.shape[1], hidden, n_stored)
    projector.linear.weight.data = (
        torch.from_numpy(weight).float().contiguous()
    )  # the layout it has when loaded from a file
    projector.linear.bias.data = torch.from_numpy(bias).float()
    return projector


def _centred(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import numpy as np

    mean = rows.mean(axis=0, dtype=np.float64)
    return rows.astype(np.float64) - mean, mean
