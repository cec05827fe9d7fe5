"""What goes on while a pipeline of diffusers runs: its progress as ours, and numbers that are none as an error."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from multimodal.core.errors import EncoderError, InvalidInput, MultimodalError
from multimodal.pipelines.generation.backends.diffusers_load import short
from multimodal.pipelines.generation.options import StepProgress

OVERFLOW = "invalid value encountered in cast"  # what numpy says of a picture that is not numbers


@contextlib.contextmanager
def report_progress(pipes: Iterable[Any], progress: StepProgress) -> Iterator[None]:
    """Upstream's own bar of progress calls ours instead. Every pipeline has one, and few have the same callbacks."""
    pipes = list(pipes)
    for pipe in pipes:
        vars(pipe)["progress_bar"] = functools.partial(_Bar, progress)
    try:
        yield
    finally:
        for pipe in pipes:
            vars(pipe).pop("progress_bar", None)


class _Bar:
    """As much of tqdm as pipelines use: `for step in bar`, or `with bar: bar.update()`."""

    def __init__(self, progress: StepProgress, iterable: Any = None, total: int | None = None) -> None:
        self.progress, self.iterable = progress, iterable
        self.done, self.total = 0, len(iterable) if total is None else int(total)

    def __iter__(self) -> Iterator[Any]:
        for one in self.iterable:
            yield one
            self.update()

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *about: object) -> None:
        pass

    def update(self, count: int = 1) -> None:
        self.done += count
        self.progress(self.done, self.total)

    def set_postfix(self, *values: object, **more: object) -> None:
        """Shown by nobody."""

    close = set_description = set_postfix


@contextlib.contextmanager
def overflow_as_error(name: str) -> Iterator[None]:
    """A picture of NaN is an error, not black: numpy warns where it is made into bytes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=OVERFLOW)
        try:
            yield
        except RuntimeWarning as warning:
            raise overflow_error(name) from warning


@contextlib.contextmanager
def value_errors_as_invalid_input(name: str, progress: StepProgress) -> Iterator[StepProgress]:
    """What upstream finds wrong with its arguments, as ours; yields the progress to hand on. Once a step is made, an
    error may be the caller's own out of `progress`, and is left alone."""
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
        raise InvalidInput(f"{name!r} refuses this: {short(error)}") from error


def overflow_error(name: str) -> EncoderError:
    return EncoderError(
        f"{name!r} made numbers that are not finite: give precision='float32' to from_pretrained, or another variant"
    )
