"""Embeddings as Ollama asks for them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from multimodal import __version__
from multimodal.server.endpoint import (
    Endpoint,
    JsonResponse,
    RequestModel,
    read_json,
    state_of,
    while_connected,
)
from multimodal.server.inputs import check_inputs, count_tokens
from multimodal.server.routes.embeddings import check_dimensions, cut
from multimodal.server.spaces import ServedSpace


class OllamaEmbedRequest(RequestModel):
    """Texts to embed."""

    model: str | None = None
    input: str | list[str] = Field(description="A text, or a list of texts.")
    dimensions: int | None = None


class OllamaPromptRequest(RequestModel):
    """One text to embed."""

    model: str | None = None
    prompt: str


async def embed(request: Request) -> Response:
    """Vectors of texts."""
    start = time.perf_counter_ns()
    state = state_of(request)
    body = await read_json(request, OllamaEmbedRequest)
    model = state.model(body.model)
    check_dimensions(model, body.dimensions, "dimensions")
    checked = await check_inputs(state, [body.input] if isinstance(body.input, str) else body.input, "input")
    rows = await while_connected(request, model.encode(checked, "document", lambda place: f"input[{place}]"))
    return JsonResponse(
        {
            "model": body.model or model.name,
            "embeddings": list(cut(rows, body.dimensions)),
            "total_duration": time.perf_counter_ns() - start,
            "load_duration": 0,
            "prompt_eval_count": count_tokens(checked),
        }
    )


async def embeddings(request: Request) -> Response:
    """The vector of one text."""
    state = state_of(request)
    body = await read_json(request, OllamaPromptRequest)
    checked = await check_inputs(state, [body.prompt], "prompt", names=["prompt"])
    rows = await while_connected(
        request, state.model(body.model).encode(checked, "document", lambda place: "prompt")
    )
    return JsonResponse({"embedding": rows[0]})


async def tags(request: Request) -> Response:
    """The models that are served."""
    state = state_of(request)
    started = datetime.fromtimestamp(state.started, UTC).isoformat()
    return JsonResponse({"models": [_tag(name, model, started) for name, model in state.models.items()]})


def _tag(name: str, model: ServedSpace, started: str) -> dict[str, Any]:
    details = {"format": "multimodal", "family": name.partition("/")[0], "families": None, "parameter_size": "",
               "quantization_level": ""}  # fmt: skip
    return {"name": f"{name}:latest", "model": f"{name}:latest", "modified_at": started, "size": 0,
            "digest": model.fingerprint, "details": details}  # fmt: skip


async def version(request: Request) -> Response:
    """The version of this server."""
    return JsonResponse({"version": __version__})


ENDPOINTS = [
    Endpoint(
        "/api/embed", embed, summary="Embed texts (Ollama).", request=OllamaEmbedRequest, tag="embeddings"
    ),
    Endpoint(
        "/api/embeddings",
        embeddings,
        summary="Embed one text (Ollama).",
        request=OllamaPromptRequest,
        tag="embeddings",
    ),
    Endpoint("/api/tags", tags, ("GET",), "List the models (Ollama).", tag="models"),
    Endpoint("/api/version", version, ("GET",), "The version (Ollama).", tag="models"),
]
