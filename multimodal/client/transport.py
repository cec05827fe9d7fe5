"""HTTP to one server: kept connections, retries while it is busy, and its errors as exceptions of the toolkit."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from multimodal.core.errors import (
    IndexStateError,
    InvalidInput,
    MediaError,
    MediaTooLarge,
    ServerError,
    UnknownModel,
    UnsupportedModality,
)

RETRIES = 4  # while the queues of the server are full; while it loads, until the timeout
MAX_WAIT_S = 5.0  # between two of them
BUSY = (429, 503)
ERRORS: dict[str, type[Exception]] = {
    "model_not_found": UnknownModel,
    "index_not_found": IndexStateError,
    "invalid_media": MediaError,
    "media_too_large": MediaTooLarge,
    "unsupported_modality": UnsupportedModality,
}


class Reply(NamedTuple):
    """A successful answer."""

    content_type: str
    body: bytes

    def json(self) -> Any:
        """The content as JSON values."""
        return json.loads(self.body)


class Transport:
    """Requests to one server. May be used from several threads; each has a connection of its own.

    Args:
        url: Of the server, such as "http://127.0.0.1:7997".
        api_key: A key, if the server asks for one.
        timeout: Seconds to wait for an answer.

    Raises:
        InvalidInput: The URL is not one of http or https.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 60.0) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput(
                f"the address of a server looks like 'http://127.0.0.1:7997', got {url!r}; `multimodal serve` prints it"
            )
        self.url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._parts, self._timeout = parts, timeout
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._local = threading.local()
        self._opened: weakref.WeakSet[http.client.HTTPConnection] = weakref.WeakSet()

    def get(self, path: str) -> Any:
        """GETs JSON."""
        return self.request("GET", path).json()

    def post(self, path: str, content: Mapping[str, Any]) -> Any:
        """POSTs JSON and returns the JSON answer."""
        body = json.dumps(content, allow_nan=False).encode()
        return self.request("POST", path, body, {"content-type": "application/json"}).json()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request, repeated while the server is busy.

        Raises:
            InvalidInput: The server refused the content of the request.
            UnknownModel: It has no such model.
            IndexStateError: It has no such index.
            ServerError: It cannot be reached, or answered with another error.
        """
        start, attempt = time.monotonic(), 0
        while True:
            status, answered, content = self._send(method, path, body, dict(headers or {}))
            attempt += 1
            is_loading = (
                status == 503 and b'"loading"' in content and time.monotonic() - start < self._timeout
            )
            if status not in BUSY or (attempt > RETRIES and not is_loading):
                break
            time.sleep(min(_seconds(answered.get("retry-after")) * attempt, MAX_WAIT_S))
        if status < 400:
            return Reply(answered.get("content-type") or "", content)
        raise self._error(status, content)

    def close(self) -> None:
        """Closes all connections; a later request opens a new one."""
        for connection in list(self._opened):
            connection.close()
        self._local = threading.local()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # of a half-made object, or at the end of the interpreter
            self.close()

    def _drop(self) -> None:
        """Closes the connection of this thread."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        is_kept = getattr(self._local, "connection", None) is not None
        try:
            return self._exchange(method, path, body, headers)
        except (http.client.HTTPException, ConnectionError) as error:
            self._drop()
            if not is_kept:
                raise self._unreachable(error) from error
        except OSError as error:
            self._drop()
            raise self._unreachable(error) from error
        try:  # the server had closed the kept connection
            return self._exchange(method, path, body, headers)
        except (http.client.HTTPException, OSError) as error:
            self._drop()
            raise self._unreachable(error) from error

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            self._opened.add(connection)
        prefix = self._parts.path.rstrip("/")
        connection.request(method, prefix + path, body, self._headers | headers)
        response = connection.getresponse()
        content = response.read()
        return response.status, response.headers, content

    def _connect(self) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, self._parts.port, timeout=self._timeout, context=context)
        connection = http.client.HTTPConnection(host, self._parts.port, timeout=self._timeout)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _unreachable(self, error: Exception) -> ServerError:
        reason = str(error) or type(error).__name__
        return ServerError(
            f"no answer from {self.url}: {reason}; start a server with: multimodal serve INDEX"
        )

    def _error(self, status: int, content: bytes) -> Exception:
        try:
            about = json.loads(content)["error"]
            message, code = str(about["message"]), about.get("code")
        except (ValueError, KeyError, TypeError):
            return ServerError(
                f"{self.url} answered with HTTP status {status}, not as multimodal serve does", status
            )
        kind = ERRORS.get(code or "", InvalidInput if status in (400, 413) else None)
        return ServerError(f"{self.url}: {message}", status) if kind is None else kind(message)


def _seconds(value: str | None) -> float:
    try:
        return min(float(value or 1), MAX_WAIT_S)
    except ValueError:
        return 1.0
