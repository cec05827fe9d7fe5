"""The HTTP protocol of uvicorn, with what it lacks against slow clients: a deadline and a size for headers, a deadline
for reading responses, and a cap on connections.

A connection that has not sent a complete request within `header_s` is closed. When there are too many connections, the
oldest that has no request running is closed to make room, so that thousands of idle ones never lock others out.

A response that its client does not read stays in memory, and its stream keeps a lane. The connection is closed when the
client reads less than MIN_READ_BYTES within `read_s`, or when all such responses together exceed `unread_bytes`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from multimodal.server.config import Ceilings

MAX_HEAD_BYTES = 64 << 10
MIN_READ_BYTES = 32 << 10  # of a response, within the deadline
HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)


def protocol_class(ceilings: Ceilings) -> type[HttpToolsProtocol]:
    """A protocol with these deadlines; all of its connections share one list."""
    idle: dict[HttpToolsProtocol, None] = {}  # connections without a running request, oldest first
    unread: dict[HttpToolsProtocol, None] = {}  # connections whose client lags behind, the slowest first

    class Protocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None
        _head_bytes = 0  # of a request whose headers are not complete
        _reading: asyncio.TimerHandle | None = None
        _unread_bytes = 0  # when the timer was set

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            idle[self] = None
            self._arm()
            if len(self.connections) > ceilings.connections:
                _close_oldest(idle)

        def connection_lost(self, exc: Exception | None) -> None:
            idle.pop(self, None)
            self._disarm()
            self._forget_reader()
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
            elif self._reading is None:
                self._watch_reader()

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            if self._reading is None:  # closing waits until the client has read the rest
                self._watch_reader()

        def pause_writing(self) -> None:
            super().pause_writing()
            unread[self] = None
            self._watch_reader()
            if sum(map(_unread_bytes, unread)) > ceilings.unread_bytes:
                next(iter(unread)).transport.abort()

        def resume_writing(self) -> None:
            super().resume_writing()
            self._forget_reader()

        def _watch_reader(self) -> None:
            self._unread_bytes = _unread_bytes(self)
            self._reading = self.loop.call_later(ceilings.read_s, self._check_reader)

        def _check_reader(self) -> None:
            if self._unread_bytes - _unread_bytes(self) < MIN_READ_BYTES:
                self.transport.abort()
            else:
                self._watch_reader()

        def _forget_reader(self) -> None:
            unread.pop(self, None)
            if self._reading is not None:
                self._reading.cancel()
                self._reading = None

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


def _unread_bytes(protocol: HttpToolsProtocol) -> int:
    return protocol.transport.get_write_buffer_size()


def _close_oldest(idle: dict[HttpToolsProtocol, None]) -> None:
    for protocol in idle:
        if not protocol.transport.is_closing():
            del idle[protocol]
            protocol.transport.abort()
            return
