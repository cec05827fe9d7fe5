"""Which commit of a repository was really taken: a branch, or no revision at all, does not say it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_NOTED: ContextVar[dict[str, str] | None] = ContextVar("noted", default=None)


@contextlib.contextmanager
def commits() -> Iterator[dict[str, str]]:
    """Collects {repository: commit} of whatever is taken from a hub, or its cache, within. May be nested."""
    outer, own = _NOTED.get(), dict[str, str]()
    token = _NOTED.set(own)
    try:
        yield own
    finally:
        _NOTED.reset(token)
        if outer is not None:
            outer |= own


def note(repo: str, commit: str) -> None:
    """Tells whoever collects."""
    noted = _NOTED.get()
    if noted is not None:
        noted[repo] = commit
