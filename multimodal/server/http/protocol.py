"""The HTTP protocol of uvicorn, with what it lacks against slow clients: a deadline and a size for headers, and a cap
on connections.

A connection that has not sent a complete request within `header_s` is closed. When there are too many connections, the
oldest that has no request running is closed to make room, so that thousands of idle ones never lock others out.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from multimodal.server.config import Ceilings

MAX_HEAD_BYTES = 64 << 10
HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


def protocol_class(ceilings: Ceilings) -> type[HttpToolsProtocol]:
    """A protocol with these deadlines; all of its connections share one list."""
    idle: dict[HttpToolsProtocol, None] = {}  # connections without a running request, oldest first

    class Protocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None
        _head_bytes = 0  # of a request whose headers are not complete

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            idle[self] = None
            self._arm()
            if len(self.connections) > ceilings.connections:
                _close_oldest(idle)

        def connection_lost(self, exc: Exception | None) -> None:
            idle.pop(self, None)
            self._disarm()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            cycle: Any = self.cycle
            if self._deadline is None and (cycle is None or cycle.response_complete):
                self._arm()  # the first bytes of another request on a kept connection
            if self._deadline is not None:
                self._head_bytes += len(data)
            super().data_received(data)
            if self._deadline is not None and self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(HEAD_TOO_LARGE)
                self.transport.close()

        def on_headers_complete(self) -> None:
            idle.pop(self, None)
            self._disarm()
            super().on_headers_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self.transport.is_closing():
                idle[self] = None

        def _arm(self) -> None:
            self._head_bytes = 0
            self._deadline = self.loop.call_later(ceilings.header_s, self._expire)

        def _disarm(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _expire(self) -> None:
            self._deadline = None
            self.transport.abort()

    return Protocol


def _close_oldest(idle: dict[HttpToolsProtocol, None]) -> None:
    for protocol in idle:
        if not protocol.transport.is_closing():
            del idle[protocol]
            protocol.transport.abort()
            return
