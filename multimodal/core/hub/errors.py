"""Errors of requests to a hub, each translated to one sentence with its cure; and retries of transient ones."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from multimodal.core.errors import DownloadError, MultimodalError, UnknownModel
from multimodal.core.hub.cache import Address

T = TypeVar("T")

RETRY_STATUSES = (408, 425, 429, 500, 502, 503, 504)
RETRY_WAITS_S = (0.5, 1.0, 2.0)  # before the second, third and fourth attempt
RETRY_LIMIT_S = 8.0  # no attempt starts after this long: a hub that was this slow will be slow again
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def retry(action: Callable[[], T], is_transient: Callable[[BaseException], bool]) -> T:
    """Runs `action`, and again after a pause while its error is transient, for a few seconds -> what it returns."""
    start = time.monotonic()
    for wait in RETRY_WAITS_S:
        try:
            return action()
        except Exception as error:
            if not is_transient(error) or time.monotonic() + wait - start > RETRY_LIMIT_S:
                raise
        time.sleep(wait)
    return action()


def request(action: Callable[[], T], address: Address, what: str, *, retries: bool = True) -> T:
    """Runs a request of huggingface_hub and translates its errors.

    Args:
        action: the request.
        address: the repository and endpoint, for messages.
        what: what is requested, for messages: "config.json", "the list of files".
        retries: whether to retry transient errors.

    Raises:
        UnknownModel: the repository, revision or file does not exist.
        DownloadError: any other error.
    """
    try:
        return retry(action, _is_transient) if retries else action()
    except MultimodalError:
        raise
    except Exception as error:
        raise translate_error(error, address, what) from error


def translate_error(error: Exception, address: Address, what: str) -> MultimodalError:
    """An error of huggingface_hub or of the disk as UnknownModel or DownloadError."""
    from huggingface_hub import errors

    cause = _root(error)
    if isinstance(cause, errors.HfHubHTTPError):
        return _refused(cause, address, what)
    if isinstance(cause, errors.HTTPError):  # of httpx: no response, or an incomplete one
        return DownloadError(
            f"{what} of {address.repo} could not be fetched: {address.endpoint} cannot be reached or closed the "
            f"connection "
            f"({_short(cause)}); check the network and HF_ENDPOINT, or use the cache with offline=True"
        )
    if isinstance(cause, OSError) and cause.errno in DISK_FULL:
        return DownloadError(
            f"{what} of {address.repo} could not be saved: the disk is full ({cause}); make room"
        )
    if isinstance(cause, OSError) and cause.errno in FORBIDDEN:
        return DownloadError(
            f"{what} of {address.repo} could not be saved: the cache is not writable ({cause}); set HF_HOME to a "
            "folder you can write to"
        )
    return DownloadError(
        f"{what} of {address.repo} could not be fetched from {address.endpoint} ({_short(cause)}); try again, "
        f"and if it persists "
        "check that HF_ENDPOINT is a model hub"
    )


def is_gone(error: MultimodalError) -> bool:
    """Whether the hub says that the file or revision does not exist, so that no older copy may be used."""
    from huggingface_hub import errors

    return isinstance(error.__cause__, errors.EntryNotFoundError | errors.RevisionNotFoundError)


def _is_transient(error: BaseException) -> bool:
    from huggingface_hub import errors

    cause = _root(error)
    if isinstance(cause, errors.HfHubHTTPError):
        return cause.response.status_code in RETRY_STATUSES
    return isinstance(cause, errors.HTTPError)


def _root(error: BaseException) -> BaseException:
    """The cause of a failed request, which huggingface_hub hides behind "not found in the cache"."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return error.__cause__
    return error


def _refused(error: BaseException, address: Address, what: str) -> MultimodalError:
    from huggingface_hub import errors

    response = error.response  # type: ignore[attr-defined]
    status: int = response.status_code
    if isinstance(error, errors.EntryNotFoundError):
        return UnknownModel(f"{address} has no {what} (HTTP {status}); check the name")
    if isinstance(error, errors.RevisionNotFoundError):
        return UnknownModel(
            f"{address.repo} has no revision {address.revision!r} at {address.endpoint} (HTTP {status}); give a "
            f"branch, a tag or a "
            "whole commit hash"
        )
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{address.repo} is gated (HTTP {status}): accept its licence at {address.endpoint}/{address.repo}, "
            f"then set HF_TOKEN to "
            "a token of that account"
        )
    if isinstance(error, errors.DisabledRepoError):
        return DownloadError(
            f"{address.repo} was disabled by {address.endpoint} (HTTP {status}); choose another model"
        )
    if status in (401, 403):
        sent = "authorization" in response.request.headers
        cure = (
            "use a token (HF_TOKEN, or 'hf auth login') with access to it"
            if sent
            else ("set HF_TOKEN to a token with access to it")
        )
        return DownloadError(
            f"{address.endpoint} refused access to {what} of {address.repo} (HTTP {status}): it is private or does not "
            f"exist; check the name, and {cure}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return UnknownModel(
            f"no repository {address.repo!r} at {address.endpoint} (HTTP {status}); check the name"
        )
    if status == 404:
        return UnknownModel(
            f"{address} does not exist or has no {what} (HTTP {status}); check the name and HF_ENDPOINT"
        )
    if status in RETRY_STATUSES:
        return DownloadError(
            f"{address.endpoint} cannot serve {what} of {address.repo} now (HTTP {status}, after retries); try "
            f"again later"
        )
    return DownloadError(
        f"{address.endpoint} refused to serve {what} of {address.repo} (HTTP {status}: {_short(error)}); check "
        f"the name and "
        "HF_ENDPOINT"
    )


def _short(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
