"""Downloading and verifying weights: files of a model hub, files at plain URLs, and the tensors inside.

A file is downloaded once and then read from the cache, which is huggingface_hub's own. Network requests:

    revision=<commit>           none for a file in the cache
    revision=<branch or tag>    one small request for its commit; if it fails, the cached copy is used, with a warning
    offline=True, or HF_HUB_OFFLINE=1 in the environment: none

HF_ENDPOINT is the URL of a mirror, HF_TOKEN your access token. A downloaded file is verified against the digest of the
hub before it is read. Errors are `UnknownModel` for what does not exist and `DownloadError` otherwise; after an error
the cache is unchanged, and the next call tries again.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from multimodal.core.errors import DownloadError, InvalidInput, MissingExtra, MultimodalError, UnknownModel
from multimodal.core.hub import cache as cache
from multimodal.core.hub import fetch as fetch
from multimodal.core.hub.cache import Address, is_offline
from multimodal.core.hub.errors import is_gone
from multimodal.core.hub.revisions import record_revision
from multimodal.core.hub.tensors import load_tensors
from multimodal.core.hub.url import url

__all__ = ["file", "is_offline", "listing", "load_tensors", "snapshot", "url"]


def file(
    repo: str, name: str, *, revision: str | None = None, offline: bool = False, extra: str = "hf"
) -> Path:
    """One file of a repository, from the cache or downloaded into it.

    Args:
        repo: "owner/name".
        name: its path in the repository, "folder/file.txt".
        revision: a branch, tag or commit; by default "main".
        offline: make no network requests.
        extra: the extra that installs huggingface_hub, for the message if it is missing.

    Raises:
        UnknownModel: the repository, revision or file does not exist.
        DownloadError: it cannot be downloaded, or is not cached while offline.
        MissingExtra: huggingface_hub is not installed.
    """
    address = _address(repo, revision, extra)
    path = _file(address, name, offline)
    record_revision(
        repo, path.parts[-1 - len(PurePosixPath(name).parts)]
    )  # its snapshot folder is named by the commit
    return path


def _file(address: Address, name: str, offline: bool) -> Path:
    known = address.last_commit()
    cached = None if known is None else fetch.verified(address, known, name)
    if is_offline(offline):
        if cached is None:
            raise _not_cached(address, [name])
        return cached
    if cached is not None and address.pinned:
        return cached
    try:
        announced = fetch.head(address, address.revision, name, retries=cached is None)
    except MultimodalError as error:
        if cached is None or is_gone(error):
            raise
        _warn_stale(address, error)
        return cached
    path = fetch.download(address, announced.commit_hash, name, announced)
    address.remember_commit(announced.commit_hash)
    return path


def snapshot(
    repo: str,
    *,
    patterns: Sequence[str],
    ignore: Sequence[str] = (),
    revision: str | None = None,
    offline: bool = False,
    extra: str = "hf",
) -> Path:
    """The folder of a revision, with every matching file downloaded into it.

    Args:
        repo, revision, offline, extra: see `file`.
        patterns: shell patterns of the files to download; `*` also matches "/", as in huggingface_hub.
        ignore: shell patterns of files to leave out.

    Returns:
        A folder named by the commit; pass `revision=folder.name` to later calls to read the same one.

    Raises:
        UnknownModel: the repository or revision does not exist, or no file matches.
        DownloadError: a file cannot be downloaded, or is not cached while offline.
        MissingExtra: huggingface_hub is not installed.
    """
    folder = _snapshot(_address(repo, revision, extra), patterns, ignore, offline)
    record_revision(repo, folder.name)
    return folder


def _snapshot(address: Address, patterns: Sequence[str], ignore: Sequence[str], offline: bool) -> Path:
    if is_offline(offline):
        return _offline_snapshot(address, patterns, ignore)
    present = not _lacking(address, patterns, ignore)
    if (
        present
        and address.pinned
        and (address.listing(address.revision) or set(patterns) <= set(address.present(address.revision)))
    ):
        return address.snapshot(address.revision)
    try:
        commit, names = fetch.commit_and_names(address, retries=not present)
    except MultimodalError as error:
        if is_gone(error) or not present:
            raise
        _warn_stale(address, error)
        return _offline_snapshot(address, patterns, ignore)
    wanted = _matching(names, patterns, ignore)
    if not wanted:
        raise UnknownModel(
            f"{address} has no file that matches {', '.join(map(repr, patterns))}; it has {', '.join(names) or 'none'}"
        )
    for name in wanted:
        if fetch.verified(address, commit, name) is None:
            fetch.download(address, commit, name, fetch.head(address, commit, name))
    address.remember_commit(commit)
    return address.snapshot(commit)


def listing(repo: str, *, revision: str | None = None, offline: bool = False, extra: str = "hf") -> list[str]:
    """The sorted names of the files of a revision; offline, of those in the cache.

    Raises:
        UnknownModel: the repository or revision does not exist.
        DownloadError: the list cannot be requested, or nothing is cached while offline.
    """
    address = _address(repo, revision, extra)
    known = address.last_commit()
    present = [] if known is None else address.present(known)
    if is_offline(offline):
        if not present:
            raise _not_cached(address, ["any file"])
        return present
    try:
        return fetch.commit_and_names(address, retries=not present)[1]
    except MultimodalError as error:
        if is_gone(error) or not present:
            raise
        _warn_stale(address, error, stacklevel=3)
        return present


def _address(repo: str, revision: str | None, extra: str) -> Address:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra(f"loading {repo!r} from a model hub", package="huggingface_hub", extra=extra)
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"HF_ENDPOINT must be the URL of a hub, 'https://…', got {endpoint!r}")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UnknownModel(
            f"{repo!r} is not the name of a repository, which is 'owner/name' ({error})"
        ) from error
    if revision is not None and (not revision or ".." in revision or revision.startswith("/")):
        raise UnknownModel(f"{revision!r} is not a revision of {repo}: give a branch, a tag or a commit")
    return Address(repo, revision or constants.DEFAULT_REVISION, endpoint)


def _matching(names: Sequence[str], patterns: Sequence[str], ignore: Sequence[str]) -> list[str]:
    def matches(name: str, globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, glob + "*" if glob.endswith("/") else glob) for glob in globs)

    return [name for name in names if matches(name, patterns) and not matches(name, ignore)]


def _lacking(address: Address, patterns: Sequence[str], ignore: Sequence[str]) -> list[str]:
    """The matching files of the last fetched commit that are not in the cache.

    Without its list of files (another library downloaded it), any cached match suffices: the others are unknown.
    """
    commit = address.last_commit()
    names = None if commit is None else address.listing(commit)
    if commit is None or names is None:
        present = [] if commit is None else address.present(commit)
        return [] if _matching(present, patterns, ignore) else list(patterns)
    wanted = _matching(names, patterns, ignore)
    return (
        [name for name in wanted if fetch.verified(address, commit, name) is None]
        if wanted
        else list(patterns)
    )


def _offline_snapshot(address: Address, patterns: Sequence[str], ignore: Sequence[str]) -> Path:
    commit, lacking = address.last_commit(), _lacking(address, patterns, ignore)
    if commit is None or lacking:
        raise _not_cached(address, lacking)
    return address.snapshot(commit)


def _not_cached(address: Address, names: Sequence[str]) -> DownloadError:
    return DownloadError(
        f"offline, and the cache {cache.hub_cache()} does not contain {', '.join(names)} of {address.repo} "
        f"(revision {address.revision!r}): "
        "load it once online (without offline=True and HF_HUB_OFFLINE), or copy that folder from another machine"
    )


def _warn_stale(address: Address, error: MultimodalError, stacklevel: int = 4) -> None:
    warnings.warn(
        f"using the cached {address.repo}, because its revision {address.revision!r} could not be looked up: {error}",
        stacklevel=stacklevel,
    )
