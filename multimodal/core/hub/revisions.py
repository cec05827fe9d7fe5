"""Records which commit of each repository was loaded, since a branch or a missing revision does not say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

_collected: ContextVar[dict[str, str] | None] = ContextVar("collected_revisions", default=None)


@contextlib.contextmanager
def collect_revisions() -> Iterator[dict[str, str]]:
    """Collects {repository: commit} of everything that is loaded from a hub or its cache inside the block.

    Blocks may be nested; an outer block collects what an inner one does.
    """
    outer, own = _collected.get(), dict[str, str]()
    token = _collected.set(own)
    try:
        yield own
    finally:
        _collected.reset(token)
        if outer is not None:
            outer |= own


def record_revision(repo: str, commit: str) -> None:
    """Adds a commit to the innermost `collect_revisions` block, if there is one."""
    collected = _collected.get()
    if collected is not None:
        collected[repo] = commit
