"""Embeddings as OpenAI, Infinity, Jina, vLLM and Voyage ask for them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from multimodal.core.modality import Modality
from multimodal.server.endpoint import (
    Endpoint,
    JsonResponse,
    RequestModel,
    read_json,
    state_of,
    while_connected,
)
from multimodal.server.errors import invalid
from multimodal.server.inputs import (
    check_inputs,
    content_parts,
    count_pixels,
    count_tokens,
    encode_fused,
    refuse_tokens,
)
from multimodal.server.spaces import Role, ServedSpace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

QUERY_TYPES = {"query", "search_query", "retrieval.query"}
Encoding = Literal["float", "base64"]
INPUT = (
    "A text, a list of texts, or a list of {text}, {image}, {audio} or {video} objects, mixed as you like. Media are "
    "data URIs, base64, or URLs of allowed hosts. With `modality`, strings are media."
)


class EmbeddingsRequest(RequestModel):
    """What to embed, and how to write the vectors."""

    input: JsonValue = Field(default=None, description=INPUT)
    messages: list[dict[str, JsonValue]] | None = Field(
        default=None, description="Instead of `input`: chat messages, whose parts become one vector."
    )
    model: str | None = None
    modality: Modality | None = None
    encoding_format: Encoding = "float"
    dimensions: int | None = Field(
        default=None,
        description="The length of the vectors: the model's own, or a shorter one if its card has `matryoshka`.",
    )
    output_dimension: int | None = Field(default=None, description="Another name of dimensions.")
    input_type: str | None = Field(default=None, description='"query" where the model tells queries apart.')
    task: str | None = Field(default=None, description="Another name of input_type.")


class MultimodalRequest(RequestModel):
    """Inputs of several parts each, as Voyage has them."""

    inputs: list[dict[str, JsonValue]]
    model: str | None = None
    input_type: str | None = None
    output_dimension: int | None = None
    encoding_format: Encoding | None = None
    output_encoding: Encoding | None = Field(default=None, description="Another name of encoding_format.")


async def embeddings(request: Request) -> Response:
    """Vectors of texts, images, audio and video in one space."""
    state = state_of(request)
    body = await read_json(request, EmbeddingsRequest)
    model = state.model(body.model)
    check_dimensions(model, body.dimensions, "dimensions")
    check_dimensions(model, body.output_dimension, "output_dimension")
    role = role_of(body.input_type or body.task)
    if body.messages is not None:
        parts = [
            part
            for place, message in enumerate(body.messages)
            for part in content_parts(message.get("content"), f"messages[{place}].content")
        ]
        work = encode_fused(state, model, [parts], "messages", role)
        rows, checked = await while_connected(request, work)
    else:
        refuse_tokens(body.input, "input")
        values: Any = body.input if isinstance(body.input, list) else [body.input]
        if body.input is None:
            raise invalid("input is missing; give a text, or a list of texts, images and audio", "input")
        names = None if isinstance(body.input, list) else ["input"]
        checked = await check_inputs(state, values, "input", modality=body.modality, names=names)
        rows = await while_connected(
            request, model.encode(checked, role, lambda place: names[0] if names else f"input[{place}]")
        )
    rows = cut(rows, body.dimensions or body.output_dimension)
    n_tokens = count_tokens(checked)
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return JsonResponse(_answer(rows, body.encoding_format, body.model or model.name, usage))


async def multimodal_embeddings(request: Request) -> Response:
    """One vector for each input, which may hold several texts, images and videos."""
    state = state_of(request)
    body = await read_json(request, MultimodalRequest)
    model = state.model(body.model)
    check_dimensions(model, body.output_dimension, "output_dimension")
    groups = [
        content_parts(element.get("content"), f"inputs[{place}].content")
        for place, element in enumerate(body.inputs)
    ]
    if not groups:
        raise invalid("inputs is empty; give at least one", "inputs")
    work = encode_fused(state, model, groups, "inputs", role_of(body.input_type))
    rows, checked = await while_connected(request, work)
    n_tokens = count_tokens(checked)
    usage = {
        "text_tokens": n_tokens,
        "image_pixels": count_pixels(checked),
        "video_pixels": 0,
        "total_tokens": n_tokens,
    }
    encoding = body.encoding_format or body.output_encoding or "float"
    rows = cut(rows, body.output_dimension)
    return JsonResponse(_answer(rows, encoding, body.model or model.name, usage))


def _answer(
    rows: NDArray[np.float32], encoding: Encoding, model: str, usage: dict[str, int]
) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": place, "embedding": vector}
        for place, vector in enumerate(encoded_rows(rows, encoding))
    ]
    return {"object": "list", "data": data, "model": model, "usage": usage}


def role_of(input_type: str | None) -> Role:
    """The role that an `input_type` names; documents by default."""
    return "query" if input_type in QUERY_TYPES else "document"


def encoded_rows(rows: NDArray[np.float32], encoding: Encoding) -> Sequence[Any]:
    """Vectors as lists of numbers, or as base64 of little-endian float32."""
    if encoding == "base64":
        return [base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode() for row in rows]
    return list(rows)


def check_dimensions(model: ServedSpace, dimensions: int | None, param: str) -> None:
    """Raises ApiError (400) for a length of vectors that the model was not trained for."""
    if dimensions is None or dimensions == model.dim:
        return
    shortest = min(model.matryoshka, default=model.dim)
    if not shortest <= dimensions < model.dim:
        allowed = f"{shortest} to {model.dim}" if model.matryoshka else f"{model.dim}"
        raise invalid(
            f"{param} must be {allowed} for the model {model.name!r}, got {dimensions}; leave it out", param
        )


def cut(rows: NDArray[np.float32], dimensions: int | None) -> NDArray[np.float32]:
    """The first numbers of vectors (n, dim), made unit length again; all of them for None."""
    import numpy as np

    if dimensions is None or dimensions == rows.shape[1]:
        return rows
    short = rows[:, :dimensions]
    lengths = np.linalg.norm(short, axis=1, keepdims=True)
    return np.ascontiguousarray(short / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


ENDPOINTS = [
    Endpoint(
        "/v1/embeddings", embeddings, summary="Embed texts, images, audio and video.", request=EmbeddingsRequest,
        tag="embeddings",
    ),
    Endpoint(
        "/v1/multimodalembeddings", multimodal_embeddings, summary="Embed inputs of several parts (Voyage).",
        request=MultimodalRequest, tag="embeddings",
    ),
]  # fmt: skip
