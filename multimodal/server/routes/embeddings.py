"""Embeddings as OpenAI, Infinity, Jina, vLLM and Voyage ask for them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
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
from multimodal.server.media import Checked, too_many
from multimodal.server.spaces import Role, ServedSpace
from multimodal.server.state import State

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEDIA_KEYS = {"image": Modality.IMAGE, "audio": Modality.AUDIO, "video": Modality.VIDEO}
QUERY_TYPES = {"query", "search_query", "retrieval.query"}
DATA_PREFIX = "data:"
TOKENS_CURE = (
    "input holds token ids, and this server takes text: with LangChain, use "
    "OpenAIEmbeddings(check_embedding_ctx_length=False)"
)


class EmbeddingsRequest(RequestModel):
    """What to embed, and how to write the vectors."""

    input: JsonValue = Field(
        default=None,
        description="A text, a list of texts, or a list of {text}, {image} or {audio} objects, mixed as you like; "
        "media are data URIs, base64 or URLs of allowed hosts. With `modality`, strings are media.",
    )
    messages: list[dict[str, JsonValue]] | None = Field(
        default=None, description="Instead of `input`: chat messages, whose parts become one vector."
    )
    model: str | None = None
    modality: Modality | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    output_dimension: int | None = None
    output_dtype: Literal["float"] = "float"
    input_type: str | None = None
    task: str | None = None
    user: str | None = None


async def embeddings(request: Request) -> Response:
    """Vectors of texts, images, audio and video in one space."""
    state = state_of(request)
    body = await read_json(request, EmbeddingsRequest)
    model = state.model(body.model)
    check_dimensions(model, body.dimensions or body.output_dimension, "dimensions" if body.dimensions else
                     "output_dimension")  # fmt: skip
    role: Role = "query" if (body.input_type or body.task or "") in QUERY_TYPES else "document"
    if body.messages is not None:
        parts = await check_inputs(state, message_parts(body.messages), None, "messages")
        rows = await while_connected(request, model.encode(parts, role, lambda i: f"messages[{i}]"))
        rows = fused(rows)
        checked = parts
    else:
        single = not isinstance(body.input, list)
        values: Any = [body.input] if single else body.input
        checked = await check_inputs(state, values, body.modality, "input", single=single)

        def name(position: int) -> str:
            return "input" if single else f"input[{position}]"

        rows = await while_connected(request, model.encode(checked, role, name))
    n_tokens = count_tokens(checked)
    data = [
        {"object": "embedding", "index": place, "embedding": vector}
        for place, vector in enumerate(encoded_rows(rows, body.encoding_format))
    ]
    return JsonResponse(
        {
            "object": "list",
            "data": data,
            "model": body.model or model.name,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }
    )


def encoded_rows(rows: NDArray[np.float32], encoding: str) -> Sequence[Any]:
    """Vectors as lists of numbers, or as base64 of little-endian float32."""
    if encoding == "base64":
        return [base64.b64encode(row.astype("<f4", copy=False).tobytes()).decode() for row in rows]
    return list(rows)


def check_dimensions(model: ServedSpace, dimensions: int | None, param: str) -> None:
    """Raises ApiError (400) for a length of vectors that the model does not have."""
    if dimensions is not None and dimensions != model.dim:
        raise invalid(
            f"{param} must be {model.dim} for the model {model.name!r}, got {dimensions}; leave it out", param
        )


def count_tokens(checked: Sequence[Checked]) -> int:
    """About how many tokens the texts have; the exact number depends on the model."""
    return sum(element.cost for element in checked if element.item.modality is Modality.TEXT)


def fused(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean direction (1, dim) of several parts of one input."""
    mean = rows.mean(axis=0, keepdims=True)
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        raise invalid("the parts of the input cancel out; send them one by one")
    return np.asarray(mean / length, np.float32)


async def check_inputs(
    state: State, values: Any, modality: Modality | None, param: str, *, single: bool = False
) -> list[Checked]:
    """Checks the elements of a list of inputs: strings, and objects with one of text, image, audio and video.

    Args:
        state: Of the server.
        values: The elements.
        modality: What strings are, if not text.
        param: The field of the request, for messages.
        single: The field holds the one element itself, not a list of it.

    Returns:
        Items and costs, in the given order.

    Raises:
        ApiError: 400 or 413 naming the element.
    """
    if not isinstance(values, list) or not values:
        raise invalid(f"{param} is empty; give at least one text, image or audio", param)
    ceilings = state.config.ceilings
    if isinstance(values[0], int | float) or (isinstance(values[0], list) and values[0]):
        raise invalid(TOKENS_CURE, param, "token_ids")
    names = [param] if single else [f"{param}[{place}]" for place in range(len(values))]
    if len(values) > ceilings.texts:
        raise too_many(len(values), ceilings.texts, "elements", param)
    is_text = modality is None or modality is Modality.TEXT
    if is_text and all(isinstance(value, str) for value in values):
        media = [name for name, value in zip(names, values, strict=True) if value.startswith(DATA_PREFIX)
                 and ";base64," in value[:200]]  # fmt: skip
        if media:
            raise invalid(f"{media[0]} is a data URI: send it as {{\"image\": …}} or {{\"audio\": …}}, or set "
                          "modality, so that it is not embedded as text", media[0])  # fmt: skip
        return [state.media.text(value, name) for name, value in zip(names, values, strict=True)]
    sources = [_source(value, modality, name) for value, name in zip(values, names, strict=True)]
    n_media = sum(kind is not Modality.TEXT for kind, _ in sources)
    if n_media > ceilings.media:
        raise too_many(n_media, ceilings.media, "images, audio and videos", param)

    def check() -> list[Checked]:
        return [
            state.media.text(value, name) if kind is Modality.TEXT else state.media.string(value, name, kind)
            for (kind, value), name in zip(sources, names, strict=True)
        ]

    return await state.in_media_pool(check)


def _source(value: object, modality: Modality | None, param: str) -> tuple[Modality, Any]:
    """The modality of an element of `input`, and its text, data URI, base64 or URL."""
    if isinstance(value, str):
        return modality or Modality.TEXT, value
    if not isinstance(value, dict):
        raise invalid(f"{param} must be a string or an object with text, image, audio or video", param)
    given = {key: part for key, part in value.items() if part is not None and key in ("text", *MEDIA_KEYS)}
    if len(given) != 1:
        raise invalid(
            f"{param} must have exactly one of text, image, audio and video, got {sorted(value)}"[:300], param
        )
    key, part = next(iter(given.items()))
    if isinstance(part, dict):  # {"image": {"url": …}}
        part = part.get("url") or part.get("bytes") or part.get("data")
    return MEDIA_KEYS.get(key, Modality.TEXT), part


def message_parts(messages: Sequence[Any]) -> list[Any]:
    """The parts of chat messages, as elements of `input`."""
    parts: list[Any] = []
    for place, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else [content]:
            parts.append(content_part(part, f"messages[{place}].content"))
    return parts


def content_part(part: Any, param: str) -> Any:
    """A part of a message or of Cohere's and Voyage's `content`, as an element of `input`."""
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise invalid(f"{param} must hold strings or parts with a type, got {type(part).__name__}", param)
    kind = part.get("type")
    if kind in ("text", "input_text"):
        return {"text": part.get("text")}
    if kind in ("image_url", "input_image", "image_base64", "image"):
        value = part.get("image_url", part.get("image_base64", part.get("image")))
        return {"image": value.get("url") if isinstance(value, dict) else value}
    if kind in ("input_audio", "audio_url", "audio"):
        value = part.get("input_audio", part.get("audio_url", part.get("audio")))
        return {"audio": (value.get("data") or value.get("url")) if isinstance(value, dict) else value}
    raise invalid(
        f"{param} has a part of type {str(kind)[:40]!r}; text, image_url and input_audio are known", param
    )


ENDPOINTS = [
    Endpoint(
        "/v1/embeddings", embeddings, summary="Embed texts, images, audio and video.", request=EmbeddingsRequest,
        tag="embeddings",
    ),
]  # fmt: skip
