"""The requests that bring a repository's files into huggingface_hub's cache, and the check of what came."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal.core.errors import DownloadError, MultimodalError
from multimodal.core.hub import cache as cache
from multimodal.core.hub.cache import Address
from multimodal.core.hub.errors import ask

PUBLIC = "https://huggingface.co"
_switching = threading.Lock()
_plain: list[bool] = []  # what huggingface_hub's switch stood at, for each transfer that turned it


def head(at: Address, revision: str, name: str, *, patient: bool = True) -> Any:
    """huggingface_hub's HfFileMetadata: commit_hash, etag, size, xet_file_data. patient: see `ask`."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    cache.inside(name)
    address = hf_hub_url(at.repo, name, revision=revision, endpoint=at.endpoint)
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    found = ask(
        lambda: get_hf_file_metadata(address, timeout=timeout, endpoint=at.endpoint),
        at,
        name,
        patient=patient,
    )
    if found.commit_hash is None or found.etag is None:
        raise DownloadError(
            f"{at.endpoint} answered for {name} of {at.repo} as no model hub does (no commit or no ETag); check "
            "HF_ENDPOINT, and whether a proxy stands between"
        )
    return found


def commit_and_names(at: Address, *, patient: bool) -> tuple[str, list[str]]:
    """The commit a revision is at, and the names of all its files, sorted. A commit is asked for once."""
    if at.pinned and (names := at.listing(at.revision)) is not None:
        return at.revision, names
    from huggingface_hub import HfApi, constants

    what = "the list of files"
    api = HfApi(endpoint=at.endpoint)
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    info = ask(
        lambda: api.model_info(at.repo, revision=at.revision, timeout=timeout), at, what, patient=patient
    )
    if not info.sha or info.siblings is None:
        raise DownloadError(
            f"{at.endpoint} gave no {what} of {at.repo}; check that HF_ENDPOINT is a model hub"
        )
    names = sorted(one.rfilename for one in info.siblings)
    at.remember_listing(info.sha, names)
    return info.sha, names


def obtain(at: Address, commit: str, name: str, announced: Any) -> Path:
    """A file of a commit: fetched by one process while others wait, and compared with its digest."""
    from huggingface_hub.utils import WeakFileLock

    if (found := at.find(commit, name)) is not None:
        return found
    lock, unchecked = at.guard(commit, name, "lock"), at.guard(commit, name, "unchecked")
    ask(lambda: lock.parent.mkdir(parents=True, exist_ok=True), at, name)
    with contextlib.ExitStack() as held:
        ask(lambda: held.enter_context(WeakFileLock(lock)), at, name)
        if (found := at.find(commit, name)) is not None:
            return found
        cache.require_room(cache.hub_cache(), announced.size or 0, f"{name} of {at.repo}")
        # The note says what to compare the file with: if this process dies before it did so, the next one does
        ask(lambda: unchecked.write_text(announced.etag, encoding="utf-8"), at, name)
        try:
            path = _download(at, commit, name, announced)
        except MultimodalError:
            unchecked.unlink(missing_ok=True)
            raise
        _settle(at, path, name, unchecked)
    return path


def _download(at: Address, commit: str, name: str, announced: Any) -> Path:
    """Past Xet at a mirror, which passes on the public hub's offer of it but seldom has the service behind it; and past
    it where it fails, since some networks let the hub through and not that service."""
    from huggingface_hub import hf_hub_download

    options = {"revision": commit, "endpoint": at.endpoint, "cache_dir": cache.hub_cache()}
    if announced.xet_file_data is not None and at.endpoint == PUBLIC:
        with contextlib.suppress(
            RuntimeError, OSError
        ):  # what goes wrong there; the plain way says it if it lasts
            return Path(hf_hub_download(at.repo, name, **options))
    with _without_xet() if announced.xet_file_data is not None else contextlib.nullcontext():
        return Path(ask(lambda: hf_hub_download(at.repo, name, **options), at, name))


@contextlib.contextmanager
def _without_xet() -> Iterator[None]:
    """huggingface_hub knows no option for one call, so its own switch is turned, and turned back by the last to leave.
    Another thread's transfer that begins meanwhile goes the plain way too."""
    from huggingface_hub import constants

    with _switching:
        _plain.append(constants.HF_HUB_DISABLE_XET)
        constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        with _switching:
            before = _plain.pop()
            constants.HF_HUB_DISABLE_XET = before


def checked(at: Address, commit: str, name: str) -> Path | None:
    """A file in the cache, compared with its digest if a process died before it could be."""
    path, unchecked = at.snapshot(commit) / cache.inside(name), at.guard(commit, name, "unchecked")
    if path.is_file() and unchecked.is_file():
        with contextlib.suppress(FileNotFoundError):  # whoever fetched it lives, and has just settled it
            _settle(at, path, name, unchecked)
    return at.find(commit, name)


def _settle(at: Address, path: Path, name: str, unchecked: Path) -> None:
    if not cache.check(path, unchecked.read_text(encoding="utf-8")):
        cache.remove(path)
        unchecked.unlink(missing_ok=True)
        raise DownloadError(
            f"{name} of {at.repo} is not what {at.endpoint} announced: its digest differs, and it was not kept; try "
            "again, and if it lasts, tell whoever runs the hub"
        )
    unchecked.unlink(missing_ok=True)
