"""What can go wrong between here and a hub, each told in one sentence with its cure."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import TypeVar

from multimodal.core.errors import DownloadError, MultimodalError, UnknownModel
from multimodal.core.hub.cache import Address

T = TypeVar("T")

BUSY = (408, 425, 429, 500, 502, 503, 504)
WAITS_S = (0.5, 1.0, 2.0)  # before the second, third and fourth attempt
PATIENCE_S = 8.0  # after which nothing more is attempted: a hub that let us wait this long will do so again
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


def persist(action: Callable[[], T], passing: Callable[[BaseException], bool]) -> T:
    """What `action` returns, tried again after a while as long as its error is `passing`, for a few seconds."""
    start = time.monotonic()
    for wait in WAITS_S:
        try:
            return action()
        except Exception as error:
            if not passing(error) or time.monotonic() + wait - start > PATIENCE_S:
                raise
        time.sleep(wait)
    return action()


def ask(action: Callable[[], T], at: Address, what: str, *, patient: bool = True) -> T:
    """What `action`, some request of huggingface_hub's, returns. what: "config.json", "the list of files".

    patient: whether to try again what may pass. Raises UnknownModel for what is not there, else DownloadError.
    """
    try:
        return persist(action, _passing) if patient else action()
    except MultimodalError:
        raise
    except Exception as error:
        raise translated(error, at, what) from error


def translated(error: Exception, at: Address, what: str) -> MultimodalError:
    """An error of huggingface_hub's, or of the disk, as one of ours."""
    from huggingface_hub import errors

    cause = _root(error)
    if isinstance(cause, errors.HfHubHTTPError):
        return _refused(cause, at, what)
    if isinstance(cause, errors.HTTPError):  # of httpx: no answer, or one broken off
        return DownloadError(
            f"{what} of {at.repo} could not be fetched: {at.endpoint} cannot be reached or broke off "
            f"({_short(cause)}); check the network and HF_ENDPOINT, or use what is in the cache with offline=True"
        )
    if isinstance(cause, OSError) and cause.errno in FULL:
        return DownloadError(f"{what} of {at.repo} could not be kept: the disk is full ({cause}); make room")
    if isinstance(cause, OSError) and cause.errno in FORBIDDEN:
        return DownloadError(
            f"{what} of {at.repo} could not be kept: the cache cannot be written to ({cause}); set HF_HOME to a "
            "folder of your own"
        )
    return DownloadError(
        f"{what} of {at.repo} could not be fetched from {at.endpoint} ({_short(cause)}); try again, and if it lasts "
        "check that HF_ENDPOINT is a model hub"
    )


def is_gone(error: MultimodalError) -> bool:
    """Whether the hub answered that this file or revision is not there, so that no older copy may stand in."""
    from huggingface_hub import errors

    return isinstance(error.__cause__, errors.EntryNotFoundError | errors.RevisionNotFoundError)


def _passing(error: BaseException) -> bool:
    from huggingface_hub import errors

    cause = _root(error)
    if isinstance(cause, errors.HfHubHTTPError):
        return cause.response.status_code in BUSY
    return isinstance(cause, errors.HTTPError)


def _root(error: BaseException) -> BaseException:
    """huggingface_hub hides why a request failed behind "not found in the cache"."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return error.__cause__
    return error


def _refused(error: BaseException, at: Address, what: str) -> MultimodalError:
    from huggingface_hub import errors

    response = error.response  # type: ignore[attr-defined]
    status: int = response.status_code
    if isinstance(error, errors.EntryNotFoundError):
        return UnknownModel(f"{at} has no {what} (HTTP {status}); check the name")
    if isinstance(error, errors.RevisionNotFoundError):
        return UnknownModel(
            f"{at.repo} has no revision {at.revision!r} at {at.endpoint} (HTTP {status}); give a branch, a tag or a "
            "whole commit hash"
        )
    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{at.repo} is gated (HTTP {status}): accept its licence at {at.endpoint}/{at.repo}, then set HF_TOKEN to "
            "a token of that account"
        )
    if isinstance(error, errors.DisabledRepoError):
        return DownloadError(f"{at.repo} was disabled by {at.endpoint} (HTTP {status}); choose another model")
    if status in (401, 403):
        sent = "authorization" in response.request.headers
        cure = (
            "the token sent (HF_TOKEN, or 'hf auth login') is not one that may read it"
            if sent
            else ("set HF_TOKEN to a token that may read it")
        )
        return DownloadError(
            f"{at.endpoint} does not give {what} of {at.repo} (HTTP {status}): it is private, or no repository has "
            f"that name; check the name, and {cure}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return UnknownModel(f"no repository {at.repo!r} at {at.endpoint} (HTTP {status}); check the name")
    if status == 404:
        return UnknownModel(
            f"{at} is not there or has no {what} (HTTP {status}); check the name and HF_ENDPOINT"
        )
    if status in BUSY:
        return DownloadError(
            f"{at.endpoint} cannot give {what} of {at.repo} now (HTTP {status}, asked more than once); try again later"
        )
    return DownloadError(
        f"{at.endpoint} refused to give {what} of {at.repo} (HTTP {status}: {_short(error)}); check the name and "
        "HF_ENDPOINT"
    )


def _short(error: BaseException) -> str:
    """The first line of an error's text, or its kind if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
