"""The models that are served, as OpenAI and Ollama list them."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from multimodal.server.endpoint import Endpoint, JsonResponse, state_of
from multimodal.server.spaces import ServedSpace, describe
from multimodal.server.state import State
from multimodal.server.tasks.answers import PREFIX


def _model(state: State, name: str, model: ServedSpace) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(state.started),
        "owned_by": "multimodal",
    } | describe(model)


def _index(state: State, name: str) -> dict[str, Any]:
    """An index as a model that answers questions."""
    about = {"object": "model", "created": int(state.started), "owned_by": "multimodal", "modalities": []}
    return {"id": f"{PREFIX}{name}"} | about


async def models(request: Request) -> Response:
    """All models and aliases."""
    state = state_of(request)
    names = [*state.models, *state.config.aliases]
    listed = [_model(state, name, state.model(name)) for name in names]
    return JsonResponse({"object": "list", "data": listed + [_index(state, name) for name in state.indexes]})


async def model(request: Request) -> Response:
    """One model."""
    state = state_of(request)
    name = request.path_params["model_id"]
    return JsonResponse(_model(state, name, state.model(name)))


ENDPOINTS = [
    Endpoint("/v1/models", models, ("GET",), "List the models.", tag="models"),
    Endpoint("/v1/models/{model_id:path}", model, ("GET",), "Describe a model.", tag="models"),
]
