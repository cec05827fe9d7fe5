"""Pipeline: a task as a callable. One in, one out; a list in, a list out; options by keyword; frozen results."""

from __future__ import annotations

import abc
import importlib
import os
import pkgutil
from typing import Any, ClassVar, Self

from multimodal.core.catalog import close_matches, load
from multimodal.core.errors import InvalidInput, UnknownTask
from multimodal.core.space import Space

PIPELINES_PACKAGE = "multimodal.pipelines"


class Pipeline(abc.ABC):
    """A task. A subclass in `pipelines/<noun>.py` sets `task`, takes a Space first, and defines `__call__`.

    Setting `task` is all it takes to be found by `multimodal.pipeline(task)`: there is no list to edit.
    """

    task: ClassVar[str]

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike[str] | Space, **options: Any) -> Self:
        """The pipeline on a model: anything `multimodal.load` takes, or a Space. Options are the pipeline's own."""
        return cls(as_space(model), **options)  # type: ignore[call-arg]

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the task: the one way to use a pipeline."""


def as_space(model: str | os.PathLike[str] | Space) -> Space:
    """A Space as it is, or loaded by name or folder."""
    return model if isinstance(model, Space) else load(model)


def one_or_many(inputs: Any) -> tuple[list[Any], bool]:
    """(the inputs as a list, whether one was given alone). Raises InvalidInput for an empty list.

    >>> one_or_many("a cat")
    (['a cat'], True)
    """
    if not isinstance(inputs, list | tuple):
        return [inputs], True
    if not inputs:
        raise InvalidInput("the list of inputs is empty; give at least one")
    return list(inputs), False


def pipeline(task: str, model: Any = "starter", **options: Any) -> Any:
    """The pipeline for a task, on a model: `pipeline("zero-shot-classification", model="starter")`.

    model: what the task's `from_pretrained` takes: a name, a folder or a Space; for retrieval an index. Options go
    to it too. Raises UnknownTask with close matches, UnknownModel.
    """
    classes = _pipelines()
    if task not in classes:
        hint = close_matches(task, classes)
        raise UnknownTask(
            f"no pipeline for the task {task!r}; {hint}known tasks: {', '.join(sorted(classes))}"
        )
    return classes[task].from_pretrained(model, **options)


def _pipelines() -> dict[str, type[Pipeline]]:
    """{task: class}, of every Pipeline defined in a module of `pipelines/`."""
    package = importlib.import_module(PIPELINES_PACKAGE)
    found: dict[str, type[Pipeline]] = {}
    for module in pkgutil.iter_modules(package.__path__, f"{PIPELINES_PACKAGE}."):
        name = f"{module.name}.pipeline" if module.ispkg else module.name
        for value in vars(importlib.import_module(name)).values():
            if isinstance(value, type) and issubclass(value, Pipeline) and value.__module__ == name:
                task = value.__dict__.get("task")
                if task is not None:
                    found[task] = value
    return found
