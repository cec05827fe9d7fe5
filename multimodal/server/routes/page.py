"""The web page at `/`, its files, and what it asks for beside `/v1/search` and `/v1/items`.

The page is a folder of plain modules that the browser loads as they are. The policy of its response forbids to fetch
anything from elsewhere, and scripts and styles inside the document.
"""

from __future__ import annotations

import asyncio
import functools
import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, JsonValue
from starlette.requests import Request
from starlette.responses import Response

from multimodal import __version__
from multimodal.core.errors import MultimodalError
from multimodal.index import Query
from multimodal.server.endpoint import (
    Endpoint,
    JsonResponse,
    RequestModel,
    read_json,
    state_of,
    while_connected,
)
from multimodal.server.errors import ApiError, invalid
from multimodal.server.state import Pool, ServedIndex, State
from multimodal.server.tasks.lane import Call
from multimodal.server.tasks.models import Task, task_models_of
from multimodal.server.web import explore
from multimodal.server.web.facets import facets as count_facets
from multimodal.server.web.sessions import sessions_of

FOLDER = Path(__file__).resolve().parent.parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DRAWING_POLICY = "default-src 'none'; sandbox"
MAX_SEED = 2**31 - 1
NO_DECODER, BUSY = 501, (429, 503)  # statuses


class StaticFile(NamedTuple):
    """A file of the page: its bytes, the same compressed, its tag, and its type."""

    content: bytes
    compressed: bytes
    tag: str
    media_type: str


@functools.cache
def page_files() -> dict[str, StaticFile]:
    """The files of the page by name."""
    files = {}
    for path in sorted(FOLDER.iterdir()):
        if path.suffix in TYPES:
            content = path.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
            files[path.name] = StaticFile(content, gzip.compress(content, mtime=0), tag, TYPES[path.suffix])
    return files


def _static(request: Request, name: str) -> Response:
    file = page_files().get(name)
    if file is None:
        raise ApiError(404, "the page has no such file")
    headers = {
        "etag": file.tag,
        "cache-control": "no-cache",
        "content-security-policy": POLICY if name.endswith(".html") else DRAWING_POLICY,
        "cross-origin-resource-policy": "same-origin",
        "referrer-policy": "no-referrer",
        "vary": "Accept-Encoding",
    }
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    content = file.content
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = file.compressed
        headers["content-encoding"] = "gzip"
    return Response(content, media_type=file.media_type, headers=headers)


async def page(request: Request) -> Response:
    """The document."""
    return _static(request, "index.html")


async def page_file(request: Request) -> Response:
    """A script, style or image of the page."""
    return _static(request, request.path_params["name"])


class KeyRequest(RequestModel):
    """The key of the server."""

    key: str


async def key(request: Request) -> Response:
    """Exchanges the key of the server for a cookie, since images and players cannot send a header."""
    body = await read_json(request, KeyRequest)
    response = JsonResponse({"ok": True})
    sessions = sessions_of(state_of(request))
    response.set_cookie(
        sessions.name,
        sessions.open(body.key),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


# --- what is in an index --------------------------------------------------------------------------------


class Selection(RequestModel):
    """An index, and filters as in a search."""

    index: str | None = None
    modality: str | list[str] | None = None
    where: dict[str, JsonValue] | None = None


class ItemsRequest(Selection):
    """A page of items."""

    offset: int = Field(default=0, ge=0)
    limit: int = Field(default=60, ge=1, le=1000)


class ItemRequest(RequestModel):
    """An item of an index."""

    id: str
    index: str | None = None


async def config(request: Request) -> Response:
    """The indexes, and which features the page should offer."""
    state = state_of(request)
    studio = Studio.of(state)

    def indexes() -> list[dict[str, Any]]:
        return [
            {
                "name": served.name,
                "items": len(served.index),
                "modalities": list(served.model.modalities),
                "model": served.model.name,
                "write": state.config.write,
            }
            for served in state.indexes.values()
        ]

    content: dict[str, Any] = {"version": __version__, "indexes": await state.searches.run(indexes)}
    first = next(iter(state.indexes.values()), None)
    content["captions"] = first is not None and await studio.can("captioning", first)
    content["drawing"] = first is not None and await studio.can("generation", first)
    return JsonResponse(content)


async def items(request: Request) -> Response:
    """Items in the order of the index, from anywhere in it."""
    state = state_of(request)
    body = await read_json(request, ItemsRequest)
    served = state.index(body.index)
    rows, total = await while_connected(
        request,
        state.searches.run(
            explore.page_of_items, served.index, body.offset, body.limit, body.modality, body.where
        ),
    )
    return JsonResponse({"data": list(explore.row_contents(rows)), "total": total, "offset": body.offset})


async def facets(request: Request) -> Response:
    """The number of items for each value of each filter."""
    state = state_of(request)
    body = await read_json(request, Selection)
    served = state.index(body.index)
    return JsonResponse(await state.searches.run(count_facets, served.index, body.modality, body.where))


async def neighbours(request: Request) -> Response:
    """The items before and after one, in its recording or by time."""
    state = state_of(request)
    body = await read_json(request, ItemRequest)
    served = state.index(body.index)
    kind, rows = await state.searches.run(explore.neighbours, served.index, body.id)
    return JsonResponse({"kind": kind, "items": list(explore.row_contents(rows))})


async def wave(request: Request) -> Response:
    """A drawing of the waveform of an audio item."""
    state = state_of(request)
    served = state.index(request.query_params.get("index") or None)

    def draw() -> str:
        row = _find_row(served, request.query_params.get("id", ""))
        if row["modality"] != "audio" or not row["uri"]:
            raise ApiError(404, "the item has no waveform", code="no_waveform")
        return explore.waveform_svg(Path(row["uri"]), row["start_s"], row["end_s"])

    drawing = await while_connected(request, state.preview(draw))
    headers = {"cache-control": "private, max-age=86400", "content-security-policy": DRAWING_POLICY}
    return Response(drawing, media_type="image/svg+xml", headers=headers)


async def point_map(request: Request) -> Response:
    """Positions of the items on a plane; similar items are close."""
    state = state_of(request)
    served = state.index(request.query_params.get("index") or None)
    return JsonResponse(await Studio.of(state).map(served))


def _find_row(served: ServedIndex, id_: str, vectors: bool = False) -> dict[str, Any]:
    """The item with an id. Blocks. Raises ApiError (404)."""
    rows = served.index.rows(ids=id_, vectors=vectors) if id_ else ()
    row = next((row for row in rows if row["id"] == id_), None)
    if row is None:
        raise ApiError(
            404, f"no item of the index has the id {id_[:200]!r}", param="id", code="item_not_found"
        )
    return row


# --- captions and drawings ------------------------------------------------------------------------------


class DrawRequest(RequestModel):
    """What to draw: the parts of a query, as in a search."""

    parts: list[dict[str, JsonValue]] = Field(min_length=1)
    index: str | None = None
    seed: int = Field(default=0, ge=0, le=MAX_SEED)


class Studio:
    """Captions and drawings from the vectors of an index, in the lanes of these tasks; and maps, one after another.

    Args:
        state: The state of the server.
    """

    NAME = "page.studio"

    def __init__(self, state: State) -> None:
        self._pool = Pool("map", 1, capacity=16)
        self._models = task_models_of(state)
        self._can: dict[tuple[Task, str], bool] = {}
        self._maps: dict[str, tuple[object, dict[str, Any]]] = {}
        state.on_close(self._pool.close)

    @classmethod
    def of(cls, state: State) -> Studio:
        """The studio of a server."""
        if cls.NAME not in state.extras:
            state.extras[cls.NAME] = cls(state)
        studio: Studio = state.extras[cls.NAME]
        return studio

    async def can(self, task: Task, served: ServedIndex) -> bool:
        """Whether there is a decoder for the space of an index."""
        key = task, served.model.name
        if key not in self._can:
            try:
                await self.run(task, served, lambda pipeline, call: None)
            except (ApiError, MultimodalError) as error:
                if isinstance(error, ApiError) and error.status in BUSY:
                    return False
                self._can[key] = False
            else:
                self._can[key] = True
        return self._can[key]

    async def run(self, task: Task, served: ServedIndex, use: Callable[[Any, Call], Any]) -> Any:
        """Calls a function with the pipeline of a task and the call, in the lane of the task.

        Raises:
            ApiError: 501 if there is no decoder for the space.
        """
        work = self._models.work(task, served.model.name, use)
        try:
            return await self._models.lanes[task].run(work)
        except ApiError as error:
            if error.code != "task_not_supported":
                raise
            message = f"there is no decoder for {task} in this space"
            raise ApiError(NO_DECODER, message, code="no_decoder") from error

    async def map(self, served: ServedIndex) -> dict[str, Any]:
        """The map of an index, computed again when the number of its items changed."""

        def call() -> dict[str, Any]:
            n_items = len(served.index)
            known = self._maps.get(served.name)
            if known is None or known[0] != n_items:
                known = self._maps[served.name] = n_items, explore.point_map(served.index)
            return known[1]

        return await self._pool.run(call)


async def caption(request: Request) -> Response:
    """A caption of an item, from its vector."""
    state = state_of(request)
    body = await read_json(request, ItemRequest)
    served = state.index(body.index)
    row = await state.searches.run(_find_row, served, body.id, True)
    work = Studio.of(state).run("captioning", served, lambda pipeline, call: pipeline(row["vector"]))
    result = await while_connected(request, work)
    return JsonResponse({"text": result.text})


async def draw(request: Request) -> Response:
    """An image drawn from the vector of a query. The same seed draws the same image."""
    state = state_of(request)
    body = await read_json(request, DrawRequest)
    served = state.index(body.index)
    vector = await query_vector(state, served, body.parts)

    def use(pipeline: Any, call: Call) -> Any:
        return pipeline(vector=vector, seed=body.seed, progress=call.progress)

    result = await while_connected(request, Studio.of(state).run("generation", served, use))
    if result.image is None:
        raise ApiError(NO_DECODER, "the decoder of this space draws no images", code="no_decoder")
    content = await asyncio.to_thread(_png, result)
    return Response(content, media_type="image/png", headers={"content-security-policy": DRAWING_POLICY})


def _png(result: Any) -> bytes:
    from multimodal.core.media.thumbnail import encode_image

    return encode_image(result.image, "PNG")


async def query_vector(state: State, served: ServedIndex, parts: list[dict[str, JsonValue]]) -> Any:
    """The unit vector (dim,) of the parts of a query. Raises ApiError (400)."""
    import numpy as np

    from multimodal.index.search.query import encode_queries
    from multimodal.server.routes.search import Part, check_parts, stored_vector
    from multimodal.server.spaces import known_vectors

    models = [Part.model_validate(part) for part in parts]
    checked, similar, query = await check_parts(state, served, models)
    weighted = list(query.parts) if query is not None else []
    for id_ in similar:
        weighted.append((await stored_vector(state, served, id_, "parts"), 1.0))
    if not weighted:
        raise invalid("parts holds nothing to draw", "parts")
    rows = (
        await served.model.encode(checked, "query")
        if checked
        else np.empty((0, served.model.dim), np.float32)
    )

    def call() -> Any:
        with known_vectors([element.item for element in checked], rows):
            return encode_queries(served.model.space, [Query(weighted)])[0]

    return await state.searches.run(call)


ENDPOINTS = [
    Endpoint("/", page, ("GET",), "The web page.", is_public=True, when_loading=True, produces="text/html", tag="page"),
    Endpoint("/page/{name}", page_file, ("GET",), "A file of the page.", is_public=True, when_loading=True,
             produces="text/javascript", tag="page"),
    Endpoint("/page/key", key, summary="Sign in to the page.", request=KeyRequest, is_public=True, tag="page"),
    Endpoint("/page/config", config, ("GET",), "What the page offers.", tag="page"),
    Endpoint("/page/items", items, summary="A page of items.", request=ItemsRequest, tag="page"),
    Endpoint("/page/facets", facets, summary="Counts for filters.", request=Selection, tag="page"),
    Endpoint("/page/neighbours", neighbours, summary="Items before and after one.", request=ItemRequest, tag="page"),
    Endpoint("/page/wave", wave, ("GET",), "A drawing of a waveform.", produces="image/svg+xml", tag="page",
             query={"id": {"type": "string"}, "index": {"type": "string"}}),
    Endpoint("/page/map", point_map, ("GET",), "A map of an index.", tag="page", query={"index": {"type": "string"}}),
    Endpoint("/page/caption", caption, summary="Caption an item.", request=ItemRequest, tag="page"),
    Endpoint("/page/draw", draw, summary="Draw a query.", request=DrawRequest, produces="image/png", tag="page"),
]  # fmt: skip
