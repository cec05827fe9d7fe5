"""Spreads one pass over many rows over threads. NumPy releases the interpreter's lock while it works on arrays."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def n_cores() -> int:
    """The processor cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def spread(work: Callable[[slice], T], n: int, *, threads: int, least: int, multiple: int = 1) -> list[T]:
    """The results of `work` for consecutive slices that cover n rows, in order; the calling thread does the first.

    Args:
        work: Called with each slice.
        n: The number of rows.
        threads: Slices at most.
        least: Rows from which a slice is worth a thread of its own.
        multiple: All slices begin at a multiple of this number of rows.
    """
    parts = max(1, min(threads, n // max(least, 1)))
    size = -(-n // (parts * multiple)) * multiple
    slices = [slice(start, min(start + size, n)) for start in range(0, n, size)] if n else [slice(0, 0)]
    others = [_pool(os.getpid()).submit(work, rows) for rows in slices[1:]]
    return [work(slices[0]), *(future.result() for future in others)]


@functools.cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads of a process; a forked one has its own."""
    return ThreadPoolExecutor(n_cores(), thread_name_prefix="multimodal-scan")
