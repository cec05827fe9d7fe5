"""What `Index.search` is given -> hits: checks it all, encodes the queries, and chooses the way to search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from multimodal.core.errors import InvalidInput
from multimodal.core.space import Space
from multimodal.index.results import Hits
from multimodal.index.search.query import Kinds, Query, as_queries, kinds_of, shares, vectors_of
from multimodal.index.search.searcher import Searcher, Wanted
from multimodal.index.search.view import Filter, View
from multimodal.index.search.words import Sought
from multimodal.index.storage import filters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Mode = Literal["vector", "text", "hybrid"]


@dataclass(frozen=True)
class Asked:
    """The queries, each with the words that go with it (if the mode has any); alone: one was given, not a list."""

    queries: list[Query]
    texts: list[str]
    mode: Mode
    alone: bool
    near: tuple[str, ...] = ()

    @classmethod
    def of(cls, dim: int, query: object, text: str | None, mode: str | None, near: tuple[str, ...]) -> Asked:
        """Raises InvalidInput for what does not go together."""
        queries, alone = ([], True) if query is None else as_queries(query, dim)
        if near and not alone:
            raise InvalidInput(
                f"near= goes with one query or none, and {len(queries)} were given; search one by one"
            )
        chosen = _mode(mode, text, bool(queries or near))
        if chosen == "vector":
            return cls(queries, [], chosen, alone, near)
        texts = list(map(_words, queries)) if text is None else [text] * max(1, len(queries))
        for one in texts:
            Sought.of(one)  # raises before anything is encoded
        return cls(queries, texts, chosen, alone, near)


def _mode(mode: str | None, text: str | None, by_vector: bool) -> Mode:
    if mode is not None and mode not in get_args(Mode):
        raise InvalidInput(f"mode must be one of {', '.join(map(repr, get_args(Mode)))}, got {mode!r}")
    if not by_vector and text is None:
        raise InvalidInput("there is nothing to search for; give a query, text= or near=")
    if mode is None:
        mode = "vector" if text is None else "hybrid" if by_vector else "text"
    if mode == "vector" and text is not None:
        raise InvalidInput("mode='vector' looks at no words, but text= is given; leave out one of them")
    if mode == "text" and text is not None and by_vector:
        raise InvalidInput(
            "mode='text' looks at words only, but there is a query beside text=; leave out one of them"
        )
    if mode == "hybrid" and not by_vector:
        raise InvalidInput("mode='hybrid' needs a query, or near=, beside text=")
    return mode  # type: ignore[return-value]


def _words(query: Query) -> str:
    words = query.words
    if words is None:
        raise InvalidInput(
            "a search by words needs words, and the query is no single text; give them as text="
        )
    return words


def ask(
    searcher: Searcher,
    space: Space,
    query: object,
    k: int,
    *,
    text: str | None,
    mode: str | None,
    near: Sequence[str] | None,
    modality: str | Iterable[str] | None,
    where: Mapping[str, Any] | None,
    ids: Sequence[str] | None,
    offset: int,
    exact: bool,
    distinct: bool,
    calibrated: bool,
    min_probability: float | None,
    group: bool | str,
) -> Hits | list[Hits]:
    """See Index.search."""
    of = tuple(near or ())
    only = Filter(
        filters.modalities(space, modality),
        filters.matching(where),
        None if ids is None else tuple(ids),
        without=of,
    )
    k, offset = filters.whole_number(k, "k"), filters.whole_number(offset, "offset", least=0)
    asked = Asked.of(space.dim, query, text, mode, of)
    least = _least(min_probability, calibrated, asked.mode)
    wanted = Wanted(k, only, offset, exact, distinct, calibrated, least, bool(group), _key(group))
    if asked.mode == "text":
        found = searcher.by_words(asked.texts, wanted)
    else:
        vectors, kinds = _encoded(searcher, space, asked)
        if asked.mode == "vector":
            found = searcher.by_vector(vectors, kinds, wanted)
        else:
            found = searcher.by_both(vectors, kinds, asked.texts, wanted)
    return found[0] if asked.alone else found


def _least(value: object, calibrated: bool, mode: Mode) -> float | None:
    """The probability below which nothing is a hit. Raises InvalidInput."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInput(f"min_probability must be a number from 0 to 1, got {value!r}")
    if not calibrated:
        raise InvalidInput(
            "min_probability needs calibrated hits, but calibrated=False was given; leave out one"
        )
    if mode == "text":
        raise InvalidInput("min_probability needs vectors, but mode='text' looks at words only; leave it out")
    return float(value)


def _key(group: object) -> str | None:
    """The metadata key to group by; None for things. Raises InvalidInput."""
    if isinstance(group, bool):
        return None
    if not isinstance(group, str) or not group:
        raise InvalidInput(f"group must be True, False or a metadata key such as 'film', got {group!r}")
    return group


def _encoded(searcher: Searcher, space: Space, asked: Asked) -> tuple[NDArray[np.float32], list[Kinds]]:
    """Unit vectors of the queries (m, dim) and their kinds; `near` counts as one more part of the one query."""
    if not asked.near:
        vectors = vectors_of(space, asked.queries)
        return vectors, [shares(kinds_of(query.parts)) for query in asked.queries]
    own, kinds = _of_items(searcher.view(), asked.near)
    parts = [part for query in asked.queries for part in query.parts]
    vectors = vectors_of(space, [Query([*parts, (own, 1.0)])])
    return vectors, [shares([*kinds_of(parts), *((kind, 1 / len(kinds)) for kind in kinds)])]


def _of_items(view: View, ids: Sequence[str]) -> tuple[NDArray[np.float32], list[str]]:
    """The mean direction of some items (of a long one: of its parts), and the modality of each."""
    import numpy as np

    known = view.version.known(ids)
    missing = [id_ for id_ in ids if id_ not in known]
    if missing:
        raise InvalidInput(f"no item of the index has the id {missing[0]!r}; index.rows() lists them")
    stored = view.take(sorted({number for numbers in known.values() for number in numbers}))
    means = [np.mean([stored[number].vector for number in known[id_]], axis=0) for id_ in ids]
    kinds = [stored[known[id_][0]].row.modality for id_ in ids]
    return np.asarray(np.mean(means, axis=0), np.float32), kinds
