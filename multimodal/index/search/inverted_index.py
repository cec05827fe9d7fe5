"""Search by words: the words of each part, kept with it, and the rows that fit some words best."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.index.search import words
from multimodal.index.search.vector_search import Pool
from multimodal.index.search.words import Sought, Words
from multimodal.index.storage.segment import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.index.search.view import View

FOLDER = "words"  # in that of the part
CHECKED = 256  # rows that are read at a time to see whether a phrase is in them


class Lexicon:
    """Makes the words of parts when they are first asked for. May be used by several threads."""

    def __init__(self) -> None:
        self._known: weakref.WeakKeyDictionary[Part, Words] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()

    def words(self, part: Part) -> Words:
        with self._lock:
            if part not in self._known:
                self._known[part] = _read(part) or _kept(part, Words.of(_texts(part), len(part)))
            return self._known[part]


def _texts(part: Part) -> Iterator[tuple[NDArray[np.intp], list[str]]]:
    """The texts of a part, and the places in it at which they stand."""
    import numpy as np

    place = 0
    for rows in part.records.rows():
        yield np.arange(place, place + len(rows)), list(map(words.text_of, rows))
        place += len(rows)


def _read(part: Part) -> Words | None:
    if part.folder is None:
        return None
    try:
        return Words.read(part.folder / FOLDER)
    except (OSError, EOFError, ValueError):
        return None


def _kept(part: Part, made: Words) -> Words:
    """Written down beside the part, if that can be done; it is as good in memory."""
    if part.folder is None:
        return made
    new = None
    try:
        new = Path(tempfile.mkdtemp(prefix="words-", dir=part.folder))
        new.chmod(0o755)
        made.write(new)
        new.rename(part.folder / FOLDER)  # fails if another process was quicker, and is as good then
    except OSError:
        if new is not None:
            shutil.rmtree(new, ignore_errors=True)
    return made


def fitting(
    pools: Sequence[Pool], parts: Sequence[Words], sought: Sought, n: int, view: View
) -> list[tuple[int, float]]:
    """The n rows that fit best, by number, with their scores; the best first, equal ones by id."""
    import numpy as np

    numbers, scores = [np.empty(0, np.uint64)], [np.empty(0, np.float32)]
    for pool, part, found in zip(pools, parts, words.scores(parts, sought.words), strict=True):
        if pool.mask is not None:
            found[~pool.mask] = 0
        for phrase in sought.phrases:
            found[~words.holding_all(part, phrase)] = 0
        places = np.flatnonzero(found)
        numbers.append(pool.part.numbers[places])
        scores.append(found[places])
    all_scores = np.concatenate(scores)
    order = np.argsort(-all_scores, kind="stable")
    pairs = zip(np.concatenate(numbers)[order].tolist(), all_scores[order].tolist(), strict=True)
    first = list(_upto_equals(_met(pairs, sought, view) if sought.phrases else pairs, n))
    ids = view.ids([number for number, _ in first]) if len(first) > 1 else {}
    return sorted(first, key=lambda pair: (-pair[1], ids.get(pair[0], "")))[:n]


def _upto_equals(pairs: Iterable[tuple[int, float]], n: int) -> Iterator[tuple[int, float]]:
    """The first n of pairs in falling order, and those that equal the n-th."""
    last = None
    for place, pair in enumerate(pairs, 1):
        if last is not None and pair[1] < last:
            return
        yield pair
        if place == n:
            last = pair[1]


def _met(pairs: Iterable[tuple[int, float]], sought: Sought, view: View) -> Iterator[tuple[int, float]]:
    """Those whose rows hold the phrases; read only as far as they are asked for."""
    pairs = iter(pairs)
    while some := list(itertools.islice(pairs, CHECKED)):
        rows = view.take([number for number, _ in some])
        yield from (pair for pair in some if sought.met_by(rows[pair[0]].row))
