"""The tools of `multimodal mcp` over HTTP, at /mcp: stateless, so that any server behind a balancer can answer."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item
from multimodal.server.endpoint import ANY_TYPE, Endpoint
from multimodal.server.errors import ApiError
from multimodal.server.mcp.stdio import caption_result, transcription_result
from multimodal.server.mcp.tools import IndexTools
from multimodal.server.tasks.answers import Asked, answers_of
from multimodal.server.tasks.models import Task, TaskModels, task_models_of

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

    from multimodal.server.state import State

KEY = "mcp"  # in State.extras


class McpSessions:
    """The session manager of one server, which lives in a task of the event loop until the server stops."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._manager: StreamableHTTPSessionManager | None = None
        self._ready, self._stop = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._live())
        state.on_close(self._close)

    async def _run(self, call: Callable[[], Any]) -> Any:
        """Runs a tool in a thread. What the server refuses, such as a full queue, is an error that assistants read."""
        try:
            return await self._state.searches.run(call)
        except ApiError as error:
            raise InvalidInput(error.message) from error

    def _close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)

    async def manager(self) -> StreamableHTTPSessionManager:
        """The running manager."""
        await self._ready.wait()
        if self._manager is None:
            raise ApiError(500, "the server for assistants could not be started; the log has the reason")
        return self._manager

    async def _live(self) -> None:
        from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

        from multimodal.server.mcp.protocol import build_server

        try:
            server = build_server(index_tools(self._state), self._run)
            # `Host` and `Origin` were checked before this, on every path of the server
            manager = StreamableHTTPSessionManager(
                server, json_response=True, stateless=True,
                max_request_body_size=self._state.config.ceilings.body_bytes,
            )  # fmt: skip
            async with manager.run():
                self._manager = manager
                self._ready.set()
                await self._stop.wait()
        finally:
            self._ready.set()


def index_tools(state: State) -> IndexTools:
    """The tools on the indexes of a server."""
    state.index(None)  # a 404 without any
    models = task_models_of(state)
    return IndexTools(
        {name: _index_of(state, name) for name in state.indexes},
        caption=_task(models, "captioning", caption_result),
        transcribe=_task(models, "transcription", transcription_result),
        answer=lambda index, question, options: answers_of(state).lane.run_in_thread(
            answers_of(state).work(index, Asked(question), **options)
        ),
    )


def _index_of(state: State, name: str) -> Callable[[], Any]:
    return lambda: state.indexes[name].index


def _task(
    models: TaskModels, task: Task, shown: Callable[[Any], dict[str, Any]]
) -> Callable[[Item], dict[str, Any]]:
    """Runs an item through the default model of a task, in its lane; called in a thread of the searches."""

    def run(item: Item) -> dict[str, Any]:
        name = models.resolve(task, None)
        work = models.work(task, name, lambda pipeline, call: shown(pipeline(item)))
        result: dict[str, Any] = models.lanes[task].run_in_thread(work)
        return result

    return run


async def mcp(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application at /mcp."""
    state: State = scope["multimodal"]
    if importlib.util.find_spec("mcp") is None:
        raise ApiError(
            501, "a server for assistants needs mcp: pip install 'multimodal[mcp]'", code="not_installed"
        )
    state.index(None)
    sessions = state.extras.get(KEY)
    if not isinstance(sessions, McpSessions):
        sessions = state.extras[KEY] = McpSessions(state)
    await (await sessions.manager()).handle_request(scope, receive, send)


ENDPOINTS = [
    Endpoint("/mcp", methods=("POST", "GET", "DELETE"), summary="The Model Context Protocol, for assistants.",
             content=ANY_TYPE, app=mcp, tag="search"),
]  # fmt: skip
