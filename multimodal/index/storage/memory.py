"""Bounds what LanceDB's threads keep in memory.

A scan reads ahead into a buffer of 2 GB by default, so that it holds a whole table of less. 64 MB take no more time.

glibc gives each thread that allocates an arena of its own, up to eight for each core. LanceDB's threads free what
others allocated, so every arena keeps pages that are only partly in use, and the process grows with each merge and each
compaction. With one arena it does not. Other allocators (macOS, Windows, musl) lack the setting, and are left alone.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from typing import Any

M_ARENA_MAX = -8  # of glibc's malloc.h
# The own variables of glibc and Lance. Values set by the user are kept.
ARENAS, IO_BUFFER = "MALLOC_ARENA_MAX", "LANCE_DEFAULT_IO_BUFFER_SIZE"
IO_BUFFER_BYTES = 64 << 20


def limit_memory() -> None:
    """Sets both limits for this process. Must run before LanceDB is imported, which starts threads."""
    os.environ.setdefault(IO_BUFFER, str(IO_BUFFER_BYTES))
    limit_arenas()


@functools.cache
def limit_arenas() -> bool:
    """Limits the process to one arena, and returns whether it did."""
    if not _has_glibc() or ARENAS in os.environ:
        return False
    mallopt = _c_function("mallopt")
    return mallopt is not None and mallopt(M_ARENA_MAX, 1) == 1


def release_memory() -> None:
    """Returns freed memory to the system, where the C library has a function for it."""
    trim = _c_function("malloc_trim")
    if trim is not None:
        trim(0)


def _has_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # not defined by this system
        return False


def _c_function(name: str) -> Any:
    return None if sys.platform == "win32" else getattr(ctypes.CDLL(None), name, None)
