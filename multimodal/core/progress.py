"""Progress of a long call: bars on standard error for `progress=True`, and steps at which it can be stopped.

A pipeline calls `step` wherever it could be stopped: after each token, window or denoising step. Without an observer
that does nothing. The observer belongs to the current thread or async task, so that one call cannot stop another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from multimodal.core.errors import InvalidInput

UpdateBar = Callable[[float], None]
Observer = Callable[[str | None], None]
"""Called with the text that the step added, or None. An exception that it raises ends the call."""

_observer: ContextVar[Observer | None] = ContextVar("multimodal_steps", default=None)


@contextlib.contextmanager
def progress_bar(description: str, total: int) -> Iterator[UpdateBar]:
    """Shows a bar while the block runs.

    Args:
        description: What is being done, shown before the bar.
        total: The number of items.

    Yields:
        A function to call with the number of items done so far; fractions are allowed.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total)
        yield lambda completed: bar.update(task, completed=completed)


def check_progress(progress: object) -> None:
    """Raises InvalidInput unless `progress` is a bool, a callable or None."""
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise InvalidInput(f"progress must be True, False or a function to call, got {progress!r}")


@contextlib.contextmanager
def count_progress(
    progress: bool | Callable[[int], object] | None, description: str, total: int
) -> Iterator[Callable[[int], None]]:
    """The function to call with the number of items just finished, for each kind of `progress`.

    Args:
        progress: True for a bar, a function to call with each count, False or None for nothing.
        description: Shown before the bar.
        total: The number of items.

    Raises:
        InvalidInput: `progress` is none of these.
    """
    check_progress(progress)
    if callable(progress):

        def call(count: int) -> None:
            progress(count)

        yield call
    elif progress:
        with progress_bar(description, total) as update:
            done = 0

            def add(count: int) -> None:
                nonlocal done
                done += count
                update(done)

            yield add
    else:
        yield lambda count: None


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
