"""Keeps the package usable in a process made by `fork()`, as by gunicorn --preload or the workers of a DataLoader.

A child has none of its parent's threads. OpenMP still counts on them, so that the first parallel loop of torch would
wait for ever. With one thread torch runs its loops in the caller, as in the workers of torch's own DataLoader.
"""

from __future__ import annotations

import os
import sys

from multimodal.core.errors import EncoderError


def _use_one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_use_one_thread)


class ForkGuard:
    """Refuses an engine whose threads do not survive `fork()`, in any process but the one that made it."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def check(self, name: str) -> None:
        """Raises EncoderError in a forked process. name: of the model, for the message."""
        if os.getpid() != self._process:
            raise EncoderError(
                f"{name!r} was loaded before this process was forked, and its threads are missing here: load it in "
                "this process, or start processes with the 'spawn' method (multiprocessing.get_context('spawn'))"
            )
