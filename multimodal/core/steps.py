"""Steps of a long call: whoever runs it can stop it at each, and receives text as it is written.

A pipeline calls `step` wherever it could be stopped: after each token, window or denoising step. Without an observer
that does nothing. The observer belongs to the current thread or async task, so that one call cannot stop another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

Observer = Callable[[str | None], None]
"""Called with the text that the step added, or None. An exception that it raises ends the call."""

_observer: ContextVar[Observer | None] = ContextVar("multimodal_steps", default=None)


@contextlib.contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Calls the observer at each step of what runs inside the block, in this thread or async task.

    Args:
        observer: See `Observer`.
    """
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def is_observed() -> bool:
    """Whether anything observes the steps of this thread or async task."""
    return _observer.get() is not None


def step(text: str | None = None) -> None:
    """Reports a step to the observer, if there is one. Raises whatever it raises."""
    observer = _observer.get()
    if observer is not None:
        observer(text)
