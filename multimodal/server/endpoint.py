"""Endpoint: one path of the server, and what its handler needs to read requests and write responses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from multimodal.server.budget import Share
from multimodal.server.errors import ApiError, ClientDisconnected, invalid

if TYPE_CHECKING:
    from multimodal.server.state import State

Handler = Callable[[Request], Awaitable[Response]]
Asgi = Callable[..., Awaitable[None]]
JSON_TYPE = "application/json"
ANY_TYPE = "*"
WATCH_AFTER_S = 0.02  # a request that takes longer is watched for a client that leaves
MAX_SHOWN_CHARS, MAX_DEPTH = 200, 4
TYPE_NAMES = {"bool", "dict", "float", "int", "list", "str"}


class RequestModel(BaseModel):
    """The JSON body of a request. Unknown keys are ignored, and null counts as absent."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


@dataclass(frozen=True)
class Endpoint:
    """One path of the server.

    Attributes:
        path: As Starlette writes it: "/v1/items/{item_id:path}/thumb". A path below "/v1/" is also served without it.
        handler: Takes a Request and returns a Response; or `app`.
        methods: The HTTP methods.
        summary: One line for the schema.
        request: The model of the JSON body, for the schema.
        response: A JSON schema of the response, for the schema.
        query: Query parameters by name, with their JSON schemas.
        content: Media type of the body; ANY_TYPE for what the handler checks itself.
        produces: Media type of the response.
        is_public: Served without a key, such as health checks and the page.
        when_loading: Served before the models are loaded, and while the server stops.
        needs_write: Refused with a 403 unless the server was started with --write.
        tag: Groups endpoints in the schema.
        app: An ASGI application instead of a handler, such as that of MCP. It gets the path unchanged.
    """

    path: str
    handler: Handler | None = None
    methods: tuple[str, ...] = ("POST",)
    summary: str = ""
    request: type[BaseModel] | None = None
    response: Mapping[str, Any] | None = None
    query: Mapping[str, Mapping[str, Any]] | None = None
    content: str = JSON_TYPE
    produces: str = JSON_TYPE
    is_public: bool = False
    when_loading: bool = False
    needs_write: bool = False
    tag: str = "multimodal"
    app: Asgi | None = None


def state_of(request: Request) -> State:
    """The state of the server that handles a request."""
    state: State = request.scope["multimodal"]
    return state


async def read_body(request: Request) -> bytes:
    """The body of a request, below the ceilings on its size and on the time it takes.

    Raises:
        ApiError: 413 for a large one, 408 for a slow one.
        ClientDisconnected: The client left.
    """
    ceilings = state_of(request).config.ceilings
    share: Share = request.scope["multimodal.body"]
    chunks: list[bytes] = []
    n_bytes = 0
    with _Interrupt() as slow:
        timer = slow.loop.call_later(ceilings.body_s, slow.interrupt)
        try:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnected
                chunk: bytes = message.get("body", b"")
                chunks.append(chunk)
                n_bytes += len(chunk)
                if n_bytes > ceilings.body_bytes:
                    raise too_large(n_bytes, ceilings.body_bytes)
                share.grow_to(n_bytes)
                if not message.get("more_body", False):
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            timer.cancel()
    raise ApiError(
        408, f"the body did not arrive within {ceilings.body_s:g} seconds", headers={"connection": "close"}
    )


class _Interrupt:
    """A block that `interrupt` ends, as a cancelled task ends. Cheaper than a task or a timeout of its own."""

    __slots__ = ("_task", "is_interrupted", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._task = asyncio.current_task(self.loop)
        self.is_interrupted = False

    def __enter__(self) -> Self:
        return self

    def interrupt(self) -> None:
        """Ends the block; what it awaits is cancelled."""
        self.is_interrupted = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> bool:
        """Whether the exception is the interruption, after which the code behind the block runs."""
        if not self.is_interrupted or self._task is None:
            return False
        self._task.uncancel()
        return kind is asyncio.CancelledError


def too_large(n_bytes: int, limit: int) -> ApiError:
    """A 413 for a body; the connection is closed, since the rest of the body is not read."""
    return ApiError(
        413, f"the body has {n_bytes:,} bytes or more; the limit is {limit:,}", code="body_too_large",
        headers={"connection": "close"},
    )  # fmt: skip


Model = TypeVar("Model", bound=BaseModel)


async def read_json(request: Request, model: type[Model]) -> Model:
    """Parses the JSON body of a request.

    Args:
        request: The request.
        model: A RequestModel.

    Returns:
        The validated body.

    Raises:
        ApiError: 400 naming the field at fault, or as `read_body`.
    """
    return parse_json(await read_body(request), model)


def parse_json(body: bytes, model: type[Model]) -> Model:
    """Parses a JSON object; null counts as absent. Raises ApiError (400) naming the field at fault."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is no valid JSON: {error}", code="invalid_json") from None
    if not isinstance(content, dict):
        raise invalid(f"the body must be a JSON object, got {_kind(content)}", code="invalid_json")
    return validated(content, model)


def validated(content: Mapping[str, Any], model: type[Model]) -> Model:
    """A request of its fields; null counts as absent. Raises ApiError (400) naming the field at fault."""
    try:
        return model.model_validate({key: value for key, value in content.items() if value is not None})
    except ValidationError as error:
        raise _field_error(error) from None


def _field_error(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ""
    for part in first["loc"][:MAX_DEPTH]:
        if isinstance(part, int):
            place += f"[{part}]"
        elif part.isidentifier() and part not in TYPE_NAMES:  # others are the branches of a union
            place += f".{part}" if place else part
    got = repr(first["input"])[:MAX_SHOWN_CHARS] if first["type"] != "missing" else "nothing"
    message = first["msg"][:1].lower() + first["msg"][1:]
    return invalid(f"{place or 'the body'}: {message}, got {got}", place or None)


def _kind(value: object) -> str:
    return {list: "a list", str: "a string", bool: "a boolean"}.get(type(value), "a number or null")


class JsonResponse(Response):
    """A response whose content is serialised by orjson; NumPy arrays become lists."""

    media_type = JSON_TYPE

    def render(self, content: Any) -> bytes:
        """The JSON of the content."""
        return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


async def while_connected(request: Request, work: Awaitable[Any]) -> Any:
    """Awaits work, and cancels it when the client closes the connection.

    Call it after the body was read. The body of a request must not be read afterwards.

    Raises:
        ClientDisconnected: The client left first.
    """
    watcher: list[asyncio.Task[None]] = []

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        state_of(request).metrics.dropped("disconnect")
        gone.interrupt()

    with _Interrupt() as gone:
        timer = gone.loop.call_later(WATCH_AFTER_S, lambda: watcher.append(asyncio.ensure_future(watch())))
        try:
            return await work
        finally:
            timer.cancel()
            for running in watcher:
                running.cancel()
    raise ClientDisconnected
