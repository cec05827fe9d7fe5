"""Queries -> hits: what every search of an index goes through.

`Hits.method` tells how sure an answer is:

    exact        no other row is nearer
    sketch       nearly: of the nearest, half a percent at most is expected to be missing (see scan.py)
    approximate  LanceDB's own index chose the candidates; only after optimize(approximate=True), and without filter
    text         by words: every row that holds one of them was considered
    hybrid       by both, joined by rank, from the first FUSED places of each

Filters come first: if k rows meet them, k are found. Ties are broken by id, so that an answer depends neither on
chance nor on how the rows lie on disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from multimodal.index import rank
from multimodal.index.cache import Cache
from multimodal.index.lexicon import Lexicon
from multimodal.index.rank import Found
from multimodal.index.results import Hits
from multimodal.index.store import Store
from multimodal.index.version import Newest
from multimodal.index.view import Filter, Stale, View

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
FUSED = 128  # and at least twice the places asked for


@dataclass(frozen=True)
class Wanted:
    """What goes for all queries of one search. k hits from the place `offset` on; distinct: without what looks the
    same as a better hit."""

    k: int
    only: Filter
    offset: int = 0
    exact: bool = False
    distinct: bool = False

    @property
    def n(self) -> int:
        """Places asked for, from the first on."""
        return self.offset + self.k


class Searcher:
    """Searches one index, and keeps what it has read of it. May be used by several threads."""

    def __init__(self, store: Store) -> None:
        self._cache = Cache(store.path, Newest(store.path, store.about))
        self._lexicon = Lexicon()
        self._view: View | None = None
        self._lock = threading.Lock()

    def view(self, *, anew: bool = False) -> View:
        """What is in the index now. anew: nothing that was kept is used."""
        with self._lock:
            before = None if self._view is None else self._view.snapshot
            snapshot = self._cache.renewed(anew=True) if anew else self._cache.snapshot(before)
            if self._view is None or snapshot is not before:
                self._view = View(snapshot, self._lexicon)
            return self._view

    def prepare(self) -> None:
        """Does, in files, what the next search would have to do first."""
        self._cache.prepare()

    def run(self, search: Callable[[View], T]) -> T:
        """A search in what is there now; once more with everything read anew, if what was kept does not fit it."""
        try:
            return search(self.view())
        except Stale:
            return search(self.view(anew=True))


def by_vector(view: View, vectors: NDArray[np.float32], wanted: Wanted) -> list[Hits]:
    """The hits of each of the unit queries (m, dim)."""

    def find(n: int) -> list[tuple[list[Found], str]]:
        return view.nearest(vectors, n, wanted.only, exact=wanted.exact)

    return _paged(find, wanted)


def by_words(view: View, texts: Sequence[str], wanted: Wanted) -> list[Hits]:
    """The hits of each of some texts."""
    return _paged(lambda n: [(view.with_words(text, n, wanted.only), "text") for text in texts], wanted)


def by_both(view: View, vectors: NDArray[np.float32], texts: Sequence[str], wanted: Wanted) -> list[Hits]:
    """The hits of each query and the text that goes with it."""

    def find(n: int) -> list[tuple[list[Found], str]]:
        depth = max(FUSED, 2 * n)
        near = view.nearest(vectors, depth, wanted.only, exact=wanted.exact)
        return [
            (rank.fused(found, view.with_words(text, depth, wanted.only), vector), "hybrid")
            for vector, text, (found, _) in zip(vectors, texts, near, strict=True)
        ]

    return _paged(find, wanted)


def _paged(find: Callable[[int], list[tuple[list[Found], str]]], wanted: Wanted) -> list[Hits]:
    """The page that is wanted, of each query; of distinct hits, more are looked for until there are enough."""
    n = wanted.n
    while True:
        answers = find(n)
        if not wanted.distinct:
            break
        kept = [(rank.distinct(found), method) for found, method in answers]
        if all(
            len(few) >= wanted.n or len(found) < n for (few, _), (found, _) in zip(kept, answers, strict=True)
        ):
            answers = kept
            break
        n *= 4
    return [Hits([one.hit() for one in found[wanted.offset : wanted.n]], method) for found, method in answers]
