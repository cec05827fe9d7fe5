"""Structured logs: one JSON object a line."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any

import orjson

from multimodal.server.errors import ApiError

SLOW_S = 5.0
MAX_PATH_CHARS = 300
log = logging.getLogger("multimodal.server.requests")


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(level: str = "info") -> None:
    """Sends the logs of the server, of uvicorn and of warnings to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)


def log_request(
    scope: MutableMapping[str, Any],
    request_id: str,
    status: int,
    seconds: float,
    error: BaseException | None,
    *,
    every: bool,
) -> None:
    """Logs a finished request if it failed by a fault of the server or was slow, or if every one is logged."""
    is_fault = status >= 500 and not (isinstance(error, ApiError) and status == 503)
    if not (every or is_fault or seconds > SLOW_S):
        return
    client = scope.get("client")
    fields = {
        "request_id": request_id, "method": scope["method"], "path": scope["path"][:MAX_PATH_CHARS], "status": status,
        "ms": round(1000 * seconds, 1), "client": client[0] if client else None,
    }  # fmt: skip
    if is_fault:
        log.error("request failed", extra={"fields": fields}, exc_info=error)
    else:
        log.info("request", extra={"fields": fields})
