"""Downloads files of a repository into huggingface_hub's cache and verifies them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal.core.errors import DownloadError, MultimodalError
from multimodal.core.hub import cache as cache
from multimodal.core.hub.cache import Address
from multimodal.core.hub.errors import request

PUBLIC_HUB = "https://huggingface.co"
_switching = threading.Lock()
_saved_switches: list[bool] = []  # huggingface_hub's Xet switch before each transfer that changed it


def head(address: Address, revision: str, name: str, *, retries: bool = True) -> Any:
    """huggingface_hub's HfFileMetadata of a file: commit_hash, etag, size, xet_file_data.

    retries: see `request`. Raises UnknownModel, DownloadError.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    cache.relative_path(name)
    file_url = hf_hub_url(address.repo, name, revision=revision, endpoint=address.endpoint)
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    metadata = request(
        lambda: get_hf_file_metadata(file_url, timeout=timeout, endpoint=address.endpoint),
        address,
        name,
        retries=retries,
    )
    if metadata.commit_hash is None or metadata.etag is None:
        raise DownloadError(
            f"{address.endpoint} sent no commit or no ETag for {name} of {address.repo}, so it is not a model "
            "hub; check HF_ENDPOINT, and whether a proxy intercepts requests"
        )
    return metadata


def commit_and_names(address: Address, *, retries: bool) -> tuple[str, list[str]]:
    """The commit of a revision and the sorted names of its files. The list of a commit is requested once."""
    if address.pinned and (names := address.listing(address.revision)) is not None:
        return address.revision, names
    from huggingface_hub import HfApi, constants

    what = "the list of files"
    api = HfApi(endpoint=address.endpoint)
    timeout = constants.HF_HUB_ETAG_TIMEOUT
    info = request(
        lambda: api.model_info(address.repo, revision=address.revision, timeout=timeout),
        address,
        what,
        retries=retries,
    )
    if not info.sha or info.siblings is None:
        raise DownloadError(
            f"{address.endpoint} sent no {what} of {address.repo}; check that HF_ENDPOINT is a model hub"
        )
    names = sorted(sibling.rfilename for sibling in info.siblings)
    address.remember_listing(info.sha, names)
    return info.sha, names


def download(address: Address, commit: str, name: str, announced: Any) -> Path:
    """Downloads a file of a commit and verifies its digest. One process downloads while others wait."""
    from huggingface_hub.utils import WeakFileLock

    if (path := address.find(commit, name)) is not None:
        return path
    lock, unchecked = address.marker(commit, name, "lock"), address.marker(commit, name, "unchecked")
    request(lambda: lock.parent.mkdir(parents=True, exist_ok=True), address, name)
    with contextlib.ExitStack() as held:
        request(lambda: held.enter_context(WeakFileLock(lock)), address, name)
        if (path := address.find(commit, name)) is not None:
            return path
        cache.require_disk_space(cache.hub_cache(), announced.size or 0, f"{name} of {address.repo}")
        # The marker holds the expected ETag: if this process dies before verifying, the next one verifies
        request(lambda: unchecked.write_text(announced.etag, encoding="utf-8"), address, name)
        try:
            path = _download(address, commit, name, announced)
        except MultimodalError:
            unchecked.unlink(missing_ok=True)
            raise
        _verify(address, path, name, unchecked)
    return path


def _download(address: Address, commit: str, name: str, announced: Any) -> Path:
    """Downloads without Xet from a mirror, which may advertise the service of the public hub without providing it, and
    where Xet fails, since some networks allow the hub and block that service."""
    from huggingface_hub import hf_hub_download

    options = {"revision": commit, "endpoint": address.endpoint, "cache_dir": cache.hub_cache()}
    if announced.xet_file_data is not None and address.endpoint == PUBLIC_HUB:
        with contextlib.suppress(RuntimeError, OSError):  # the plain download reports an error that persists
            return Path(hf_hub_download(address.repo, name, **options))
    with _without_xet() if announced.xet_file_data is not None else contextlib.nullcontext():
        return Path(request(lambda: hf_hub_download(address.repo, name, **options), address, name))


@contextlib.contextmanager
def _without_xet() -> Iterator[None]:
    """Disables Xet by huggingface_hub's global switch, since it has no option for one call.

    Transfers that other threads start meanwhile run without Xet too; the last to leave restores the switch.
    """
    from huggingface_hub import constants

    with _switching:
        _saved_switches.append(constants.HF_HUB_DISABLE_XET)
        constants.HF_HUB_DISABLE_XET = True
    try:
        yield
    finally:
        with _switching:
            before = _saved_switches.pop()
            constants.HF_HUB_DISABLE_XET = before


def verified(address: Address, commit: str, name: str) -> Path | None:
    """A file in the cache, or None. Verified first if the process that downloaded it died before it could."""
    path, unchecked = (
        address.snapshot(commit) / cache.relative_path(name),
        address.marker(commit, name, "unchecked"),
    )
    if path.is_file() and unchecked.is_file():
        with contextlib.suppress(FileNotFoundError):  # the process that downloaded it has just verified it
            _verify(address, path, name, unchecked)
    return address.find(commit, name)


def _verify(address: Address, path: Path, name: str, unchecked: Path) -> None:
    if not cache.matches_etag(path, unchecked.read_text(encoding="utf-8")):
        cache.remove(path)
        unchecked.unlink(missing_ok=True)
        raise DownloadError(
            f"{name} of {address.repo} does not have the digest that {address.endpoint} announced, and was "
            f"deleted; try "
            "again, and if it persists, report it to the operator of the hub"
        )
    unchecked.unlink(missing_ok=True)
