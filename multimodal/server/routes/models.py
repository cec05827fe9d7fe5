"""The models that are served, as OpenAI and Ollama list them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from multimodal.server.endpoint import Endpoint, JsonResponse, state_of
from multimodal.server.spaces import describe
from multimodal.server.state import State
from multimodal.server.tasks.answers import PREFIX


def _about(state: State, name: str) -> dict[str, Any]:
    """A model, an alias, a model of a task or an index. Raises ApiError (404)."""
    about = {"id": name, "object": "model", "created": int(state.started), "owned_by": "multimodal"}
    target = state.config.aliases.get(name, name)
    tasks = [task for task, names in state.config.task_models.items() if target in names]
    if target not in state.models and (tasks or target.removeprefix(PREFIX) in state.indexes):
        return about | {"modalities": []} | ({"tasks": tasks} if tasks else {})
    return about | describe(state.model(name))


async def models(request: Request) -> Response:
    """All models and aliases, the models of tasks, and the indexes, which answer questions."""
    state = state_of(request)
    of_tasks = [name for names in state.config.task_models.values() for name in names]
    indexes = [f"{PREFIX}{name}" for name in state.indexes]
    names = dict.fromkeys([*state.models, *state.config.aliases, *of_tasks, *indexes])
    return JsonResponse({"object": "list", "data": [_about(state, name) for name in names]})


async def model(request: Request) -> Response:
    """One model."""
    return JsonResponse(_about(state_of(request), request.path_params["model_id"]))


ENDPOINTS = [
    Endpoint("/v1/models", models, ("GET",), "List the models.", tag="models"),
    Endpoint("/v1/models/{model_id:path}", model, ("GET",), "Describe a model.", tag="models"),
]
