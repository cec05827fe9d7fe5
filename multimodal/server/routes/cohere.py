"""Embeddings as Cohere asks for them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from multimodal.server.endpoint import (
    Endpoint,
    JsonResponse,
    RequestModel,
    read_json,
    state_of,
    while_connected,
)
from multimodal.server.errors import invalid
from multimodal.server.inputs import content_parts, count_tokens, encode_fused
from multimodal.server.routes.embeddings import check_dimensions, cut, role_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EmbedRequest(RequestModel):
    """Texts, images, or inputs of several parts."""

    model: str | None = None
    texts: list[str] | None = None
    images: list[str] | None = Field(default=None, description="Data URIs.")
    inputs: list[dict[str, JsonValue]] | None = Field(
        default=None, description="Inputs with `content`, a list of parts that become one vector."
    )
    input_type: str | None = None
    embedding_types: list[Literal["float", "base64", "binary", "ubinary"]] = Field(default=["float"])
    output_dimension: int | None = None


async def embed(request: Request) -> Response:
    """Vectors in the requested types."""
    state = state_of(request)
    body = await read_json(request, EmbedRequest)
    model = state.model(body.model)
    check_dimensions(model, body.output_dimension, "output_dimension")
    given = {
        name: getattr(body, name) for name in ("texts", "images", "inputs") if getattr(body, name) is not None
    }
    if len(given) != 1:
        raise invalid("give exactly one of texts, images and inputs")
    name, values = next(iter(given.items()))
    if not values:
        raise invalid(f"{name} is empty; give at least one", name)
    groups: list[list[Any]]
    if name == "inputs":
        groups = [
            content_parts(element.get("content"), f"inputs[{place}].content")
            for place, element in enumerate(values)
        ]
    else:
        groups = [[{"text" if name == "texts" else "image": value}] for value in values]
    work = encode_fused(state, model, groups, name, role_of(body.input_type))
    rows, checked = await while_connected(request, work)
    rows = cut(rows, body.output_dimension)
    n_images = sum(str(element.item.modality) == "image" for element in checked)
    billed = {"input_tokens": count_tokens(checked)} | ({"images": n_images} if n_images else {})
    return JsonResponse(
        {
            "id": request.scope["multimodal.request_id"],
            "embeddings": {kind: _typed(rows, kind) for kind in body.embedding_types},
            "texts": body.texts or [],
            "meta": {"api_version": {"version": "2"}, "billed_units": billed},
            "response_type": "embeddings_by_type",
        }
    )


def _typed(rows: NDArray[np.float32], kind: str) -> list[Any]:
    """Vectors as numbers, as base64 of float32, or one bit for each number, eight to an integer."""
    import numpy as np

    if kind == "float":
        return list(rows)
    if kind == "base64":
        return [base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode() for row in rows]
    bits = np.packbits(rows > 0, axis=1).astype(np.int16)
    return (bits - 128 if kind == "binary" else bits).tolist()


ENDPOINTS = [
    Endpoint(
        "/v2/embed", embed, summary="Embed texts and images (Cohere).", request=EmbedRequest, tag="embeddings"
    ),
]
