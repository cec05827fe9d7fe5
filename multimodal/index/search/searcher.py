"""Queries -> hits: what every search of an index goes through.

`Hits.method` tells how sure an answer is:

    exact        no other row is nearer
    sketch       nearly: of the nearest, half a percent at most is expected to be missing (see scan.py)
    approximate  LanceDB's own index chose the candidates; only after optimize(approximate=True), and without filter
                 or calibration over several modalities, for which each is searched on its own
    text         by words: every row that holds one of them was considered
    hybrid       by both, joined by rank, from the first FUSED places of each

Over several modalities, vectors are put in order by probability (calibrated.py), or else by cosine.

Filters come first: if k rows meet them, k are found. Ties are broken by id, so that an answer depends neither on
chance nor on how the rows lie on disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.core.errors import InvalidInput
from multimodal.index.results import Hits
from multimodal.index.search import calibration, ranking
from multimodal.index.search.calibration import Answer, Ways
from multimodal.index.search.inverted_index import Lexicon
from multimodal.index.search.query import Kinds
from multimodal.index.search.ranking import Found
from multimodal.index.search.reference_sample import Backgrounds
from multimodal.index.search.view import Filter, View
from multimodal.index.storage.segment_store import Cache
from multimodal.index.storage.snapshot import Newest
from multimodal.index.storage.table import Store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# n rows -> so many nearest ones of each query, and how each reads its cosines
Near = Callable[[int], tuple[list[Answer], Sequence["Ways | None"]]]
FUSED = 128  # and at least twice the places asked for


@dataclass(frozen=True)
class Wanted:
    """What goes for all queries of one search. k hits from the place `offset` on; distinct: without what looks the
    same as a better hit. calibrated: by probability rather than cosine; least: without what is less probable than
    that. grouped: the best of each long thing, or of each value of the metadata key `group`."""

    k: int
    only: Filter
    offset: int = 0
    exact: bool = False
    distinct: bool = False
    calibrated: bool = True
    least: float | None = None
    grouped: bool = False
    group: str | None = None

    @property
    def n(self) -> int:
        """Places asked for, from the first on."""
        return self.offset + self.k

    def thinned(self, found: Sequence[Found]) -> list[Found]:
        """Without what is the same as a better one."""
        kept = ranking.distinct(found) if self.distinct else list(found)
        return ranking.grouped(kept, self.group) if self.grouped else kept

    def page(self, found: Sequence[Found], method: str, note: str) -> Hits:
        """The hits that are wanted, out of all that were found."""
        kept = [one for one in found if self.least is None or (one.probability or 0.0) >= self.least]
        return Hits([one.hit() for one in kept[self.offset : self.n]], method, note)


class Searcher:
    """Searches one index, and keeps what it has read of it. May be used by several threads."""

    def __init__(self, store: Store) -> None:
        self._path = store.path
        self._cache = Cache(store.path, Newest(store.path, store.about))
        self._backgrounds = Backgrounds(store.path, store.about.fingerprint)
        self._lexicon = Lexicon()
        self._view: View | None = None
        self._lock = threading.Lock()

    def view(self) -> View:
        """What is in the index now. Raises IndexStateError."""
        with self._lock:
            before = None if self._view is None else self._view.snapshot
            snapshot = self._cache.snapshot(before)
            if self._view is None or snapshot is not before:
                self._view = View(snapshot, self._lexicon)
            return self._view

    def prepare(self) -> None:
        """Does, in files, what the next search would have to do first."""
        self._cache.prepare()

    def by_vector(self, vectors: NDArray[np.float32], kinds: Sequence[Kinds], wanted: Wanted) -> list[Hits]:
        """The hits of each of the unit queries (m, dim), of these kinds."""
        view = self.view()
        near = self._near(view, vectors, kinds, wanted)
        return _paged(lambda n: near(n)[0], wanted, _note(view, wanted))

    def by_words(self, texts: Sequence[str], wanted: Wanted) -> list[Hits]:
        """The hits of each of some texts."""
        view = self.view()
        return _paged(lambda n: [(view.with_words(one, n, wanted.only), "text") for one in texts], wanted)

    def by_both(
        self, vectors: NDArray[np.float32], kinds: Sequence[Kinds], texts: Sequence[str], wanted: Wanted
    ) -> list[Hits]:
        """The hits of each query and the text that goes with it."""
        view = self.view()
        near = self._near(view, vectors, kinds, wanted)

        def find(n: int) -> list[Answer]:
            depth = max(FUSED, 2 * n)
            answers, ways = near(depth)
            found = []
            for vector, text, (close, _), way in zip(vectors, texts, answers, ways, strict=True):
                both = ranking.fused(close, view.with_words(text, depth, wanted.only), vector)
                found.append((both if way is None else way.told(both), "hybrid"))
            return found

        return _paged(find, wanted, _note(view, wanted))

    def _near(self, view: View, vectors: NDArray[np.float32], kinds: Sequence[Kinds], wanted: Wanted) -> Near:
        if wanted.calibrated and calibration.too_small(view, wanted.only) is None:
            return lambda n: calibration.nearest(
                view, self._backgrounds, vectors, kinds, n, wanted.only, exact=wanted.exact
            )
        return lambda n: (view.nearest(vectors, n, wanted.only, exact=wanted.exact), [None] * len(vectors))


def _note(view: View, wanted: Wanted) -> str:
    """Why hits are not calibrated, though they were to be. Raises InvalidInput if they must be."""
    reason = calibration.too_small(view, wanted.only) if wanted.calibrated else None
    if reason is None:
        return ""
    if wanted.least is not None:
        raise InvalidInput(
            f"min_probability={wanted.least:g} cannot be judged: {reason}; leave it out, or add more"
        )
    if not calibration.is_mixed(view, wanted.only):
        return ""  # of one modality, the order by cosine is right
    return f"not calibrated, ordered by cosine: {reason}"


def _paged(find: Callable[[int], list[Answer]], wanted: Wanted, note: str = "") -> list[Hits]:
    """The page that is wanted, of each query; where some are left out, more are looked for until there are enough."""
    n = wanted.n
    while True:
        answers = find(n)
        kept = [(wanted.thinned(found), method) for found, method in answers]
        if all(
            len(few) >= wanted.n or len(found) < n for (few, _), (found, _) in zip(kept, answers, strict=True)
        ):
            return [wanted.page(found, method, note) for found, method in kept]
        n *= 4
