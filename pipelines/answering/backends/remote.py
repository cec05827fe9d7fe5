"""What both SDKs share: the client without redirects, and errors that name the host, the status and the cure."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from multimodal.core.errors import AnswerError, MissingExtra
from multimodal.pipelines.answering.addresses import COMPATIBLE_KEY, KEYS, RemoteModel
from multimodal.pipelines.answering.interface import ContextOverflow

TIMEOUT_S = 120.0
MAX_RETRIES = 2
OVERFLOW = re.compile(
    r"context[_ ]length|prompt is too long|maximum context|context window|exceeds? the (available )?context|"
    r"too many (input )?tokens|input is too long|exceed_context_size",
    re.I,
)
MESSAGE_CHARS = 300


def require_sdk(package: str, name: str) -> None:
    """Raises MissingExtra unless an SDK is installed."""
    if importlib.util.find_spec(package) is None:
        raise MissingExtra(f"answering with {name!r}", package=package, extra="answers")


def http_client(sdk: Any, remote: RemoteModel, timeout_s: float) -> Any:
    """An HTTP client that follows no redirects, which could lead elsewhere, and uses no proxy for this machine."""
    return sdk.DefaultHttpxClient(follow_redirects=False, trust_env=not remote.is_loopback, timeout=timeout_s)


def translated(sdk: Any, remote: RemoteModel, error: Exception, key: str) -> Exception:
    """The error to raise for one of an SDK."""
    text = _without_key(_message(error), key)
    where = f"{remote.name!r} at {remote.host}"
    if isinstance(error, sdk.APITimeoutError):
        return AnswerError(
            f"{where} did not answer in time: ask again, raise timeout_s=, or lower max_tokens="
        )
    if isinstance(error, sdk.APIStatusError):
        status = int(error.status_code)
        request_id = getattr(error, "request_id", None)
        code = str(getattr(error, "code", "") or "")
        if status in (400, 413, 422) and (OVERFLOW.search(text) or OVERFLOW.search(code)):
            return ContextOverflow(text)
        id_text = f", request {request_id}" if request_id else ""
        return AnswerError(
            f"{where} answered with status {status}{id_text}: {text}; {_cure(remote, status)}",
            status=status,
            request_id=request_id,
        )
    if isinstance(error, sdk.APIConnectionError):
        cause = _without_key(str(error.__cause__ or error), key)
        return AnswerError(
            f"{where} cannot be reached ({cause}): check the address, and that the server runs"
        )
    if isinstance(error, sdk.APIError) and not isinstance(error, sdk.APIResponseValidationError):
        return AnswerError(f"{where} failed while it was answering: {text}; ask again")
    return AnswerError(
        f"{where} returned something that is no answer of this protocol ({type(error).__name__}: {text}): check that "
        "the address ends in the path of the API, as in …/v1"
    )


def unusable(remote: RemoteModel, response: Any) -> AnswerError:
    """For a response with status 200 that is no answer, such as the HTML of a proxy."""
    shown = " ".join(str(response).split())[:80]
    return AnswerError(
        f"{remote.name!r} at {remote.host} returned something that is no answer ({shown!r}): check that the address "
        "ends in the path of the API, as in …/v1, and that no proxy answers in its place",
        status=200,
    )


def _cure(remote: RemoteModel, status: int) -> str:
    if status in (401, 403):
        variable = KEYS[remote.protocol][0] if remote.is_official else COMPATIBLE_KEY
        return f"check the key in {variable}, and that it may use {remote.model!r}"
    if status == 404:
        return f"check that the server has a model {remote.model!r}, and the path of the address"
    if status == 429:
        return f"wait, or ask for a higher limit; it was tried {MAX_RETRIES + 1} times"
    if 300 <= status < 400:
        return "redirects are not followed: write the address that it leads to"
    if status >= 500 or status == 200:
        return "the server failed: ask again later"
    return "the request was refused: if it is about images or audio, name what the model takes with inputs="


def _message(error: Exception) -> str:
    body = getattr(error, "body", None)
    for part in (body.get("error") if isinstance(body, dict) else None, body):
        if isinstance(part, dict) and isinstance(part.get("message"), str):
            return " ".join(part["message"].split())[:MESSAGE_CHARS]
    text = getattr(error, "message", None)
    return " ".join((text if isinstance(text, str) else str(error)).split())[:MESSAGE_CHARS]


def _without_key(text: str, key: str) -> str:
    return text.replace(key, "…") if len(key) > 4 else text
