"""Windows of one length over an input that is too long for a model. They depend on the length alone, so that vectors
are reproducible; libraries that crop at random give another vector at every call."""

from __future__ import annotations


def windows(n: int, length: int) -> list[tuple[int, int]]:
    """The fewest windows of `length` that cover n samples, frames or tokens.

    Returns:
        (start, stop) of each. The first starts at 0, the last stops at n, and the others are spaced evenly (rounded
        down), so that they overlap evenly. A single (0, n) if n is at most `length`.

    >>> windows(25, 10)
    [(0, 10), (7, 17), (15, 25)]
    """
    if n <= length:
        return [(0, n)]
    count = -(-n // length)
    starts = [(n - length) * k // (count - 1) for k in range(count)]
    return [(start, start + length) for start in starts]


def equal_windows(n: int, max_length: int) -> list[tuple[int, int]]:
    """The fewest spans (start, stop) of at most `max_length` that split n samples or tokens, without overlap.

    >>> equal_windows(25, 10)
    [(0, 8), (8, 16), (16, 25)]
    """
    count = max(1, -(-n // max_length))
    return [(n * k // count, n * (k + 1) // count) for k in range(count)]
