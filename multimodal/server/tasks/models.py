"""The pipelines that a server runs, by the names that requests give, and their lanes.

A served model captions, transcribes and draws itself if it can, as the starter does. Others come from the settings
(`ServerConfig.task_models`), such as a Whisper for transcription.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from multimodal.core.adapters import split_options
from multimodal.core.catalog import close_matches
from multimodal.core.errors import CorruptSpace, InvalidInput, SpaceMismatch, UnknownModel
from multimodal.core.pipeline import pipeline
from multimodal.server.errors import ApiError
from multimodal.server.tasks.lane import Call, TaskLane

if TYPE_CHECKING:
    from multimodal.server.state import State

Task = Literal["captioning", "transcription", "generation"]
TASKS: tuple[Task, ...] = ("captioning", "transcription", "generation")
CAPACITY: Mapping[Task, int] = {
    "captioning": 64,
    "transcription": 16,
    "generation": 16,
}  # calls that may wait
OPTIONS: Mapping[Task, str] = {
    "captioning": "--caption-model", "transcription": "--transcription-model", "generation": "--generation-model",
}  # fmt: skip


class TaskModels:
    """The pipelines of one server."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._pipelines: dict[
            tuple[Task, str], Any
        ] = {}  # each is made and called in the lane of its task only
        self.lanes = {task: self._make_lane(task) for task in TASKS}

    def _make_lane(self, task: Task) -> TaskLane:
        # The lane asks for its own length; the gauge needs it before the lane exists.
        metrics = self._state.metrics.lane(task, lambda: len(lane))
        lane = TaskLane(task, CAPACITY[task], metrics, self._state.media_limits)
        return lane

    def names(self, task: Task) -> list[str]:
        """The names that requests may give, aliases included; the first is the default."""
        own = [*self._state.config.task_models.get(task, ()), *self._state.models]
        aliases = self._state.config.aliases
        return own + [alias for alias, name in aliases.items() if name in own]

    def resolve(self, task: Task, name: str | None) -> str:
        """The model of a request: itself, or what its alias stands for.

        Args:
            task: The task.
            name: What the request says; None for the default.

        Raises:
            ApiError: 404 with close matches.
        """
        known = self.names(task)
        if name is None:
            return known[0]
        target = self._state.config.aliases.get(name, name)
        if target not in known:
            raise ApiError(
                404,
                f"no model for {task} is called {name[:100]!r}; {close_matches(name[:100], known)}"
                f"served: {', '.join(known)}; start the server with {OPTIONS[task]} to add one",
                param="model", code="model_not_found",
            )  # fmt: skip
        return target

    def work(self, task: Task, name: str, use: Callable[[Any, Call], Any]) -> Callable[[Call], Any]:
        """The work of a call: it gets the pipeline, which is loaded on first use, and the call."""

        def work(call: Call) -> Any:
            return use(self._pipeline(task, name), call)

        return work

    def load(self) -> None:
        """Loads the models that the settings name, so that a wrong name shows when the server starts. Blocks."""
        for task, names in self._state.config.task_models.items():
            if task == "answering":  # has a pipeline for each index: see tasks/answers.py
                continue
            if task not in TASKS:
                raise InvalidInput(
                    f"task_models has {task!r}; the tasks are {', '.join(TASKS)} and answering"
                )
            for name in names:
                self.lanes[task].run_in_thread(self.work(task, name, lambda made, call: None))

    def close(self) -> None:
        """Stops all lanes."""
        for lane in self.lanes.values():
            lane.close()

    def _pipeline(self, task: Task, name: str) -> Any:
        made = self._pipelines.get((task, name))
        if made is None:
            made = self._pipelines[task, name] = self._load(task, name)
        return made

    def _load(self, task: Task, name: str) -> Any:
        state = self._state
        if name in state.config.task_models.get(task, ()):
            _, of_decoders = split_options(state.config.load_options)
            options = {key: value for key, value in of_decoders.items() if key != "engine"}
            return pipeline(task, model=name, **options)
        try:
            return pipeline(task, model=state.models[name].space)
        except (SpaceMismatch, CorruptSpace, UnknownModel) as error:
            raise ApiError(
                400,
                f"the model {name!r} cannot do {task}; name another model, or start the server with {OPTIONS[task]}",
                param="model", code="task_not_supported",
            ) from error  # fmt: skip


def task_models_of(state: State) -> TaskModels:
    """The pipelines of a server."""
    models = state.extras.get("task_models")
    if not isinstance(models, TaskModels):
        models = state.extras["task_models"] = TaskModels(state)
        state.on_close(models.close)
    return models
