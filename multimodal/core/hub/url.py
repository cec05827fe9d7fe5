"""Files at plain URLs, such as OpenAI's CLIP weights: downloaded once, resumed, and verified by their digest."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from multimodal.core.errors import DownloadError, InvalidInput, UnknownModel
from multimodal.core.hub import cache as cache
from multimodal.core.hub.errors import DISK_FULL, FORBIDDEN, RETRY_STATUSES, retry

if TYPE_CHECKING:
    import http.client

TIMEOUT_S = 10.0


class _IncompleteDownload(OSError):
    """Fewer bytes arrived than the server announced."""


def url(url: str, *, sha256: str | None = None, offline: bool = False) -> Path:
    """The file at a URL, from the cache or downloaded into it.

    One process downloads while others wait. The next call resumes an interrupted transfer.

    Args:
        url: an http or https URL.
        sha256: the expected digest, or at least its first 8 hex digits, as some publishers put into file names.
        offline: make no network requests.

    Returns:
        The path in the cache (`MULTIMODAL_CACHE`, by default ~/.cache/multimodal).

    Raises:
        InvalidInput: not a URL, or not a digest.
        UnknownModel: there is no file at the URL.
        DownloadError: it cannot be downloaded, has another digest, or is not cached while offline.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"url must be like 'https://host/file', got {url!r}")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise InvalidInput(f"sha256 must be 8 to 64 hex digits in lower case, got {sha256!r}")
    # The digest is part of the key, so that a cached file was verified against this digest
    key = hashlib.sha256(f"{url} {sha256}".encode()).hexdigest()[:24]
    target = cache.own_cache() / "files" / key / (unquote(PurePosixPath(parts.path).name) or "file")
    if target.is_file():
        return target
    if cache.is_offline(offline):
        raise DownloadError(
            f"offline, and {url} is not in the cache {cache.own_cache()}: load it once with the network (without "
            "offline=True and HF_HUB_OFFLINE)"
        )
    from http.client import HTTPException  # imports ssl, too slow for calls that download nothing

    try:
        return _fetch_once(url, target, sha256)
    except (OSError, HTTPException) as error:
        if isinstance(error, DownloadError):
            raise
        raise _translate_error(error, url, target) from error


def _fetch_once(url: str, target: Path, sha256: str | None) -> Path:
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / ".lock"):
        if target.is_file():
            return target
        part = retry(lambda: _transfer(url, target.parent), _is_transient)
        if sha256 is not None and not (actual := cache.digest(part, hashlib.sha256())).startswith(sha256):
            part.unlink()
            raise DownloadError(
                f"{url} has the sha256 {actual}, expected {sha256}, and was deleted; try again, and if it "
                f"persists, the "
                "file was changed by its publisher or in transit"
            )
        part.replace(target)
        for old in target.parent.glob("*.part"):
            old.unlink()
    return target


def _transfer(url: str, folder: Path) -> Path:
    """Downloads the content to a file in `folder`, resuming a part of the same content (by its ETag)."""
    with _open(url) as response:
        etag = response.headers.get("ETag") or ""
        # A weak ETag does not guarantee the same bytes
        known = etag if etag and not etag.startswith("W/") else ""
        part = folder / f"{hashlib.sha256(known.encode()).hexdigest()[:16]}.part"
        have = part.stat().st_size if known and part.exists() else 0
        total = _length(response)
        cache.require_disk_space(folder, (total or 0) - have, url)
        if not have:
            return _receive(response, part, "wb", 0, total, url)
    if have == total:
        return part
    with _open(url, {"Range": f"bytes={have}-", "If-Range": known}) as response:
        if response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            return _receive(response, part, "ab", have, total, url)
        return _receive(response, part, "wb", 0, _length(response), url)


def _open(url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(url, headers={"User-Agent": "multimodal", **(headers or {})})
    try:
        response: http.client.HTTPResponse = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()  # the error is a response with an open connection
        raise
    return response


def _length(response: http.client.HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _receive(
    response: http.client.HTTPResponse, part: Path, mode: str, have: int, total: int | None, url: str
) -> Path:
    with part.open(mode) as stream, _progress(PurePosixPath(url).name, have, total) as advance:
        _copy(response, stream, advance)
        size = stream.tell()
    if total is not None and size != total:
        raise _IncompleteDownload(f"{size:,} of {total:,} bytes arrived")
    return part


def _copy(response: http.client.HTTPResponse, stream: IO[bytes], advance: Callable[[int], None]) -> None:
    while block := response.read(cache.BLOCK_BYTES):
        stream.write(block)
        advance(len(block))


@contextlib.contextmanager
def _progress(name: str, have: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr if it is a terminal -> a function to call with each number of bytes received."""
    if cache.is_set("HF_HUB_DISABLE_PROGRESS_BARS") or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(name, total=total, completed=have)
        yield lambda count: bars.advance(task, count)


def _is_transient(error: BaseException) -> bool:
    from http.client import HTTPException
    from urllib.error import HTTPError

    if isinstance(error, HTTPError):
        return error.code in RETRY_STATUSES
    if isinstance(error, OSError) and error.errno in (*DISK_FULL, *FORBIDDEN):
        return False
    return isinstance(error, OSError | HTTPException) and not isinstance(error, DownloadError)


def _translate_error(error: Exception, url: str, target: Path) -> UnknownModel | DownloadError:
    from urllib.error import HTTPError

    if isinstance(error, HTTPError):
        if error.code in (404, 410):
            return UnknownModel(f"there is no file at {url} (HTTP {error.code}); check the URL")
        cure = (
            "try again later"
            if error.code in RETRY_STATUSES
            else "check the URL, and whether you have access to it"
        )
        return DownloadError(f"{url} could not be fetched (HTTP {error.code}); {cure}")
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return DownloadError(f"{url} could not be saved: the disk is full ({error}); make room")
    if isinstance(error, OSError) and error.errno in FORBIDDEN:
        return DownloadError(
            f"{url} could not be saved: {target.parent} is not writable ({error}); set MULTIMODAL_CACHE to a "
            "folder you can write to"
        )
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return DownloadError(
        f"{url} could not be fetched: its host cannot be reached or closed the connection ({reason}); check the "
        f"network and try "
        "again"
    )
