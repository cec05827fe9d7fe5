"""One version of an index, ready to be searched: which rows a filter leaves, and the nearest of them.

What scan.py proposes is compared again in double precision.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.index.search import ranking, vector_search
from multimodal.index.search.inverted_index import Lexicon, fitting
from multimodal.index.search.ranking import Found, Stored
from multimodal.index.search.vector_search import Near, Pool
from multimodal.index.search.words import Sought
from multimodal.index.storage.segment import Part
from multimodal.index.storage.segment_store import Snapshot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILTERS_KEPT = 8
APPROXIMATE = "approximate"
WORD_DECIMALS = 5  # BM25 is added up in single precision


@dataclass(frozen=True)
class Filter:
    """Only rows of these modalities, that meet a condition on metadata, and that are, or are a part of, one of the
    things `ids`; and none of the things `without`."""

    modalities: tuple[str, ...] | None = None
    condition: str | None = None
    ids: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()


class View:
    """May be used by several threads."""

    def __init__(self, snapshot: Snapshot, lexicon: Lexicon) -> None:
        self.snapshot, self._lexicon = snapshot, lexicon
        self.version = snapshot.version
        self._pools: dict[Filter, list[Pool]] = {}
        self._lock = threading.Lock()

    def pools(self, only: Filter) -> list[Pool]:
        """The rows that count, of each part."""
        with self._lock:
            if only not in self._pools:
                if len(self._pools) == FILTERS_KEPT:
                    self._pools.clear()
                self._pools[only] = list(map(Pool, self.snapshot.parts, self._masks(only)))
            return self._pools[only]

    def _masks(self, only: Filter) -> list[NDArray[np.bool_] | None]:
        import numpy as np

        masks, parts = list(self.snapshot.live), self.snapshot.parts
        if only.modalities is not None:
            kinds = [self.version.about.modalities.index(name) for name in only.modalities]
            masks = [_both(mask, np.isin(part.kinds, kinds)) for mask, part in zip(masks, parts, strict=True)]
        for numbers in self._numbers(only):
            masks = [_both(mask, part.mask(numbers)) for mask, part in zip(masks, parts, strict=True)]
        if only.without:
            numbers = self._with_ids(only.without)
            masks = [_both(mask, ~part.mask(numbers)) for mask, part in zip(masks, parts, strict=True)]
        return masks

    def _numbers(self, only: Filter) -> Iterator[NDArray[np.uint64]]:
        if only.condition is not None:
            yield self.version.numbers(only.condition)
        if only.ids is not None:
            yield self._with_ids(only.ids)

    def _with_ids(self, ids: Sequence[str]) -> NDArray[np.uint64]:
        import numpy as np

        return np.array([number for some in self.version.known(ids).values() for number in some], np.uint64)

    def nearest(
        self, vectors: NDArray[np.float32], n: int, only: Filter, *, exact: bool = False
    ) -> list[tuple[list[Found], str]]:
        """The n rows nearest to each of the unit queries (m, dim), the nearest first, and the method."""
        pools = self.pools(only)
        n = max(1, min(n, sum(one.n for one in pools)))
        if not exact and only == Filter() and self.version.is_approximate:
            found = [Near(*self.version.approximately(query, n), APPROXIMATE) for query in vectors]
        else:
            found = list(vector_search.nearest(pools, self.snapshot.filed.basis, vectors, n, exact=exact))
        pairs = zip(vectors, found, strict=True)
        return [(self._ranked(query, near.numbers, n), near.method) for query, near in pairs]

    def _ranked(self, query: NDArray[np.float32], numbers: NDArray[np.uint64], n: int) -> list[Found]:
        import numpy as np

        cosines = ranking.cosines(query, self._vectors(numbers))
        if len(numbers) > n:  # only rows that are answered are read, and those that may take their places
            first = cosines >= np.partition(cosines, -n)[-n]
            numbers, cosines = numbers[first], cosines[first]
        stored = self.take(numbers)
        return ranking.by_cosine([stored[number] for number in numbers.tolist()], cosines.tolist())[:n]

    def with_words(self, text: str, n: int, only: Filter) -> list[Found]:
        """The n rows that fit the words of a text best, the best first; fewer if fewer hold any.

        Raises InvalidInput if the text holds no word.
        """
        pools, sought = self.pools(only), Sought.of(text)
        found = fitting(pools, [self._lexicon.words(pool.part) for pool in pools], sought, n, self)
        stored = self.take([number for number, _ in found])
        return [Found(stored[number], None, round(score, WORD_DECIMALS)) for number, score in found]

    def prepare_words(self) -> None:
        """Does what the first search by words would have to do."""
        for part in self.snapshot.parts:
            self._lexicon.words(part)

    def take(self, numbers: NDArray[np.uint64] | Sequence[int]) -> dict[int, Stored]:
        """Rows of this version by number."""
        names, found = self.version.about.modalities, {}
        for part, place, number in self._found(numbers):
            row, content = part.records.row(place, names[part.kinds[place]])
            found[number] = Stored(row, part.vectors[place], content)
        return found

    def ids(self, numbers: Sequence[int]) -> dict[int, str]:
        """Those of rows of this version by number."""
        return {number: part.records.id(place) for part, place, number in self._found(numbers)}

    def _vectors(self, numbers: NDArray[np.uint64]) -> NDArray[np.float32]:
        """Of rows of this version by number, (n, dim)."""
        import numpy as np

        found = np.empty((len(numbers), self.version.about.dim), np.float32)
        for part in self.snapshot.parts:
            places = part.find(numbers)
            found[places >= 0] = part.vectors[places[places >= 0]]
        return found

    def _found(self, numbers: NDArray[np.uint64] | Sequence[int]) -> Iterator[tuple[Part, int, int]]:
        """In which part and at which place each of some rows stands, in no order."""
        import numpy as np

        wanted = np.asarray(numbers, np.uint64)
        for part in self.snapshot.parts:
            places = part.find(wanted)
            here = places >= 0
            for place, number in zip(places[here].tolist(), wanted[here].tolist(), strict=True):
                yield part, place, number


def _both(a: NDArray[np.bool_] | None, b: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return b if a is None else a & b
