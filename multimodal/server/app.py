"""The ASGI application, and how to add endpoints to it.

To add endpoints, add a module to `multimodal/server/routes/` that defines

    ENDPOINTS: list[Endpoint]

and nothing else is needed: `create_app` finds the module, and the schema at `/openapi.json` lists the endpoints. A
handler takes a Starlette `Request` and returns a Starlette `Response`:

    class Question(RequestModel):                       # pydantic; unknown keys are ignored, null is absent
        input: str

    async def answer(request: Request) -> Response:
        state = state_of(request)                       # models, indexes, pools; see `state.State`
        question = await read_json(request, Question)   # 400 naming the field; `read_body` for other bodies
        model = state.model(None)                       # 404 with close matches for an unknown name
        checked = await state.in_media_pool(state.media.string, uri, "image")          # media: data URI, base64, URL
        rows = await while_connected(request, model.encode([checked]))                 # batched with other requests
        return JsonResponse({"rows": rows})

    ENDPOINTS = [Endpoint("/v1/answer", answer, summary="Answer a question.", request=Question)]

Before a handler runs, the application has checked `Host`, `Origin`, the key, the content type, `--write`, and that the
models are loaded. Raise `ApiError` (errors.py) for any answer but success; errors of the toolkit, such as InvalidInput,
become 4xx by themselves, and anything else a 500 without details.

Work that blocks belongs in a thread: `state.searches` for indexes, `state.media_pool` for media, `state.writes` for
changes, or a `state.Pool` of your own (made by `state.extra`, and closed by `state.on_close`). Wrap what takes
long in `while_connected`, which cancels it when the client leaves. A stream is a `StreamingResponse`. An ASGI
application, such as that of MCP, is `Endpoint(path, app=…)`.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import os
import pkgutil
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.routing import compile_path

from multimodal.server import routes
from multimodal.server.config import ServerConfig
from multimodal.server.endpoint import Asgi, Endpoint, too_large
from multimodal.server.errors import ApiError, ClientDisconnected, from_exception
from multimodal.server.http.logs import log_request
from multimodal.server.http.security import Guard, check_content
from multimodal.server.state import State
from multimodal.server.web.sessions import Sessions

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_METHODS = {"POST", "PUT", "PATCH"}
UNKNOWN_ROUTE = "unknown"
CLIENT_CLOSED = 499  # in logs and metrics only, as nginx counts it
REQUEST_ID = re.compile(rb"[\w.-]{1,64}\Z")
CORS_HEADERS = b"authorization, content-type, x-api-key, x-request-id"
log = logging.getLogger(__name__)


class RequestIds:
    """Ids that are unique among all servers, and cheap."""

    def __init__(self) -> None:
        self._prefix, self._numbers = os.urandom(6).hex(), itertools.count(1)

    def next(self, given: bytes | None) -> str:
        """The id that the client sent, if it is a plain one; else a new one."""
        if given is not None and REQUEST_ID.match(given):
            return given.decode()
        return f"{self._prefix}-{next(self._numbers)}"


class Routes:
    """Finds the endpoint of a path."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        self._exact: dict[str, dict[str, Endpoint]] = {}
        self._patterns: list[tuple[re.Pattern[str], Mapping[str, Any], dict[str, Endpoint]]] = []
        patterns: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            paths = [endpoint.path]
            if endpoint.path.startswith("/v1/"):
                paths.append(endpoint.path.removeprefix("/v1"))
            for path in paths:
                table = patterns if "{" in path else self._exact
                for method in endpoint.methods:
                    table.setdefault(path, {}).setdefault(method, endpoint)
        # "/items/{id:path}/thumb" before "/items/{id:path}": the longer pattern is the more special one
        for path in sorted(patterns, key=len, reverse=True):
            regex, _, convertors = compile_path(path)
            self._patterns.append((regex, convertors, patterns[path]))

    def find(self, path: str, method: str) -> tuple[Endpoint, dict[str, Any]]:
        """The endpoint and its path parameters. Raises ApiError (404 or 405)."""
        by_method, values = self._exact.get(path), {}
        if by_method is None:
            for regex, convertors, candidates in self._patterns:
                if match := regex.match(path):
                    by_method = candidates
                    values = {key: convertors[key].convert(value) for key, value in match.groupdict().items()}
                    break
        if by_method is None:
            raise ApiError(404, "there is nothing at this path; /openapi.json lists all paths")
        endpoint = by_method.get("GET" if method == "HEAD" else method)
        if endpoint is None:
            allowed = ", ".join(by_method)
            raise ApiError(405, f"this path takes {allowed}, got {method}", headers={"allow": allowed})
        return endpoint, values


class App:
    """The ASGI application of one server.

    Attributes:
        state: What its handlers share.
        endpoints: All endpoints, for the schema.
        serve: Answers one request.
    """

    def __init__(self, config: ServerConfig, endpoints: list[Endpoint]) -> None:
        self.state = State(config)
        self.endpoints = endpoints
        self.state.extras["endpoints"] = endpoints
        self._routes = Routes(endpoints)
        self._guard = Guard(config)
        self.state.extras[Sessions.NAME] = self._guard.sessions
        self._ids = RequestIds()
        self._loading: asyncio.Task[None] | None = None
        self.serve: Asgi = self._serve  # one request; a middleware may wrap it
        self.on_failure: Callable[[], None] = lambda: None  # called when loading fails

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, as ASGI defines it."""
        if scope["type"] == "http":
            await self.serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    # --- one request ------------------------------------------------------------------------------------

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = self._ids.next(headers.get(b"x-request-id"))
        answer = _Answer(send, request_id)
        scope["multimodal"], scope["multimodal.request_id"] = self.state, request_id
        share = scope["multimodal.body"] = self.state.body_budget.share()
        route, failure = UNKNOWN_ROUTE, None
        try:
            try:
                self._guard.check_host(headers)
                answer.origin = self._guard.check_origin(headers)
                if scope["method"] == "OPTIONS" and answer.origin is not None:
                    await _preflight(answer)
                    return
                endpoint, scope["path_params"] = self._routes.find(scope["path"], scope["method"])
                route = endpoint.path
                self._admit(endpoint, scope, headers)
                if (size := headers.get(b"content-length")) is not None:
                    share.grow_to(self._content_length(size))
                await _handle(endpoint, scope, receive, answer)
            except ClientDisconnected:
                answer.status = answer.status or CLIENT_CLOSED
            except Exception as error:
                failure = error
                await answer.fail(_unwrapped(error))
        finally:
            share.release()
            seconds = time.perf_counter() - start
            self.state.metrics.request(route, answer.status or CLIENT_CLOSED, seconds)
            log_request(scope, request_id, answer.status or CLIENT_CLOSED, seconds, failure,
                        every=self.state.config.log_requests)  # fmt: skip

    def describe_span(self, scope: Scope) -> tuple[str, dict[str, Any]]:
        """The name and attributes of a trace's span: by the route, since paths hold ids."""
        try:
            route = self._routes.find(scope["path"], scope["method"])[0].path
        except ApiError:
            route = UNKNOWN_ROUTE
        return f"{scope['method']} {route}", {"http.route": route}

    def _admit(self, endpoint: Endpoint, scope: Scope, headers: Mapping[bytes, bytes]) -> None:
        """Raises ApiError unless the request may reach its handler."""
        if not endpoint.is_public:
            self._guard.check_key(headers)
        if scope["method"] in BODY_METHODS and endpoint.app is None:
            check_content(headers, endpoint.content)
        if endpoint.needs_write and not self.state.config.write:
            raise ApiError(403, "this server is read-only; start it with --write to allow changes")
        if not endpoint.when_loading:
            self.state.check_ready()

    def _content_length(self, value: bytes) -> int:
        size = int(value) if value.isdigit() else 0
        limit = self.state.config.ceilings.body_bytes
        if size > limit:
            raise too_large(size, limit)
        return size

    # --- start and stop ---------------------------------------------------------------------------------

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._loading = asyncio.ensure_future(self._load())
                await send({"type": "lifespan.startup.complete"})
            else:
                if self._loading is not None:
                    await self._loading
                await asyncio.to_thread(self.state.close)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _load(self) -> None:
        try:
            await asyncio.to_thread(self.state.load)
        except Exception as error:
            self.state.failure = str(error) or type(error).__name__
            log.error("loading failed: %s", self.state.failure, exc_info=error)
            self.on_failure()


class _Answer:
    """The response of one request: adds headers that every response has, and remembers the status."""

    __slots__ = ("_id", "_send", "origin", "status")

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._id = send, request_id.encode()
        self.status = 0
        self.origin: str | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"] = list(message.get("headers", ()))
            headers += ((b"x-request-id", self._id), (b"x-content-type-options", b"nosniff"))
            if self.origin is not None:
                headers += ((b"access-control-allow-origin", self.origin.encode()), (b"vary", b"Origin"))
        await self._send(message)

    async def fail(self, error: BaseException) -> None:
        """Sends an error response, unless a response has already started."""
        if self.status:
            return
        answer = from_exception(error)
        body = answer.body()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [
            (key.encode(), value.encode("latin-1", "replace")) for key, value in answer.headers.items()
        ]
        await self({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


async def _handle(endpoint: Endpoint, scope: Scope, receive: Receive, answer: _Answer) -> None:
    if endpoint.app is not None:
        await endpoint.app(scope, receive, answer)
        return
    assert endpoint.handler is not None
    response = await endpoint.handler(Request(scope, receive))
    await response(scope, receive, answer)


async def _preflight(answer: _Answer) -> None:
    headers = [(b"access-control-allow-methods", b"GET, POST, DELETE"), (b"access-control-max-age", b"600")]
    headers.append((b"access-control-allow-headers", CORS_HEADERS))
    await answer({"type": "http.response.start", "status": 204, "headers": headers})
    await answer({"type": "http.response.body", "body": b""})


def _unwrapped(error: BaseException) -> BaseException:
    """The first error of a group of tasks."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def find_endpoints() -> list[Endpoint]:
    """The endpoints of all modules in `multimodal.server.routes`."""
    found: list[Endpoint] = []
    for module in sorted(pkgutil.iter_modules(routes.__path__), key=lambda module: module.name):
        found += importlib.import_module(f"{routes.__name__}.{module.name}").ENDPOINTS
    return found


def create_app(config: ServerConfig) -> App:
    """Builds the application of a server. Models are loaded when it starts.

    Args:
        config: What is served, and who may use it.

    Returns:
        An ASGI application.
    """
    app = App(config, find_endpoints())
    if config.telemetry:
        from multimodal.server.http.telemetry import traced

        app.serve = traced(app.serve, default_span_details=app.describe_span)
    return app
