"""Vectors -> a place on the plane, by UMAP (McInnes et al. 2018) or by the two largest principal components."""

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
FEWEST_FOR_UMAP = 15  # below that its neighbourhoods are the whole of the data
NEIGHBOURS, LEAST_APART = 15, 0.25
MARGIN = 0.5


@dataclass(frozen=True)
class Flat:
    """places: (n, 2) float64 in 0 to 1, the longer side filled. method: what was used; why: if not what one would
    expect. kept: of the variance, by PCA."""

    places: NDArray[np.float64]
    method: str
    why: str | None = None
    kept: float | None = None


def flatten(vectors: NDArray[np.float32], method: str, seed: int) -> Flat:
    """Rows (n, dim) -> Flat. "auto" is UMAP where it is installed and there are enough points, else PCA.

    Raises InvalidInput for an unknown method or too few points for UMAP, MissingExtra where UMAP is asked for by name
    and not installed.
    """
    if method not in get_args(Method):
        raise InvalidInput(f"method must be one of {', '.join(map(repr, get_args(Method)))}, got {method!r}")
    there = importlib.util.find_spec("umap") is not None
    enough = len(vectors) >= FEWEST_FOR_UMAP
    if method == "umap" and not there:
        raise MissingExtra("a map by UMAP", package="umap-learn", extra="map")
    if method == "umap" and not enough:
        raise InvalidInput(
            f"UMAP needs at least {FEWEST_FOR_UMAP} items, got {len(vectors)}; use method='pca' (--method pca)"
        )
    if method == "pca" or not (there and enough):
        reasons = {
            "umap-learn is not installed (pip install 'multimodal[map]')": not there,
            f"{len(vectors)} items are too few for UMAP": not enough,
        }
        why = next((reason for reason, holds in reasons.items() if holds), None) if method == "auto" else None
        places, kept = _pca(vectors)
        return Flat(_fitted(places), "pca", why, kept)
    return Flat(_fitted(_umap(vectors, seed)), "umap")


def centred(vectors: NDArray[np.float32], modalities: Sequence[str]) -> NDArray[np.float32]:
    """Each modality's own mean taken away: what is left says what a thing means, not which kind it is of.

    A modality with a single item keeps its vector, less the mean of all.
    """
    import numpy as np

    kinds, rows = np.array(modalities), vectors.astype(np.float64)
    moved = rows - rows.mean(axis=0)
    for kind in dict.fromkeys(modalities):
        own = kinds == kind
        if own.sum() > 1:
            moved[own] = rows[own] - rows[own].mean(axis=0)
    lengths = np.linalg.norm(moved, axis=1, keepdims=True)
    return np.asarray(moved / np.maximum(lengths, 1e-9), dtype=np.float32)


def _pca(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """(n, 2), and the share of the variance that they keep. The sign of an axis is that of its largest loading, so that
    the same data give the same picture."""
    import numpy as np

    rows = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    values, axes = np.linalg.eigh(rows.T @ rows)
    first = axes[:, ::-1][:, :2]
    largest = np.abs(first).argmax(axis=0)
    first = first * np.where(first[largest, [0, 1][: first.shape[1]]] < 0, -1, 1)
    places = rows @ first
    if places.shape[1] == 1:
        places = np.column_stack([places, np.zeros(len(places))])
    total = float(values.clip(0).sum())
    return places, float(values.clip(0)[::-1][:2].sum() / total) if total > 0 else 1.0


def _umap(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    import warnings

    import numpy as np

    with warnings.catch_warnings():  # of what it has not (TensorFlow) and what a seed costs (threads)
        warnings.simplefilter("ignore")
        import umap

        neighbours = min(NEIGHBOURS, len(vectors) - 1)
        made = umap.UMAP(
            n_neighbors=neighbours,
            min_dist=LEAST_APART,
            metric="cosine",
            random_state=seed,
            n_jobs=1,
            init="pca",
        )
        return np.asarray(made.fit_transform(vectors), dtype=np.float64)


def _fitted(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Into the unit square without changing the proportions; what has no extent lies in the middle."""
    import numpy as np

    low, high = places.min(axis=0), places.max(axis=0)
    size = float((high - low).max())
    middle = (low + high) / 2
    return np.full_like(places, MARGIN) if size <= 0 else (places - middle) / size + MARGIN
