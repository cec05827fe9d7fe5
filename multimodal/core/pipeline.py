"""Pipeline: a task as a callable. One in, one out; a list in, a list out; options by keyword; frozen results.

A task is found in one of three places: the table in `multimodal.pipelines`, `register_pipeline`, or the entry-point
group `multimodal.pipelines` of an installed distribution:

    [project.entry-points."multimodal.pipelines"]
    counting = "my_package.counting:CountingPipeline"
"""

from __future__ import annotations

import abc
import functools
import importlib
import inspect
import os
import re
from importlib import metadata
from typing import Any, ClassVar, Self, cast

from multimodal.core.catalog import RUNTIME_OPTIONS, close_matches, load
from multimodal.core.errors import InvalidInput, UnknownTask
from multimodal.core.media.inputs import as_list
from multimodal.core.space import Space

PIPELINES_PACKAGE = "multimodal.pipelines"
ENTRY_POINTS = "multimodal.pipelines"
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PATH = re.compile(r"[\w.]+:\w+")
_registered: dict[str, type[Pipeline] | str] = {}


class Pipeline(abc.ABC):
    """A task on a model. A subclass sets `task`, takes a Space as its first argument, and defines `__call__`.

    `multimodal.pipeline(task)` finds a subclass by the table in `multimodal/pipelines/__init__.py`, by
    `register_pipeline`, or by an entry point.
    """

    task: ClassVar[str]
    _opened_from: tuple[Any, dict[str, Any]] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Records the arguments of `from_pretrained`, so that the pipeline pickles as what it was opened from."""
        super().__init_subclass__(**kwargs)
        if "from_pretrained" in cls.__dict__:
            cls.from_pretrained = _recording(cls.__dict__["from_pretrained"])  # type: ignore[method-assign]

    @classmethod
    def from_pretrained(cls, model: str | os.PathLike[str] | Space, **options: Any) -> Self:
        """Loads a model and returns the pipeline on it.

        Args:
            model: Anything `multimodal.load` takes, or a Space.
            **options: The pipeline's own.

        Returns:
            The pipeline, ready to call.
        """
        made = cls(as_space(model), **options)  # type: ignore[call-arg]
        made._opened_from = (model, options)
        return made

    @classmethod
    def _open_adapted(cls, model: Any, adapter: Any, options: dict[str, Any]) -> Self:
        """As `from_pretrained`, with adapters on the encoders of the model's space."""
        if isinstance(model, Space):
            from multimodal.core.adapters import apply_adapters

            return cls.from_pretrained(apply_adapters(model, adapter), **options)
        how = {name: value for name, value in options.items() if name in RUNTIME_OPTIONS}
        others = {name: value for name, value in options.items() if name not in RUNTIME_OPTIONS}
        return cls.from_pretrained(load(model, adapter=adapter, **how), **others)

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the task: the one way to use a pipeline."""

    def to(self, device: str) -> Self:
        """Moves the model to a device, in place. A pipeline that holds no Space is opened again on that device.

        Args:
            device: As torch names it ("cpu", "cuda:1"), or "auto" for the accelerator if there is one.

        Returns:
            The pipeline itself.

        Raises:
            InvalidInput: For a device torch does not know or see, or a pipeline that holds no Space and was not
                opened with `from_pretrained`; otherwise as `Space.to`.
        """
        spaces = [value for value in vars(self).values() if isinstance(value, Space)]
        for space in spaces:
            space.to(device)
        if spaces:
            return self
        if self._opened_from is None:
            raise InvalidInput(
                f"this {type(self).__name__} cannot be moved: it was built from objects in memory; open it with "
                f"multimodal.pipeline({self.task!r}, model=…, device={device!r})"
            )
        model, options = self._opened_from
        if isinstance(model, Space):
            model.to(device)
        else:
            options = options | {"device": device}
        vars(self).update(vars(_reopened(type(self), model, options)))
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as the arguments of `from_pretrained`, not as its weights."""
        if self._opened_from is None:
            raise InvalidInput(
                f"this {type(self).__name__} cannot be pickled: it was built from objects in memory; open it with "
                f"multimodal.pipeline({self.task!r}, model=…) or from_pretrained"
            )
        model, options = self._opened_from
        return _reopened, (type(self), model, options)


def _recording(method: Any) -> Any:
    """The classmethod `from_pretrained` of a subclass, recording its arguments on the pipeline that it returns."""
    original = method.__func__
    parameters = inspect.signature(original).parameters
    default = next((p.default for p in list(parameters.values())[1:2]), inspect.Parameter.empty)

    @functools.wraps(original)
    def from_pretrained(cls: type[Pipeline], *args: Any, **options: Any) -> Pipeline:
        made: Pipeline = original(cls, *args, **options)
        given = dict(options)
        model = args[0] if args else given.pop("model", default)
        made._opened_from = (model, given)
        return made

    return classmethod(from_pretrained)


def _reopened(cls: type[Pipeline], model: Any, options: dict[str, Any]) -> Pipeline:
    adapter = options.get("adapter")
    if adapter is None:
        return cls.from_pretrained(model, **options)
    from multimodal.core.adapters import absolute_folders, decoders, split

    others = {name: value for name, value in options.items() if name != "adapter"}
    of_space, of_decoder = split(adapter)
    made = (
        cls.from_pretrained(model, **others)
        if of_space is None
        else cls._open_adapted(model, of_space, others)
    )
    if of_decoder:
        made = decoders.with_adapters(made, of_decoder)
    made._opened_from = (model, others | {"adapter": absolute_folders(adapter)})
    return made


def as_space(model: str | os.PathLike[str] | Space) -> Space:
    """A Space as it is, or loaded by name or folder."""
    return model if isinstance(model, Space) else load(model)


def one_or_many(inputs: Any) -> tuple[list[Any], bool]:
    """Inputs as a list, and whether a single one was given; see `inputs.as_list` for what a list is.

    Raises InvalidInput for an empty list, a table or a set.

    >>> one_or_many("a cat")
    (['a cat'], True)
    """
    listed = as_list(inputs)
    if listed is None:
        return [inputs], True
    if not listed:
        raise InvalidInput("the list of inputs is empty; give at least one")
    return listed, False


def pipeline(task: str, model: Any = "starter", *, adapter: Any = None, **options: Any) -> Any:
    """Loads the pipeline of a task: `pipeline("zero-shot-classification", model="starter")`.

    Args:
        task: "answering", "captioning", "generation", "transcription", "zero-shot-classification", "retrieval",
            "feature-extraction", a registered task, or the Hub's name of one of these, as
            "automatic-speech-recognition".
        model: What the task's `from_pretrained` takes: a name, a folder or a Space; for retrieval an index.
        adapter: The folder of an adapter that `adapt.finetune` wrote for the model's space, or for its decoder; a list
            of such; or `{modality: folder}`, as of `load`. For an index, of its space.
        **options: Passed to `from_pretrained`.

    Returns:
        The pipeline, ready to call.

    Raises:
        UnknownTask: If no pipeline performs the task; the message offers close matches.
        UnknownModel: If there is no such model.
        SpaceMismatch: If an adapter was trained on another model.
    """
    return _reopened(
        _pipeline_class(task), model, options | ({} if adapter is None else {"adapter": adapter})
    )


def register_pipeline(task: str, pipeline_class: type[Pipeline] | str) -> None:
    """Makes a pipeline available as `multimodal.pipeline(task)`.

    The registration lasts for the current process. Registering the same class again does nothing. To have a task
    found in every process, declare it in the entry-point group `multimodal.pipelines` instead.

    Args:
        task: Lowercase letters, digits and hyphens, as "object-counting".
        pipeline_class: A subclass of Pipeline, or "module:Class", imported on first use.

    Raises:
        InvalidInput: If the name is invalid or taken, or the class is no Pipeline.
    """
    if not _NAME.fullmatch(str(task)):
        raise InvalidInput(
            f"a task is lowercase letters, digits and hyphens, as 'object-counting'; got {task!r}"
        )
    if isinstance(pipeline_class, str):
        if not _PATH.fullmatch(pipeline_class):
            raise InvalidInput(f"a pipeline by its path is 'module:Class', got {pipeline_class!r}")
    elif not _is_pipeline(pipeline_class):
        raise InvalidInput(
            f"register_pipeline takes a subclass of multimodal.Pipeline or 'module:Class', got {pipeline_class!r}"
        )
    table, aliases = _built_in()
    if task in table or task in aliases:
        raise InvalidInput(f"the task {task!r} is taken by multimodal itself; choose another name")
    known = _registered.get(task) or _entry_points().get(task)
    if known is not None and _path(known) != _path(pipeline_class):
        raise InvalidInput(f"the task {task!r} is taken by {_path(known)!r}; choose another name")
    _registered[task] = pipeline_class


def unregister_pipeline(task: str) -> None:
    """Undoes `register_pipeline`. Does nothing for a task that is not registered."""
    _registered.pop(task, None)


def _pipeline_class(task: str) -> type[Pipeline]:
    table, aliases = _built_in()
    classes: dict[str, type[Pipeline] | str] = {**_entry_points(), **_registered, **table}
    target = classes.get(aliases.get(task, task))
    if target is None:
        hint = close_matches(task, [*classes, *aliases])
        raise UnknownTask(
            f"no pipeline for the task {task!r}; {hint}known tasks: {', '.join(sorted(classes))}"
        )
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    pipeline_class = getattr(importlib.import_module(module), name, None)
    if not _is_pipeline(pipeline_class):
        raise InvalidInput(
            f"the task {task!r} is registered as {target!r}, which is no subclass of multimodal.Pipeline"
        )
    return cast("type[Pipeline]", pipeline_class)


def _is_pipeline(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Pipeline)


def _built_in() -> tuple[dict[str, str], dict[str, str]]:
    """The tables of tasks and of their aliases."""
    package = importlib.import_module(PIPELINES_PACKAGE)
    return package.TASKS, package.ALIASES


@functools.cache
def _entry_points() -> dict[str, str]:
    entry_points = metadata.entry_points(group=ENTRY_POINTS)
    return {point.name: point.value for point in entry_points if _NAME.fullmatch(point.name)}


def _path(target: type[Pipeline] | str) -> str:
    return target if isinstance(target, str) else f"{target.__module__}:{target.__qualname__}"
