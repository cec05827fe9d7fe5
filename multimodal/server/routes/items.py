"""The items of an index: listed, shown, added and deleted."""

from __future__ import annotations

import itertools
import json
from typing import Any

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from multimodal.core.media.mime import UNKNOWN_TYPE
from multimodal.core.modality import Modality
from multimodal.server import previews, uploads
from multimodal.server.endpoint import (
    ANY_TYPE,
    JSON_TYPE,
    Endpoint,
    JsonResponse,
    RequestModel,
    parse_json,
    read_body,
    read_json,
    state_of,
    while_connected,
)
from multimodal.server.errors import ApiError, invalid
from multimodal.server.forms import FORM_TYPE, Upload, read_form
from multimodal.server.paths import item_path
from multimodal.server.state import ServedIndex, State

DEFAULT_LIMIT = 100
DEFAULT_SIDE, MAX_SIDE = 256, 1024
CACHE = "private, max-age=3600"
SANDBOX = "default-src 'none'; sandbox"
INDEX = {"index": {"type": "string"}}
LIST_QUERY: dict[str, dict[str, Any]] = INDEX | {
    "offset": {"type": "integer", "minimum": 0, "default": 0},
    "limit": {"type": "integer", "minimum": 1, "default": DEFAULT_LIMIT},
    "modality": {"type": "string", "enum": list(map(str, Modality))},
    "where": {"type": "string", "description": "A filter as JSON, as in a search."},
    "ids": {"type": "string", "description": "Ids as a JSON list."},
}


class NewItem(RequestModel):
    """A text, or a file as a data URI, base64 or URL of an allowed host."""

    text: str | None = None
    media: str | None = None
    name: str | None = Field(default=None, description="The file name of media.")
    id: str | None = Field(default=None, description="The id of a text; that of a file is its place on disk.")
    metadata: dict[str, JsonValue] = Field(default={})


class AddRequest(RequestModel):
    """Items to add. Files can also be uploaded as a form, with fields `index` and `metadata` (JSON)."""

    index: str | None = None
    items: list[NewItem]
    metadata: dict[str, JsonValue] = Field(default={}, description="Of all items.")


class DeleteRequest(RequestModel):
    """Items to delete."""

    index: str | None = None
    ids: list[str]


def item_content(served: ServedIndex, row: dict[str, Any]) -> dict[str, Any]:
    """An item as JSON, with the paths of its thumbnail and its media."""
    links = {part: item_path(row["id"], part, served.name) for part in ("thumb", "media")}
    return row | {"modality": str(row["modality"]), "links": links}


async def list_items(request: Request) -> Response:
    """A page of the items, in the order of the index."""
    state = state_of(request)
    query = request.query_params
    served = state.index(query.get("index"))
    offset = _number(query.get("offset"), "offset", 0, 0, None)
    limit = _number(query.get("limit"), "limit", DEFAULT_LIMIT, 1, state.config.ceilings.hits)
    options = {
        "modality": query.get("modality"),
        "where": _json(query.get("where"), "where", dict),
        "ids": _json(query.get("ids"), "ids", list),
    }

    def read() -> tuple[list[dict[str, Any]], int]:
        rows = served.index.rows(**options)
        total = len(rows)
        return list(itertools.islice(rows, offset, offset + limit)) if offset < total else [], total

    rows, total = await state.searches.run(read)
    return JsonResponse(
        {
            "object": "list",
            "index": served.name,
            "offset": offset,
            "total": total,
            "data": [item_content(served, row) for row in rows],
        }
    )


async def get_item(request: Request) -> Response:
    """One item."""
    state = state_of(request)
    served = state.index(request.query_params.get("index"))
    row = await state.searches.run(previews.find_row, served, request.path_params["item_id"])
    return JsonResponse(item_content(served, row))


async def thumb(request: Request) -> Response:
    """A small JPEG of an image, a page or a frame."""
    state = state_of(request)
    served = state.index(request.query_params.get("index"))
    side = _number(request.query_params.get("size"), "size", DEFAULT_SIDE, 16, MAX_SIDE)
    thumbnails = state.extra("thumbnails", previews.Thumbnails)

    def draw() -> tuple[bytes, str]:
        return thumbnails.get(previews.find_row(served, request.path_params["item_id"]), side)

    content, tag = await while_connected(request, state.preview(draw))
    headers = {"etag": tag, "cache-control": CACHE, "content-security-policy": SANDBOX}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type="image/jpeg", headers=headers)


async def media(request: Request) -> Response:
    """The file of an item, or a part of it (Range)."""
    state = state_of(request)
    served = state.index(request.query_params.get("index"))
    row = await state.searches.run(previews.find_row, served, request.path_params["item_id"])
    found = await state.in_media_pool(previews.find_media, row)
    headers = {"cache-control": CACHE, "content-security-policy": SANDBOX}
    return FileResponse(
        found.path,
        media_type=found.type,
        filename=found.path.name,
        content_disposition_type="inline" if found.is_inline else "attachment",
        headers=headers,
    )


async def add_items(request: Request) -> Response:
    """Adds texts and files; those that fail are listed, the others are stored."""
    state = state_of(request)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    files: list[Upload]
    texts: list[uploads.NewText] = []
    if kind == FORM_TYPE:
        form = await read_form(request)
        served = state.index(form.field("index"))
        files = form.files
        metadata = _json(form.field("metadata"), "metadata", dict) or {}
    elif kind == JSON_TYPE:
        body = parse_json(await read_body(request), AddRequest)
        served = state.index(body.index)
        files, texts = await _new_items(state, body)
        metadata = body.metadata
    else:
        raise ApiError(415, f"send Content-Type: {JSON_TYPE} or {FORM_TYPE}")
    if not files and not texts:
        raise invalid("there is nothing to add; give items, or upload files", "items")
    report = await state.writes.run(uploads.add, served, state.media, files, texts, metadata)
    return JsonResponse({"object": "list", "index": served.name} | report)


async def _new_items(state: State, body: AddRequest) -> tuple[list[Upload], list[uploads.NewText]]:
    ceilings = state.config.ceilings
    if len(body.items) > ceilings.texts:
        raise ApiError(
            413, f"items has {len(body.items):,} elements; the limit is {ceilings.texts:,}", param="items"
        )
    files: list[Upload] = []
    texts: list[uploads.NewText] = []
    for place, element in enumerate(body.items):
        param = f"items[{place}]"
        if (element.text is None) == (element.media is None):
            raise invalid(f"{param} must have exactly one of text and media", param)
        if element.text is not None:
            state.media.text(element.text, f"{param}.text")
            texts.append(uploads.NewText(element.text, element.id, element.metadata))
        else:
            content = await state.in_media_pool(state.media.bytes_of, element.media, f"{param}.media")
            files.append(Upload("media", element.name or "", content))
    return files, texts


async def delete_item(request: Request) -> Response:
    """Deletes an item, or all parts of a document."""
    state = state_of(request)
    served = state.index(request.query_params.get("index"))
    item_id = request.path_params["item_id"]
    n_deleted = await state.writes.run(uploads.delete, served, [item_id])
    if not n_deleted:
        raise ApiError(404, "no item of the index has this id", code="item_not_found")
    return JsonResponse({"deleted": n_deleted})


async def delete_items(request: Request) -> Response:
    """Deletes several items; unknown ids are ignored."""
    state = state_of(request)
    body = await read_json(request, DeleteRequest)
    if not body.ids:
        raise invalid("ids is empty; name the items to delete", "ids")
    n_deleted = await state.writes.run(uploads.delete, state.index(body.index), body.ids)
    return JsonResponse({"deleted": n_deleted})


def _number(value: str | None, name: str, default: int, least: int, most: int | None) -> int:
    """A whole number of the query. Raises ApiError (400)."""
    if value is None:
        return default
    number = int(value) if value.isascii() and value.isdigit() and len(value) < 16 else -1
    if number < least or (most is not None and number > most):
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        raise invalid(f"{name} must be a whole number {bounds}, got {value[:40]!r}", name)
    return number


def _json(value: str | None, name: str, kind: type[Any]) -> Any:
    """A JSON value of the query or of a form. Raises ApiError (400)."""
    if value is None:
        return None
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, kind):
        raise invalid(f"{name} must be JSON, {'an object' if kind is dict else 'a list'}", name)
    return parsed


ITEM = "/v1/items/{item_id:path}"
ENDPOINTS = [
    Endpoint("/v1/items", list_items, ("GET",), "List items.", query=LIST_QUERY, tag="items"),
    Endpoint("/v1/items", add_items, summary="Add texts and files.", request=AddRequest, content=ANY_TYPE,
             needs_write=True, tag="items"),
    Endpoint("/v1/items/delete", delete_items, summary="Delete items.", request=DeleteRequest, needs_write=True,
             tag="items"),
    Endpoint(ITEM, get_item, ("GET",), "Show an item.", query=INDEX, tag="items"),
    Endpoint(ITEM, delete_item, ("DELETE",), "Delete an item.", query=INDEX, needs_write=True, tag="items"),
    Endpoint(f"{ITEM}/thumb", thumb, ("GET",), "A small image of an item.", produces="image/jpeg", tag="items",
             query=INDEX | {"size": {"type": "integer", "minimum": 16, "maximum": MAX_SIDE}}),
    Endpoint(f"{ITEM}/media", media, ("GET",), "The file of an item; with Range, a part of it.", query=INDEX,
             produces=UNKNOWN_TYPE, tag="items"),
]  # fmt: skip
