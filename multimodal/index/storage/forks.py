"""Refuses LanceDB in a process forked from one that used it: its threads are missing there, and it crashes or hangs."""

from __future__ import annotations

import os

from multimodal.core.errors import IndexStateError

_user: int | None = None  # the process that used LanceDB first


def check_process(path: object) -> None:
    """Raises IndexStateError in a process forked from one that used LanceDB. path: of the index, for the message."""
    if _user not in (None, os.getpid()):
        raise IndexStateError(
            f"the index at {str(path)!r} cannot be opened or written here: this process was forked from one that used "
            "an index before; start processes with the 'spawn' method (multiprocessing.get_context('spawn')), or fork "
            "before an index is opened"
        )


def note_use() -> None:
    """Remembers that this process uses LanceDB from now on."""
    global _user
    _user = _user or os.getpid()
