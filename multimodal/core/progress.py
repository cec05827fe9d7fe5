"""Progress bars on standard error, for `progress=True`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from multimodal.core.errors import InvalidInput

UpdateBar = Callable[[float], None]


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
