"""Search of an index: `Index.search` over HTTP."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.index import Hit, Hits, Query
from multimodal.server.endpoint import (
    Endpoint,
    JsonResponse,
    RequestModel,
    read_json,
    state_of,
    while_connected,
)
from multimodal.server.errors import invalid
from multimodal.server.media import Checked
from multimodal.server.paths import item_path
from multimodal.server.spaces import known_vectors
from multimodal.server.state import ServedIndex, State

MAX_PARTS = 16
MEDIA_KEYS = ("image", "audio", "video", "media")


class Part(RequestModel):
    """A part of a query: exactly one of text, media (image, audio, video), id and vector."""

    text: str | None = None
    media: str | None = Field(default=None, description="A data URI, base64 or URL of any modality.")
    image: str | None = None
    audio: str | None = None
    video: str | None = None
    id: str | None = Field(default=None, description="An item of the index: find similar ones.")
    vector: list[float] | None = None
    weight: float = Field(
        default=1.0, allow_inf_nan=False, description="Negative to lead away from the part."
    )


class SearchRequest(RequestModel):
    """A query, and the options of `Index.search`."""

    query: str | None = Field(default=None, description="Short for one part with this text.")
    parts: list[Part] = Field(default=[], max_length=MAX_PARTS)
    index: str | None = None
    k: int = Field(default=10, ge=1)
    offset: int = Field(default=0, ge=0)
    text: str | None = Field(default=None, description="Keywords to find in texts, metadata and file names.")
    mode: Literal["vector", "text", "hybrid"] | None = None
    similar_to: str | list[str] | None = None
    near: str | list[str] | None = Field(default=None, description="Another name of similar_to.")
    modality: str | list[str] | None = None
    where: dict[str, JsonValue] | None = None
    ids: str | list[str] | None = None
    exact: bool = False
    deduplicate: bool = False
    calibrated: bool = True
    min_probability: float | None = Field(default=None, ge=0, le=1)
    group_by: bool | str = False
    group: bool | str = Field(default=False, description="Another name of group_by.")


async def search(request: Request) -> Response:
    """The hits of one query."""
    state = state_of(request)
    body = await read_json(request, SearchRequest)
    served = state.index(body.index)
    start = time.perf_counter()
    hits = await while_connected(request, run_search(state, served, body))
    content = {
        "object": "list",
        "index": served.name,
        "offset": body.offset,
        "method": hits.method,
        "note": hits.note,
        "ordered_by": hits.ordered_by if hits else None,
        "hits": [hit_content(served, hit) for hit in hits],
        "seconds": round(time.perf_counter() - start, 4),
    }
    return JsonResponse(content)


async def run_search(state: State, served: ServedIndex, body: SearchRequest) -> Hits:
    """Searches an index. The parts are encoded in lanes, the search runs in a thread."""
    ceilings = state.config.ceilings
    if body.k > ceilings.hits:
        raise invalid(f"k must be at most {ceilings.hits:,}, got {body.k}; use offset for further hits", "k")
    if body.offset > ceilings.offset:
        raise invalid(f"offset must be at most {ceilings.offset:,}, got {body.offset}", "offset")
    parts = list(body.parts)
    if body.query is not None:
        parts.insert(0, Part(text=body.query))
    checked, similar, query = await check_parts(state, served, parts)
    similar += _listed(body.similar_to or body.near)
    options = _options(body) | {"similar_to": similar or None}
    items = [element.item for element in checked]
    rows = await served.model.encode(checked, "query", lambda i: "parts") if checked else None

    def call() -> Hits:
        if rows is None:
            return served.index.search(query, body.k, **options)
        with known_vectors(items, rows):
            return served.index.search(query, body.k, **options)

    return await state.searches.run(call)


async def check_parts(
    state: State, served: ServedIndex, parts: Sequence[Part]
) -> tuple[list[Checked], list[str], Query | None]:
    """The items to encode, the ids of similar items, and the query that holds the items and vectors."""
    import numpy as np

    similar: list[str] = []
    checked: list[Checked] = []
    weighted: list[tuple[Item | Any, float]] = []
    for place, part in enumerate(parts):
        param = f"parts[{place}]"
        kinds = [kind for kind in ("text", *MEDIA_KEYS, "id", "vector") if getattr(part, kind) is not None]
        if len(kinds) != 1:
            raise invalid(
                f"{param} must have exactly one of text, image, audio, video, media, id and vector", param
            )
        if part.weight == 0:
            raise invalid(f"{param}.weight must not be 0; leave the part out", f"{param}.weight")
        kind = kinds[0]
        if kind == "id":
            if part.weight == 1:
                similar.append(part.id or "")
            else:
                weighted.append((await stored_vector(state, served, part.id or "", param), part.weight))
        elif kind == "vector":
            vector = np.array(part.vector, np.float32)
            if len(vector) != served.model.dim:
                raise invalid(
                    f"{param}.vector must have {served.model.dim} numbers, got {len(vector)}", param
                )
            weighted.append((vector, part.weight))
        else:
            checked.append(await _check_item(state, part, kind, f"{param}.{kind}"))
            weighted.append((checked[-1].item, part.weight))
    if similar and any(weight != 1 for _, weight in weighted):
        # similar_to counts as one part of weight 1; among other weights, each item has its own
        for id_ in similar:
            weighted.append((await stored_vector(state, served, id_, "parts"), 1.0))
        similar = []
    return checked, similar, Query(weighted) if weighted else None


async def _check_item(state: State, part: Part, kind: str, param: str) -> Checked:
    if kind == "text":
        return state.media.text(part.text, param)
    modality = None if kind == "media" else Modality(kind)
    return await state.in_media_pool(state.media.string, getattr(part, kind), param, modality)


async def stored_vector(state: State, served: ServedIndex, id_: str, param: str) -> Any:
    """The mean vector of an item, or of the chunks of a document."""
    import numpy as np

    rows = await state.searches.run(lambda: list(served.index.rows(ids=id_, vectors=True)))
    if not rows:
        raise invalid(f"{param}: no item of the index has the id {id_[:200]!r}", param, "item_not_found")
    return np.mean([row["vector"] for row in rows], axis=0, dtype=np.float32)


def _options(body: SearchRequest) -> dict[str, Any]:
    where = body.where
    return {
        "text": body.text,
        "mode": body.mode,
        "modality": body.modality,
        "where": where,
        "ids": body.ids,
        "offset": body.offset,
        "exact": body.exact,
        "deduplicate": body.deduplicate,
        "calibrated": body.calibrated,
        "min_probability": body.min_probability,
        "group_by": body.group_by or body.group,
    }


def _listed(ids: str | list[str] | None) -> list[str]:
    return [ids] if isinstance(ids, str) else list(ids or ())


def hit_content(served: ServedIndex, hit: Hit) -> Mapping[str, Any]:
    """A hit as JSON: the fields of `Hit`, and the paths of its thumbnail and its media."""
    content = hit.to_dict()
    content["document_modality"] = str(hit.document_modality)
    content["location"] = hit.location
    content["links"] = {part: item_path(hit.id, part, served.name) for part in ("thumb", "media")}
    return content


ENDPOINTS = [
    Endpoint("/v1/search", search, summary="Search an index.", request=SearchRequest, tag="search"),
]
