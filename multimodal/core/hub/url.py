"""Plain files at URLs, such as the CLIP weights OpenAI published: fetched once, resumed, compared with their digest."""

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
from multimodal.core.hub.errors import BUSY, FORBIDDEN, FULL, persist

if TYPE_CHECKING:
    import http.client

TIMEOUT_S = 10.0


class _BrokenOff(OSError):
    """Fewer bytes came than were announced."""


def url(url: str, *, sha256: str | None = None, offline: bool = False) -> Path:
    """The file at an http or https address, from the cache (`MULTIMODAL_CACHE`, ~/.cache/multimodal) or fetched.

    sha256: the digest it must have, whole or its first 8 or more hex digits, as some publishers put into file names.
    One process fetches, others wait; a transfer that broke off is continued by the next call.
    Raises UnknownModel if nothing is there, DownloadError if it cannot be fetched or has another digest.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"a file is fetched from an address as 'https://host/file', got {url!r}")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{8,64}", sha256):
        raise InvalidInput(f"sha256 must be 8 to 64 hex digits in lower case, got {sha256!r}")
    # Another digest is another file: so what is found under a key was compared with that digest when it came
    key = hashlib.sha256(f"{url} {sha256}".encode()).hexdigest()[:24]
    target = cache.own_cache() / "files" / key / (unquote(PurePosixPath(parts.path).name) or "file")
    if target.is_file():
        return target
    if cache.is_offline(offline):
        raise DownloadError(
            f"offline, and {url} is not in the cache {cache.own_cache()}: load it once with the network (without "
            "offline=True and HF_HUB_OFFLINE)"
        )
    from http.client import HTTPException  # with ssl below it, too slow for whoever fetches nothing

    try:
        return _fetch_once(url, target, sha256)
    except (OSError, HTTPException) as error:
        if isinstance(error, DownloadError):
            raise
        raise _translated(error, url, target) from error


def _fetch_once(url: str, target: Path, sha256: str | None) -> Path:
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / ".lock"):
        if target.is_file():
            return target
        part = persist(lambda: _transfer(url, target.parent), _passing)
        if sha256 is not None and not (found := cache.digest(part, hashlib.sha256())).startswith(sha256):
            part.unlink()
            raise DownloadError(
                f"{url} has the sha256 {found}, expected {sha256}: it was not kept; try again, and if it lasts, the "
                "file was changed by its publisher or on the way"
            )
        part.replace(target)
        for old in target.parent.glob("*.part"):
            old.unlink()
    return target


def _transfer(url: str, folder: Path) -> Path:
    """The whole content in a file of `folder`. What is there of the same content (by its ETag) is continued."""
    with _open(url) as answer:
        etag = answer.headers.get("ETag") or ""
        # A weak ETag does not say that the bytes are the same, and without any nothing does
        known = etag if etag and not etag.startswith("W/") else ""
        part = folder / f"{hashlib.sha256(known.encode()).hexdigest()[:16]}.part"
        have = part.stat().st_size if known and part.exists() else 0
        total = _length(answer)
        cache.require_room(folder, (total or 0) - have, url)
        if not have:
            return _receive(answer, part, "wb", 0, total, url)
    if have == total:
        return part
    with _open(url, {"Range": f"bytes={have}-", "If-Range": known}) as answer:
        if answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            return _receive(answer, part, "ab", have, total, url)
        return _receive(answer, part, "wb", 0, _length(answer), url)


def _open(url: str, headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    request = Request(url, headers={"User-Agent": "multimodal", **(headers or {})})
    try:
        answer: http.client.HTTPResponse = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()  # it is a response too, with a connection of its own
        raise
    return answer


def _length(answer: http.client.HTTPResponse) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _receive(
    answer: http.client.HTTPResponse, part: Path, mode: str, have: int, total: int | None, url: str
) -> Path:
    with part.open(mode) as stream, _progress(PurePosixPath(url).name, have, total) as advance:
        _copy(answer, stream, advance)
        size = stream.tell()
    if total is not None and size != total:
        raise _BrokenOff(f"{size:,} of {total:,} bytes came")
    return part


def _copy(answer: http.client.HTTPResponse, stream: IO[bytes], advance: Callable[[int], None]) -> None:
    while chunk := answer.read(cache.CHUNK):
        stream.write(chunk)
        advance(len(chunk))


@contextlib.contextmanager
def _progress(name: str, have: int, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on the error stream if that is a terminal; what it gives is called with the bytes just received."""
    if cache.is_set("HF_HUB_DISABLE_PROGRESS_BARS") or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(name, total=total, completed=have)
        yield lambda count: bars.advance(task, count)


def _passing(error: BaseException) -> bool:
    from http.client import HTTPException
    from urllib.error import HTTPError

    if isinstance(error, HTTPError):
        return error.code in BUSY
    if isinstance(error, OSError) and error.errno in (*FULL, *FORBIDDEN):
        return False
    return isinstance(error, OSError | HTTPException) and not isinstance(error, DownloadError)


def _translated(error: Exception, url: str, target: Path) -> UnknownModel | DownloadError:
    from urllib.error import HTTPError

    if isinstance(error, HTTPError):
        if error.code in (404, 410):
            return UnknownModel(f"nothing is at {url} (HTTP {error.code}); check the address")
        cure = "try again later" if error.code in BUSY else "check the address, and whether you may read it"
        return DownloadError(f"{url} could not be fetched (HTTP {error.code}); {cure}")
    if isinstance(error, OSError) and error.errno in FULL:
        return DownloadError(f"{url} could not be kept: the disk is full ({error}); make room")
    if isinstance(error, OSError) and error.errno in FORBIDDEN:
        return DownloadError(
            f"{url} could not be kept: {target.parent} cannot be written to ({error}); set MULTIMODAL_CACHE to a "
            "folder of your own"
        )
    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
    return DownloadError(
        f"{url} could not be fetched: its host cannot be reached or broke off ({reason}); check the network and try "
        "again"
    )
