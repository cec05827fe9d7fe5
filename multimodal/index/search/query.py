"""Queries: what can be searched for, and its unit vector.

    "a beach"                                              a text, or anything else that the space encodes
    vector                                                 (dim,), of floats
    [("a beach", 1.0), (photo, 0.5), ("people", -0.7)]     one weighted query: the direction of the weighted sum
    ["a beach", photo, vector, Query([...])]               four queries

The normalised weighted sum of unit vectors is the mean direction of directional statistics (Mardia & Jupp,
"Directional Statistics", 9.2.1). A negative weight penalises similarity to its part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text, as_item, to_item
from multimodal.core.media.inputs import samples_and_rate, vector_array
from multimodal.core.space import Space
from multimodal.core.vectors import unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Shares of a query by modality, summing to 1; empty if all weights are negative. A plain vector has the modality
# UNKNOWN, which calibration reads as the modality of each hit: the more cautious of its two cases.
ModalityWeights = Mapping[str, float]
UNKNOWN = "unknown"

MIN_LENGTH = 1e-3  # of the sum, relative to the sum of absolute weights: below it the direction is noise
MAX_SHOWN_CHARS = 40


@dataclass(frozen=True, init=False, eq=False)
class Query:
    """A weighted query: `Query([("a beach", 1.0), (photo, 0.5), ("people", -0.7)])`.

    Args:
        parts: (part, weight) pairs. A part is anything that can be searched with, or a float vector (dim,).

    Raises:
        InvalidInput: There is no part, or a weight is 0 or not finite.
    """

    parts: tuple[tuple[Any, float], ...]

    def __init__(self, parts: Sequence[tuple[Any, float]]) -> None:
        if not isinstance(parts, list | tuple) or not parts or not all(map(_is_pair, parts)):
            raise InvalidInput(
                "a Query takes a list of (part, weight) pairs, such as [('a beach', 1.0), ('people', -0.5)], "
                f"got {parts!r:.80}"
            )
        for part, weight in parts:
            if not math.isfinite(weight) or weight == 0:
                raise InvalidInput(
                    f"the weight of {describe(part)} is {weight}; it must be a finite number other than 0: leave out "
                    "parts that should not count"
                )
        object.__setattr__(self, "parts", tuple((part, float(weight)) for part, weight in parts))

    @property
    def text(self) -> str | None:
        """The text of a query that consists of a single text."""
        part, weight = self.parts[0]
        if len(self.parts) > 1 or weight < 0:
            return None
        return part if isinstance(part, str) else part.source if isinstance(part, Text) else None


def parse_queries(value: object, dim: int) -> tuple[list[Query], bool]:
    """The queries in an argument of `Index.search`, and whether it was a single one. Raises InvalidInput."""
    value = vector_array(value)
    if isinstance(value, Query):
        return [value], True
    if _is_vector(value):
        unit_rows(value, dim)  # raises with the number of the invalid row
        vectors = [value] if value.ndim == 1 else value
        return [Query([(vector, 1.0)]) for vector in vectors], value.ndim == 1
    if not isinstance(value, list | tuple) or samples_and_rate(value) is not None:
        return [Query([(value, 1.0)])], True
    if not value:
        raise InvalidInput("the list of queries is empty; give at least one")
    if all(map(_is_pair, value)):
        return [Query(value)], True
    return [_query_in_list(position, element, dim) for position, element in enumerate(value)], False


def _query_in_list(position: int, value: Any, dim: int) -> Query:
    if isinstance(value, Query):
        return value
    if _is_vector(value) and value.ndim != 1:
        raise InvalidInput(
            f"query {position} has shape {value.shape}; in a list, a vector has shape ({dim},)"
        )
    pairs = isinstance(value, list | tuple) and value and all(map(_is_pair, value))
    return Query(value if pairs else [(value, 1.0)])


def encode_queries(space: Space, queries: Sequence[Query]) -> NDArray[np.float32]:
    """Unit vectors (n, dim); the parts of all queries are encoded together. Raises InvalidInput, and like encoding."""
    import numpy as np

    parts = [part for query in queries for part, _ in query.parts]
    vectors = np.empty((len(parts), space.dim), np.float32)
    items = []
    for position, part in enumerate(parts):
        if _is_vector(part):
            vectors[position] = unit_rows(part, space.dim)[0]
        else:
            items.append((position, as_item(part)))
    if items:
        encoded = space.query_space.encode([item for _, item in items])
        vectors[[position for position, _ in items]] = encoded
    ends = np.cumsum([len(query.parts) for query in queries]).tolist()
    return np.stack(
        [
            _weighted_direction(query, vectors[end - len(query.parts) : end])
            for query, end in zip(queries, ends, strict=True)
        ]
    )


def part_modalities(parts: Sequence[tuple[Any, float]]) -> list[tuple[str, float]]:
    """The modality of each part, with its weight."""
    return [(UNKNOWN if _is_vector(part) else str(to_item(part).modality), weight) for part, weight in parts]


def modality_weights(weighted: Sequence[tuple[str, float]]) -> ModalityWeights:
    """Shares of the positive weights by modality; parts with negative weights do not count."""
    total = sum(max(0.0, weight) for _, weight in weighted)
    weights: dict[str, float] = {}
    for modality, weight in weighted:
        if weight > 0:
            weights[modality] = weights.get(modality, 0.0) + weight / total
    return weights


def _weighted_direction(query: Query, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    weights = np.array([weight for _, weight in query.parts])
    if len(weights) == 1:
        return vectors[0] if weights[0] > 0 else -vectors[0]
    total = (weights[:, None] * vectors.astype(np.float64)).sum(axis=0)
    length = float(np.linalg.norm(total))
    if length < MIN_LENGTH * float(np.abs(weights).sum()):
        listed = ", ".join(f"{describe(part)} {weight:+g}" for part, weight in query.parts)
        raise InvalidInput(f"the parts of the query cancel out ({listed}); change a weight")
    return np.asarray(total / length, np.float32)


def describe(part: object) -> str:
    """A query part, shortened for a message."""
    if _is_vector(part):
        return f"a vector of shape {part.shape}"
    text = repr(part.source) if isinstance(part, Text) else repr(part)
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"


def _is_pair(value: object) -> bool:
    import numpy as np

    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[1], int | float | np.integer | np.floating)
        and not isinstance(value[1], bool)
    )


def _is_vector(value: object) -> TypeGuard[NDArray[Any]]:
    import numpy as np

    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim < 3
