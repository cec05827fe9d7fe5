"""Queries -> hits. Exact: every row is compared, and ties are broken by id, so that an answer never depends on chance.

The store proposes candidates in single precision; their cosines are computed again in double, rounded to DECIMALS so
that equal ones are equal, and sorted. So many candidates are asked for that rounding in the store cannot have hidden a
better one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

from multimodal.core.errors import InvalidInput
from multimodal.core.space import Space
from multimodal.core.types import Modality, as_item
from multimodal.core.vectors import unit_rows
from multimodal.index.results import Hit, Hits
from multimodal.index.store import Store
from multimodal.index.table import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DECIMALS = 9  # float32 vectors carry seven: what differs beyond is rounding, and must decide no order
SPARE = 16  # candidates beyond k, among which ties at the border are usually settled in one pass
STORE_ERROR = 1e-5  # how far off a distance of the store may be: float32 sums over some thousand numbers


def search(store: Store, vector: NDArray[np.float32], k: int, condition: str | None) -> Hits:
    """The k rows of highest cosine with a unit vector (dim,), best first; fewer if the condition leaves fewer."""
    n = k + SPARE
    while True:
        rows, vectors, distances = store.nearest(vector, n, condition)
        # Beyond the k-th, anything the store may have confused with it must have been seen too.
        if len(rows) < n or distances.max() - _smallest(distances, k) > 2 * STORE_ERROR:
            break
        n *= 4
    scores = _cosines(vectors, vector)
    order = sorted(range(len(rows)), key=lambda i: (-scores[i], rows[i].id))
    return Hits(_hit(rows[i], float(scores[i])) for i in order[:k])


def query_vectors(space: Space, query: object) -> tuple[NDArray[np.float32], bool]:
    """A query or a list of them -> (unit vectors (n, dim), whether one was given alone).

    Each is anything `as_item` takes, or a float vector (dim,); a float array (n, dim) is n queries.
    """
    import numpy as np

    space = space.for_queries
    if _is_vector(query):
        return unit_rows(query, space.dim), query.ndim == 1
    if not isinstance(query, list | tuple):
        return space.encode([as_item(query)]), True
    if not query:
        raise InvalidInput("the list of queries is empty; give at least one")
    rows = np.empty((len(query), space.dim), dtype=np.float32)
    items = []
    for position, one in enumerate(query):
        if not _is_vector(one):
            items.append((position, as_item(one)))
            continue
        if one.ndim != 1:
            raise InvalidInput(
                f"query {position} has shape {one.shape}; in a list, a vector has shape ({space.dim},)"
            )
        rows[position] = unit_rows(one, space.dim)[0]
    if items:
        rows[[position for position, _ in items]] = space.encode([item for _, item in items])
    return rows, False


def _is_vector(value: object) -> TypeGuard[NDArray[Any]]:
    import numpy as np

    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _smallest(distances: NDArray[np.float32], k: int) -> float:
    import numpy as np

    return float(np.partition(distances, k - 1)[k - 1])


def _cosines(vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
    """(n, dim), (dim,) -> (n,). Row by row, so that a row's score does not depend on where it stands."""
    import numpy as np

    wide, one = vectors.astype(np.float64), query.astype(np.float64)
    dots = (wide * one).sum(axis=1)
    norms = np.sqrt((wide * wide).sum(axis=1)) * np.sqrt((one * one).sum())
    return np.round(np.clip(dots / norms, -1.0, 1.0), DECIMALS)


def _hit(row: Row, score: float) -> Hit:
    place = (row.start_s, row.end_s, row.start_char, row.end_char)
    return Hit(row.id, row.uri, score, Modality(row.modality), row.metadata, row.text, *place)
