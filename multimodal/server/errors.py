"""Errors of the HTTP server, always in the shape of OpenAI's: {"error": {"message", "type", "param", "code"}}.

A message names a field of the request and the cure. It never holds a path, a key or a traceback: the request id in the
header `x-request-id` leads from an answer to the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from multimodal.core.errors import (
    AnswerError,
    EncoderError,
    IndexBusy,
    InvalidInput,
    MediaError,
    MediaNotFound,
    MediaTooLarge,
    MissingExtra,
    MultimodalError,
    UnknownModel,
    UnsupportedModality,
)

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
}
RETRY_AFTER_S = "1"


class ApiError(Exception):
    """An answer other than success.

    Args:
        status: The HTTP status.
        message: What is wrong, what was expected, and the cure.
        param: The field of the request that is at fault, such as "input[3]".
        code: A short name of the problem that a program can compare.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        if status in (429, 503):
            self.headers.setdefault("retry-after", RETRY_AFTER_S)
        elif status >= 400:  # clients retry 408, 409 and 5xx otherwise, and would get the same answer
            self.headers.setdefault("x-should-retry", "false")

    def body(self) -> bytes:
        """The JSON of the response."""
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        content: dict[str, Any] = {
            "message": self.message,
            "type": kind,
            "param": self.param,
            "code": self.code,
        }
        return orjson.dumps({"error": content})


class ClientDisconnected(Exception):
    """The client closed the connection before the answer was ready."""


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400 for a field of the request."""
    return ApiError(400, message, param=param, code=code)


def overloaded(waiting: int) -> ApiError:
    """A 429 for a full queue."""
    return ApiError(429, f"{waiting:,} items are waiting already; try again in a second", code="overloaded")


def from_exception(error: BaseException, param: str | None = None) -> ApiError:
    """The answer to an error that a handler did not catch.

    Args:
        error: The exception.
        param: The field whose value caused it, if that is known.

    Returns:
        A 4xx for deliberate errors about the input; a 500 that says nothing for anything else.
    """
    if isinstance(error, ApiError):
        if param is not None and error.param is None:
            error.param = param
        return error
    if isinstance(error, MediaTooLarge):
        return ApiError(413, _without_path(error), param=param, code="media_too_large")
    if isinstance(error, MediaNotFound):  # its message names a path of this machine
        return ApiError(404, "the file of this item is no longer there", param=param, code="media_not_found")
    if isinstance(error, UnknownModel):
        return ApiError(404, str(error), param=param or "model", code="model_not_found")
    if isinstance(error, IndexBusy):
        return ApiError(503, "the index is being written by another process; try again", code="index_busy")
    if isinstance(error, MediaError | InvalidInput | UnsupportedModality):
        code = "invalid_media" if isinstance(error, MediaError) else None
        code = "unsupported_modality" if isinstance(error, UnsupportedModality) else code
        return ApiError(400, _without_path(error), param=param, code=code)
    if isinstance(error, MissingExtra):
        return ApiError(501, str(error), param=param, code="not_installed")
    if isinstance(error, AnswerError):  # its message names a server that clients need not know
        return ApiError(
            502, "the language model failed; the log of the server has the details under this request id",
            code="model_failed",
        )  # fmt: skip
    code = "encoder_error" if isinstance(error, EncoderError) else "internal_error"
    known = isinstance(error, MultimodalError)
    reason = "the model failed" if known else "an internal error"
    return ApiError(500, f"{reason}; the log of the server has the details under this request id", code=code)


def _without_path(error: BaseException) -> str:
    """The message of an error about media, without advice that is for callers in Python."""
    message = str(error)
    for advice in ("; if you trust it, allow it with", ", or allow it with", "; it is"):
        message = message.partition(advice)[0]
    return message
