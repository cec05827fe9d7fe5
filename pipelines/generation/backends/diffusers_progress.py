"""Progress reports and error translation while a diffusers pipeline runs."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from multimodal.core.errors import EncoderError, InvalidInput, MultimodalError
from multimodal.pipelines.generation.backends.diffusers_load import short
from multimodal.pipelines.generation.options import StepProgress

OVERFLOW = "invalid value encountered in cast"  # numpy's warning for an image with NaN


@contextlib.contextmanager
def report_progress(pipes: Iterable[Any], progress: StepProgress) -> Iterator[None]:
    """Replaces the progress bar of pipelines by a callback. All pipelines have a bar; their callbacks differ."""
    pipes = list(pipes)
    for pipe in pipes:
        vars(pipe)["progress_bar"] = functools.partial(_Bar, progress)
    try:
        yield
    finally:
        for pipe in pipes:
            vars(pipe).pop("progress_bar", None)


class _Bar:
    """The part of tqdm's interface that pipelines use: `for step in bar`, or `with bar: bar.update()`."""

    def __init__(self, progress: StepProgress, iterable: Any = None, total: int | None = None) -> None:
        self.progress, self.iterable = progress, iterable
        self.done, self.total = 0, len(iterable) if total is None else int(total)

    def __iter__(self) -> Iterator[Any]:
        for element in self.iterable:
            yield element
            self.update()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *about: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        self.done += count
        self.progress(self.done, self.total)

    def set_postfix(self, *values: object, **more: object) -> None:
        """Ignored: nothing is displayed."""

    close = set_description = set_postfix


@contextlib.contextmanager
def overflow_as_error(name: str) -> Iterator[None]:
    """Raises EncoderError for an image with NaN, which would be saved as black; numpy only warns in the cast."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=OVERFLOW)
        try:
            yield
        except RuntimeWarning as warning:
            raise overflow_error(name) from warning


@contextlib.contextmanager
def value_errors_as_invalid_input(name: str, progress: StepProgress) -> Iterator[StepProgress]:
    """Turns a ValueError of upstream about its arguments into InvalidInput. Yields the progress callback to pass on.

    After the first step, a ValueError may come from the caller's callback, and is not changed.
    """
    steps = 0

    def counted(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        progress(done, total)

    try:
        yield counted
    except MultimodalError:
        raise
    except ValueError as error:
        if steps:
            raise
        raise InvalidInput(f"{name!r} rejects its arguments: {short(error)}") from error


def overflow_error(name: str) -> EncoderError:
    return EncoderError(
        f"{name!r} made numbers that are not finite: give precision='float32' to from_pretrained, or another variant"
    )
