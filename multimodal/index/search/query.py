"""What may be asked -> unit vectors: one thing, a vector, or several things with weights.

    "a beach"                                              a text; anything else that the space encodes
    vector                                                 (dim,), of floats
    [("a beach", 1.0), (photo, 0.5), ("people", -0.7)]     one query of parts: the direction of their weighted sum
    ["a beach", photo, vector, Query([...])]               four queries

The weighted sum of unit vectors, scaled to length one, is the mean direction of directional statistics (Mardia & Jupp,
"Directional Statistics", 9.2.1). A negative weight turns away from a thing: it lowers what resembles it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text, as_item
from multimodal.core.space import Space
from multimodal.core.vectors import unit_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# How much of a query is of each modality: shares that add up to one, or nothing if it only turns away. A vector is of
# an unknown one, which is read as if it were the modality of whatever it finds: the least is claimed so.
Kinds = Mapping[str, float]
UNKNOWN = "unknown"

LEAST_LENGTH = 1e-3  # of the sum, as a share of the sum of the weights: below it the direction is noise
SHOWN_CHARS = 40


@dataclass(frozen=True, init=False, eq=False)
class Query:
    """Parts with weights: `Query([("a beach", 1.0), (photo, 0.5), ("people", -0.7)])`.

    A part is anything that can be searched with, or a vector (dim,) of floats. Raises InvalidInput unless there is at
    least one part, and each weight is a finite number other than 0.
    """

    parts: tuple[tuple[Any, float], ...]

    def __init__(self, parts: Sequence[tuple[Any, float]]) -> None:
        if not isinstance(parts, list | tuple) or not parts or not all(map(_is_pair, parts)):
            raise InvalidInput(
                "a Query takes a list of (thing, weight) pairs, such as [('a beach', 1.0), ('people', -0.5)], "
                f"got {parts!r:.80}"
            )
        for thing, weight in parts:
            if not math.isfinite(weight) or weight == 0:
                raise InvalidInput(
                    f"the weight of {shown(thing)} is {weight}; it must be a finite number other than 0: leave out "
                    "what should not count"
                )
        object.__setattr__(self, "parts", tuple((thing, float(weight)) for thing, weight in parts))

    @property
    def words(self) -> str | None:
        """The text of a query that is nothing but one text."""
        thing = self.parts[0][0]
        if len(self.parts) > 1 or self.parts[0][1] < 0:
            return None
        return thing if isinstance(thing, str) else thing.source if isinstance(thing, Text) else None


def as_queries(value: object, dim: int) -> tuple[list[Query], bool]:
    """What was asked -> (queries, whether it was one alone). See the module. Raises InvalidInput."""
    if isinstance(value, Query):
        return [value], True
    if _is_vector(value):
        unit_rows(value, dim)  # raises, and tells which row is bad
        return [Query([(row, 1.0)]) for row in ([value] if value.ndim == 1 else value)], value.ndim == 1
    if not isinstance(value, list | tuple):
        return [Query([(value, 1.0)])], True
    if not value:
        raise InvalidInput("the list of queries is empty; give at least one")
    if all(map(_is_pair, value)):
        return [Query(value)], True
    return [_one(position, each, dim) for position, each in enumerate(value)], False


def _one(position: int, value: Any, dim: int) -> Query:
    if isinstance(value, Query):
        return value
    if _is_vector(value) and value.ndim != 1:
        raise InvalidInput(
            f"query {position} has shape {value.shape}; in a list, a vector has shape ({dim},)"
        )
    pairs = isinstance(value, list | tuple) and value and all(map(_is_pair, value))
    return Query(value if pairs else [(value, 1.0)])


def vectors_of(space: Space, queries: Sequence[Query]) -> NDArray[np.float32]:
    """Unit vectors (n, dim), all things encoded together. Raises what encoding raises, and InvalidInput."""
    import numpy as np

    things = [thing for query in queries for thing, _ in query.parts]
    rows = np.empty((len(things), space.dim), np.float32)
    items = []
    for position, thing in enumerate(things):
        if _is_vector(thing):
            rows[position] = unit_rows(thing, space.dim)[0]
        else:
            items.append((position, as_item(thing)))
    if items:
        rows[[position for position, _ in items]] = space.query_space.encode([item for _, item in items])
    ends = np.cumsum([len(query.parts) for query in queries]).tolist()
    return np.stack(
        [_mean(query, rows[end - len(query.parts) : end]) for query, end in zip(queries, ends, strict=True)]
    )


def kinds_of(parts: Sequence[tuple[Any, float]]) -> list[tuple[str, float]]:
    """The modality of each part, with its weight."""
    return [
        (UNKNOWN if _is_vector(thing) else str(as_item(thing).modality), weight) for thing, weight in parts
    ]


def shares(kinds: Sequence[tuple[str, float]]) -> Kinds:
    """By the weights of what is sought; what a query turns away from makes it resemble nothing."""
    total = sum(max(0.0, weight) for _, weight in kinds)
    found: dict[str, float] = {}
    for kind, weight in kinds:
        if weight > 0:
            found[kind] = found.get(kind, 0.0) + weight / total
    return found


def _mean(query: Query, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    import numpy as np

    weights = np.array([weight for _, weight in query.parts])
    if len(weights) == 1:
        return vectors[0] if weights[0] > 0 else -vectors[0]
    total = (weights[:, None] * vectors.astype(np.float64)).sum(axis=0)
    length = float(np.linalg.norm(total))
    if length < LEAST_LENGTH * float(np.abs(weights).sum()):
        told = ", ".join(f"{shown(thing)} {weight:+g}" for thing, weight in query.parts)
        raise InvalidInput(
            f"the parts of the query cancel out ({told}): nothing is left to search for; change a weight"
        )
    return np.asarray(total / length, np.float32)


def shown(thing: object) -> str:
    """A thing in a message."""
    if _is_vector(thing):
        return f"a vector of shape {thing.shape}"
    text = repr(thing.source) if isinstance(thing, Text) else repr(thing)
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


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

    return isinstance(value, np.ndarray) and value.dtype.kind == "f"
