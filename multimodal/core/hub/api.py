"""Getting weights, and trusting them: files of a model hub, files at plain URLs, and the tensors inside.

A file is fetched once and then taken from the cache, which is huggingface_hub's own. What is asked of the network:

    revision=<commit>           nothing for a file in the cache
    revision=<branch or tag>    one small request: where does it point now? If that cannot be answered, the copy in the
                                cache is used, with a warning
    offline=True, or HF_HUB_OFFLINE=1 in the environment: nothing at all

HF_ENDPOINT names a private mirror, HF_TOKEN who you are. A file fetched here is compared with the digest its hub
announced before anything reads it. Errors are `UnknownModel` for what is not there and `DownloadError` for the rest;
after each of them the cache is as it was, and the next call tries again.
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
from multimodal.core.hub import revisions as record
from multimodal.core.hub.cache import Address, is_offline
from multimodal.core.hub.errors import is_gone
from multimodal.core.hub.tensors import load_tensors
from multimodal.core.hub.url import url

__all__ = ["file", "is_offline", "listing", "load_tensors", "snapshot", "url"]


def file(
    repo: str, name: str, *, revision: str | None = None, offline: bool = False, extra: str = "hf"
) -> Path:
    """One file of a repository of the hub, from the cache or fetched into it.

    repo: "owner/name". name: as in the repository, "folder/file.txt". revision: a branch, tag or commit; "main" if
    None. extra: which extra brings huggingface_hub, for the message if it is missing.
    Raises UnknownModel if the repository, revision or file does not exist, DownloadError if it cannot be fetched.
    """
    at = _address(repo, revision, extra)
    path = _file(at, name, offline)
    record.note(repo, path.parts[-1 - len(PurePosixPath(name).parts)])  # the snapshot's folder is named by it
    return path


def _file(at: Address, name: str, offline: bool) -> Path:
    known = at.last_commit()
    found = None if known is None else fetch.checked(at, known, name)
    if is_offline(offline):
        if found is None:
            raise _not_here(at, [name])
        return found
    if found is not None and at.pinned:
        return found
    try:
        announced = fetch.head(at, at.revision, name, patient=found is None)
    except MultimodalError as error:
        if found is None or is_gone(error):
            raise
        _warn_stale(at, error)
        return found
    path = fetch.obtain(at, announced.commit_hash, name, announced)
    at.remember_commit(announced.commit_hash)
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
    """The folder that holds the files of a revision that match, fetched where they are not in the cache.

    patterns, ignore: as in the shell, but `*` also matches "/", as in huggingface_hub. The folder's name is the commit:
    to be sure that later calls see the same, give them `revision=folder.name`.
    Raises UnknownModel if the repository or revision does not exist or no file matches, DownloadError if one cannot be
    fetched or, offline, is not in the cache.
    """
    folder = _snapshot(_address(repo, revision, extra), patterns, ignore, offline)
    record.note(repo, folder.name)
    return folder


def _snapshot(at: Address, patterns: Sequence[str], ignore: Sequence[str], offline: bool) -> Path:
    if is_offline(offline):
        return _offline_snapshot(at, patterns, ignore)
    present = not _lacking(at, patterns, ignore)
    if present and at.pinned and (at.listing(at.revision) or set(patterns) <= set(at.present(at.revision))):
        return at.snapshot(at.revision)
    try:
        commit, names = fetch.commit_and_names(at, patient=not present)
    except MultimodalError as error:
        if is_gone(error) or not present:
            raise
        _warn_stale(at, error)
        return _offline_snapshot(at, patterns, ignore)
    wanted = _matching(names, patterns, ignore)
    if not wanted:
        raise UnknownModel(
            f"{at} has no file that matches {', '.join(map(repr, patterns))}; it has {', '.join(names) or 'none'}"
        )
    for name in wanted:
        if fetch.checked(at, commit, name) is None:
            fetch.obtain(at, commit, name, fetch.head(at, commit, name))
    at.remember_commit(commit)
    return at.snapshot(commit)


def listing(repo: str, *, revision: str | None = None, offline: bool = False, extra: str = "hf") -> list[str]:
    """The names of the files of a revision, sorted. Offline, of those in the cache.

    Raises UnknownModel if the repository or revision does not exist, DownloadError if it cannot be asked for.
    """
    at = _address(repo, revision, extra)
    known = at.last_commit()
    present = [] if known is None else at.present(known)
    if is_offline(offline):
        if not present:
            raise _not_here(at, ["any file"])
        return present
    try:
        return fetch.commit_and_names(at, patient=not present)[1]
    except MultimodalError as error:
        if is_gone(error) or not present:
            raise
        _warn_stale(at, error, stacklevel=3)
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
        raise InvalidInput(f"HF_ENDPOINT must be the address of a hub, 'https://…', got {endpoint!r}")
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UnknownModel(
            f"{repo!r} cannot be a repository: they are named 'owner/name' ({error})"
        ) from error
    if revision is not None and (not revision or ".." in revision or revision.startswith("/")):
        raise UnknownModel(f"{revision!r} cannot be a revision of {repo}: give a branch, a tag or a commit")
    return Address(repo, revision or constants.DEFAULT_REVISION, endpoint)


def _matching(names: Sequence[str], patterns: Sequence[str], ignore: Sequence[str]) -> list[str]:
    def among(name: str, globs: Sequence[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, one + "*" if one.endswith("/") else one) for one in globs)

    return [name for name in names if among(name, patterns) and not among(name, ignore)]


def _lacking(at: Address, patterns: Sequence[str], ignore: Sequence[str]) -> list[str]:
    """What the cache lacks of the revision as last seen.

    Where nobody asked for its list of files (another library fetched it) any match must do: what no pattern needs is
    not known.
    """
    commit = at.last_commit()
    names = None if commit is None else at.listing(commit)
    if commit is None or names is None:
        present = [] if commit is None else at.present(commit)
        return [] if _matching(present, patterns, ignore) else list(patterns)
    wanted = _matching(names, patterns, ignore)
    return [name for name in wanted if fetch.checked(at, commit, name) is None] if wanted else list(patterns)


def _offline_snapshot(at: Address, patterns: Sequence[str], ignore: Sequence[str]) -> Path:
    commit, lacking = at.last_commit(), _lacking(at, patterns, ignore)
    if commit is None or lacking:
        raise _not_here(at, lacking)
    return at.snapshot(commit)


def _not_here(at: Address, names: Sequence[str]) -> DownloadError:
    return DownloadError(
        f"offline, and the cache {cache.hub_cache()} lacks {', '.join(names)} of {at.repo} (revision {at.revision!r}): "
        "load it once with the network (without offline=True and HF_HUB_OFFLINE), or copy that folder from where it was"
    )


def _warn_stale(at: Address, error: MultimodalError, stacklevel: int = 4) -> None:
    warnings.warn(
        f"using {at.repo} as it was last fetched, since its revision {at.revision!r} could not be looked up: {error}",
        stacklevel=stacklevel,
    )
