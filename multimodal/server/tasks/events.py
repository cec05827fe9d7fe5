"""Server-sent events. A stream begins with its first event, so that an error before it has a status of its own.

While a call waits or works, comments keep the connection open: `: progress {"done": 3, "total": 20}`. Clients that know
nothing of them skip comments.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from multimodal.server.endpoint import while_connected
from multimodal.server.errors import from_exception
from multimodal.server.tasks.lane import Progress

FIRST_S = 1.0  # waited for the first event before the stream begins without one
KEEP_ALIVE_S = 10.0
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}
DONE = b"data: [DONE]\n\n"
EVENT_STREAM = "text/event-stream"
log = logging.getLogger(__name__)


def event(content: Mapping[str, Any], *, named: bool = False) -> bytes:
    """One event with JSON data. named: its `type` is the name of the event too, as OpenAI's newer streams have it."""
    name = f"event: {content['type']}\n" if named else ""
    return name.encode() + b"data: " + orjson.dumps(content) + b"\n\n"


def progress_comment(progress: Progress) -> bytes:
    """A comment that says how far a call is."""
    return b": progress " + orjson.dumps(progress._asdict()) + b"\n\n"


async def event_stream(request: Request, events: AsyncIterator[bytes]) -> Response:
    """A response that streams events, and closes their iterator when the client leaves.

    Args:
        request: The request, whose body was read.
        events: Encoded events and comments.

    Returns:
        The response.

    Raises:
        ApiError: Whatever `events` raises before its first event.
        ClientDisconnected: The client left before it.
    """
    first = asyncio.ensure_future(anext(events))
    try:
        await while_connected(request, asyncio.wait({first}, timeout=FIRST_S))
        if first.done():
            first.result()
    except BaseException:
        await _stop(first, events)
        raise
    return StreamingResponse(_body(first, events), media_type=EVENT_STREAM, headers=HEADERS)


async def _body(first: asyncio.Task[bytes], events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    upcoming = first
    try:
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=KEEP_ALIVE_S)
            if not done:
                yield b": waiting\n\n"
                continue
            try:
                yield upcoming.result()
            except StopAsyncIteration:
                return
            except Exception as error:
                log.error("a stream failed", exc_info=error)
                yield b"data: " + from_exception(error).body() + b"\n\n"
                return
            upcoming = asyncio.ensure_future(anext(events))
    finally:
        await _stop(upcoming, events)


async def _stop(upcoming: asyncio.Task[bytes], events: AsyncIterator[bytes]) -> None:
    upcoming.cancel()
    with contextlib.suppress(BaseException):
        await upcoming
    with contextlib.suppress(Exception):
        await events.aclose()  # type: ignore[attr-defined]  # an async generator
