"""Keeps LanceDB's threads from fragmenting the heap (glibc).

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
ENVIRONMENT = "MALLOC_ARENA_MAX"  # glibc's own variable; a value set by the user is kept


@functools.cache
def limit_arenas() -> bool:
    """Limits the process to one arena, and returns whether it did. Must run before LanceDB starts its threads."""
    if not _has_glibc() or ENVIRONMENT in os.environ:
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
