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

import contextlib
import fnmatch
import importlib.util
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from multimodal.core import _hub_cache as cache
from multimodal.core._hub_cache import Address, is_offline
from multimodal.core._hub_errors import ask, is_gone
from multimodal.core._hub_tensors import load_tensors
from multimodal.core._hub_url import url
from multimodal.core.errors import DownloadError, InvalidInput, MissingExtra, MultimodalError, UnknownModel

__all__ = ["file", "is_offline", "listing", "load_tensors", "snapshot", "url"]

DEFAULT_ENDPOINT = "https://huggingface.co"
GLOB = re.compile(r"[*?\[]|/$")


def file(
    repo: str, name: str, *, revision: str | None = None, offline: bool = False, extra: str = "hf"
) -> Path:
    """One file of a repository of the hub, from the cache or fetched into it.

    repo: "owner/name". name: as in the repository, "folder/file.txt". revision: a branch, tag or commit; "main" if
    None. extra: which extra brings huggingface_hub, for the message if it is missing.
    Raises UnknownModel if the repository, revision or file does not exist, DownloadError if it cannot be fetched.
    """
    at = _address(repo, revision, extra)
    known = at.last_commit()
    found = None if known is None else _checked(at, known, name)
    if is_offline(offline):
        if found is None:
            raise _not_here(at, [name])
        return found
    if found is not None and at.pinned:
        return found
    try:
        announced = _head(at, at.revision, name, patient=found is None)
    except MultimodalError as error:
        if found is None or is_gone(error):
            raise
        _warn_stale(at, error)
        return found
    path = _obtain(at, announced.commit_hash, name, announced)
    ask(lambda: at.remember_commit(announced.commit_hash), at, name)
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
    at = _address(repo, revision, extra)
    if is_offline(offline):
        return _offline_snapshot(at, patterns, ignore)
    present = not _lacking(at, patterns, ignore)
    if present and at.pinned and (at.listing(at.revision) is not None or not GLOB.search("".join(patterns))):
        return at.snapshot(at.revision)
    try:
        commit, names = _commit_and_names(at, patient=not present)
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
        if _checked(at, commit, name) is None:
            _obtain(at, commit, name, _head(at, commit, name))
    ask(lambda: at.remember_commit(commit), at, "the commit")
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
        return _commit_and_names(at, patient=not present)[1]
    except MultimodalError as error:
        if is_gone(error) or not present:
            raise
        _warn_stale(at, error)
        return present


def _address(repo: str, revision: str | None, extra: str) -> Address:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra(f"loading {repo!r} from a model hub", package="huggingface_hub", extra=extra)
    from huggingface_hub import constants
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT or DEFAULT_ENDPOINT).rstrip("/")
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


def _head(at: Address, revision: str, name: str, *, patient: bool = True) -> Any:
    """huggingface_hub's HfFileMetadata: commit_hash, etag, size."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    cache.inside(name)
    address = hf_hub_url(at.repo, name, revision=revision, endpoint=at.endpoint)
    found = ask(
        lambda: get_hf_file_metadata(address, timeout=constants.HF_HUB_ETAG_TIMEOUT, endpoint=at.endpoint),
        at,
        name,
    )
    if found.commit_hash is None or found.etag is None:
        raise DownloadError(
            f"{at.endpoint} answered for {name} of {at.repo} as no model hub does (no commit or no ETag); check "
            "HF_ENDPOINT, and whether a proxy stands between"
        )
    return found


def _commit_and_names(at: Address, *, patient: bool) -> tuple[str, list[str]]:
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
    ask(lambda: at.remember_listing(info.sha, names), at, what)
    return info.sha, names


def _obtain(at: Address, commit: str, name: str, announced: Any) -> Path:
    """A file of a commit: fetched by one process while others wait, and compared with its digest."""
    from huggingface_hub import hf_hub_download
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
        options = {"revision": commit, "endpoint": at.endpoint, "cache_dir": cache.hub_cache()}
        try:
            path = Path(ask(lambda: hf_hub_download(at.repo, name, **options), at, name))
        except MultimodalError:
            unchecked.unlink(missing_ok=True)
            raise
        _settle(at, path, name, unchecked)
    return path


def _checked(at: Address, commit: str, name: str) -> Path | None:
    """A file in the cache, compared with its digest if a process died before it could be."""
    path, unchecked = at.snapshot(commit) / cache.inside(name), at.guard(commit, name, "unchecked")
    if path.is_file() and unchecked.is_file():
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
    return [name for name in wanted if _checked(at, commit, name) is None] if wanted else list(patterns)


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


def _warn_stale(at: Address, error: MultimodalError) -> None:
    warnings.warn(
        f"using {at.repo} as it was last fetched, since its revision {at.revision!r} could not be looked up: {error}",
        stacklevel=3,
    )
