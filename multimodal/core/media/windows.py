"""What is too long for a model, cut into windows of one length. Fixed by the length alone, so a vector never changes
from call to call, as it does where a library cuts at random."""

from __future__ import annotations


def windows(n: int, length: int) -> list[tuple[int, int]]:
    """(start, stop) of the fewest windows of `length` that cover n samples, frames or tokens.

    The first begins at 0, the last ends at n, the others lie at equal distances (rounded down) and so overlap evenly.
    One of n if n is no longer than `length`.

    >>> windows(25, 10)
    [(0, 10), (7, 17), (15, 25)]
    """
    if n <= length:
        return [(0, n)]
    count = -(-n // length)
    starts = [(n - length) * k // (count - 1) for k in range(count)]
    return [(start, start + length) for start in starts]
