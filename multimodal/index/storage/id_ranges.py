"""Looks ids up by ranges, which are faster than lists where ids are requested in their order.

A list of 1,000 ids takes 6 ms to parse, and 10 ms to find in a B-tree. A folder is walked in order, and most of its ids
are neighbours in the index too, or none of them is there: then a range selects nearly the same rows in 1 ms.

Where the order is another, what takes the time is to decode a page of each column for almost every id: 76 ms per 1,000
of a million rows, for 1,000 ids at a time. Of 16,000 ids, many share a page, and 1,000 take 17 ms (in `documents`, 84
and 21 ms).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from multimodal.index.storage.filters import between, is_in

WIDE = 4  # rows per id from which a list is faster
MAX_PAUSE = 1023  # lookups by lists, at most, before a range is tried again


class IdRanges:
    """Chooses between a range and a list for each lookup in one table.

    Counting a range that holds many rows costs 7 ms per million of them. After a range with too many rows, the next
    lookups use lists: one, then three, seven and so on, until a range suits again.
    """

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._paused = self._pause = 0

    @property
    def are_scattered(self) -> bool:
        """Whether the last range held too many rows, so that a long list is faster than several short ones."""
        return self._pause > 0

    def condition(self, column: str, ids: Sequence[str]) -> str | None:
        """A condition that selects the rows with these ids, which are sorted, and maybe some others between them.

        None if there is no such row.
        """
        if self._paused:
            self._paused -= 1
            return is_in(column, ids, "ids")
        in_range = between(column, ids[0], ids[-1])
        n_rows = self._count(in_range)
        if n_rows > WIDE * len(ids):
            self._paused = self._pause = min(2 * self._pause + 1, MAX_PAUSE)
            return is_in(column, ids, "ids")
        self._pause = 0
        return in_range if n_rows else None
