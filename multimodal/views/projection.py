"""Projection of vectors to the plane, by UMAP (McInnes et al. 2018) or by the two largest principal components."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from multimodal.core.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Method = Literal["auto", "umap", "pca"]
MIN_UMAP_ITEMS = 15  # below it, every neighbourhood is the whole data set
AUTO_UMAP_ITEMS = 500  # below it, "auto" takes PCA, which needs no start-up and shows as much
NEIGHBOURS, MIN_DISTANCE = 15, 0.25
MARGIN = 0.5


@dataclass(frozen=True)
class PlaneProjection:
    """Positions on the plane.

    positions: (n, 2) float64 in 0 to 1; the longer side fills that range. method: "umap" or "pca". fallback_reason: why
    "auto" chose PCA. explained_variance: share of the variance that PCA keeps, 0 to 1.
    """

    positions: NDArray[np.float64]
    method: str
    fallback_reason: str | None = None
    explained_variance: float | None = None


def project(vectors: NDArray[np.float32], method: str, seed: int) -> PlaneProjection:
    """Projects vectors (n, dim). "auto" is UMAP if it is installed and there are enough points, otherwise PCA.

    Raises InvalidInput for an unknown method or too few points for UMAP, MissingExtra if method="umap" and UMAP is not
    installed.
    """
    if method not in get_args(Method):
        raise InvalidInput(f"method must be one of {', '.join(map(repr, get_args(Method)))}, got {method!r}")
    is_installed = importlib.util.find_spec("umap") is not None
    enough = len(vectors) >= MIN_UMAP_ITEMS
    if method == "umap" and not is_installed:
        raise MissingExtra("a map by UMAP", package="umap-learn", extra="map")
    if method == "umap" and not enough:
        raise InvalidInput(
            f"UMAP needs at least {MIN_UMAP_ITEMS} items, got {len(vectors)}; use method='pca' (--method pca)"
        )
    if method == "auto":
        enough = len(vectors) >= AUTO_UMAP_ITEMS
    if method == "pca" or not (is_installed and enough):
        reasons = {
            "umap-learn is not installed (pip install 'multimodal[map]')": not is_installed,
            f"{len(vectors)} items are too few for UMAP": not enough,
        }
        why = next((reason for reason, holds in reasons.items() if holds), None) if method == "auto" else None
        positions, explained_variance = _pca(vectors)
        return PlaneProjection(_fit_unit_square(positions), "pca", why, explained_variance)
    return PlaneProjection(_fit_unit_square(_umap(vectors, seed)), "umap")


def centred(vectors: NDArray[np.float32], modalities: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors (n, dim) after subtracting the mean of each modality, which removes the modality gap.

    A modality with a single item has the mean of all items subtracted instead.
    """
    import numpy as np

    names, rows = np.array(modalities), vectors.astype(np.float64)
    moved = rows - rows.mean(axis=0)
    for modality in dict.fromkeys(modalities):
        own = names == modality
        if own.sum() > 1:
            moved[own] = rows[own] - rows[own].mean(axis=0)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.maximum(lengths, 1e-9), dtype=np.float32)


def _pca(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Positions (n, 2) and their share of the variance. An axis has the sign of its largest loading, so that the result
    is deterministic."""
    import numpy as np

    rows = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(rows.T @ rows)
    first = axes[:, ::-1][:, :2]
    largest = np.abs(first).argmax(axis=0)
    first = first * np.where(first[largest, [0, 1][: first.shape[1]]] < 0, -1, 1)
    positions = rows @ first
    if positions.shape[1] == 1:
        positions = np.column_stack([positions, np.zeros(len(positions))])
    total = float(values.clip(0).sum())
    return positions, float(values.clip(0)[::-1][:2].sum() / total) if total > 0 else 1.0


def _umap(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    import warnings

    import numpy as np

    with warnings.catch_warnings():  # umap warns that TensorFlow is missing, and that a seed disables threads
        warnings.simplefilter("ignore")
        import umap

        neighbours = min(NEIGHBOURS, len(vectors) - 1)
        reducer = umap.UMAP(
            n_neighbors=neighbours,
            min_dist=MIN_DISTANCE,
            metric="cosine",
            random_state=seed,
            n_jobs=1,
            init="pca",
        )
        return np.asarray(reducer.fit_transform(vectors), dtype=np.float64)


def _fit_unit_square(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scales positions (n, 2) to the unit square, keeping proportions; without any extent they are in the middle."""
    import numpy as np

    low, high = positions.min(axis=0), positions.max(axis=0)
    size = float((high - low).max())
    middle = (low + high) / 2
    return np.full_like(positions, MARGIN) if size <= 0 else (positions - middle) / size + MARGIN
