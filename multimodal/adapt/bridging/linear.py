"""The closed forms: the linear map from one space's rows to the other's that is best in the sense of least squares.

Both first take each side's mean away: where a modality's vectors fill a narrow cone, the mean is the largest part of
every vector and says nothing. x -> W x + b, as (W (out, into), b (out,)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.projector import Projector

    Solved = tuple[NDArray[np.float64], NDArray[np.float64]]

RIDGES = tuple(10.0**power for power in range(-6, 2))  # of the rows' mean variance


def procrustes(rows: NDArray[np.float32], targets: NDArray[np.float32]) -> Solved:
    """The rotation and scale (Schönemann 1966): W is a multiple of a matrix with orthonormal rows or columns.

    rows (n, into), targets (n, out).
    """
    import numpy as np

    (own, own_mean), (wanted, wanted_mean) = _centred(rows), _centred(targets)
    left, _, right = np.linalg.svd(wanted.T @ own, full_matrices=False)
    turned = left @ right
    spread = float(((own @ turned.T) ** 2).sum())
    weight = turned * (float((wanted * (own @ turned.T)).sum()) / spread if spread > 0 else 1.0)
    return weight, wanted_mean - weight @ own_mean


def ridge(rows: NDArray[np.float32], targets: NDArray[np.float32]) -> Solved:
    """Ridge regression; the penalty of RIDGES with the least error on rows left out one at a time, in closed form."""
    import numpy as np

    (own, own_mean), (wanted, wanted_mean) = _centred(rows), _centred(targets)
    left, values, right = np.linalg.svd(own, full_matrices=False)
    seen = left.T @ wanted
    best, best_error = None, np.inf
    for share in RIDGES:
        penalty = share * float((values**2).mean())
        shrunk = values**2 / (values**2 + penalty)
        leverage = (left**2) @ shrunk + 1 / len(own)  # a row's pull on its own fit; 1/n is the mean's
        left_out = (wanted - left @ (shrunk[:, None] * seen)) / np.maximum(1 - leverage, 1e-6)[:, None]
        error = float((left_out**2).sum())
        if error < best_error:
            best, best_error = penalty, error
    penalty = best or 0.0
    gains = np.divide(values, values**2 + penalty, out=np.zeros_like(values), where=values > 0)
    weight = (right.T @ (gains[:, None] * seen)).T
    return weight, wanted_mean - weight @ own_mean


def projector(
    rows: NDArray[np.float32],
    targets: NDArray[np.float32],
    method: str,
    *,
    hidden: int = 0,
    remembered: int = 0,
    seed: int = 0,
) -> Projector:
    """One of the two, "procrustes" or "ridge", as a projector; its network does nothing yet and its memory is empty."""
    import torch

    from multimodal.core.projector import Projector

    weight, bias = procrustes(rows, targets) if method == "procrustes" else ridge(rows, targets)
    with torch.random.fork_rng(devices=[]):  # the caller's own random numbers go on undisturbed
        torch.manual_seed(seed)
        made = Projector(rows.shape[1], targets.shape[1], hidden, remembered)
    made.linear.weight.data = torch.from_numpy(weight).float().contiguous()  # as it will be read from a file
    made.linear.bias.data = torch.from_numpy(bias).float()
    return made


def _centred(rows: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import numpy as np

    mean = rows.mean(axis=0, dtype=np.float64)
    return rows.astype(np.float64) - mean, mean
