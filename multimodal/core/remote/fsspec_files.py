"""Files that fsspec reads: in repositories of the Hugging Face Hub (hf://datasets/user/name/folder), and elsewhere.

They are only read. Their version is what the file system has to tell two contents apart: a hash, or else the time of
the last write.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from multimodal.core.errors import MissingExtra, StorageError
from multimodal.core.remote.path import FSSPEC_SCHEMES, RemotePath

HUB = "hf"
HASHES = ("blob_id", "xet_hash", "etag", "ETag", "md5Hash", "content_md5")  # the first two are of the hub
TIMES = ("mtime", "modified", "LastModified", "last_modified", "updated", "created")


class FsspecRanges:
    """An open file of fsspec. Several threads may read it."""

    def __init__(self, path: RemotePath) -> None:
        from fsspec.spec import AbstractBufferedFile

        self._filesystem, self._key = _filesystem(path)
        file = self._filesystem.open(self._key, "rb", cache_type="none")
        # Files of other classes may share their position with all who read them.
        self._file: Any = file if isinstance(file, AbstractBufferedFile) else None
        self._size = int(self._filesystem.info(self._key)["size"] if self._file is None else file.size)
        self._lock = threading.Lock()

    def size(self) -> int:
        """Size in bytes."""
        return self._size

    def read_at(self, n_bytes: int, offset: int) -> bytes:
        """Some of its bytes. Raises OSError."""
        if self._file is None:
            part: bytes = self._filesystem.cat_file(self._key, start=offset, end=offset + n_bytes)
            return part
        with self._lock:
            self._file.seek(offset)
            part = self._file.read(n_bytes)
            return part

    def close(self) -> None:
        """Ends the connection."""
        if self._file is not None:
            self._file.close()


def reads(path: RemotePath) -> bool:
    """Whether fsspec reads a path, rather than pyarrow."""
    return path.scheme in FSSPEC_SCHEMES


def list_files(folder: RemotePath) -> Iterator[tuple[str, int, int]]:
    """Yields (URL, size in bytes, version) of all files below a folder. Raises FileNotFoundError, OSError."""
    filesystem, root = _fresh(folder)
    if filesystem.isdir(root):
        for key, info in filesystem.find(root, detail=True).items():
            url = _url(folder, key, root)
            yield url, int(info["size"]), _version(filesystem, key, info)


def stat(path: RemotePath) -> tuple[str, int, int] | None:
    """(URL, size in bytes, version) of a file; None if there is none. Raises OSError."""
    filesystem, key = _fresh(path)
    try:
        info = filesystem.info(key)
    except FileNotFoundError:
        return None
    if info["type"] != "file":
        return None
    return path.url, int(info["size"]), _version(filesystem, key, info)


def read(path: RemotePath) -> bytes:
    """The content of a file. Raises FileNotFoundError, OSError."""
    filesystem, key = _filesystem(path)
    content: bytes = filesystem.cat_file(key)
    return content


def _fresh(path: RemotePath) -> tuple[Any, str]:
    """The file system, without what it remembers of earlier listings, and the path in it."""
    if path.scheme == HUB and importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra(f"reading {path}", package="huggingface_hub", extra="hf")
    filesystem, key = _filesystem(path)
    filesystem.invalidate_cache()
    return filesystem, key


def _filesystem(path: RemotePath) -> tuple[Any, str]:
    """The file system of fsspec, which keeps one for each server, process and thread, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        filesystem, key = url_to_fs(path.url)
    except ImportError as error:  # names the package that is missing
        raise StorageError(f"{path}: {error}") from error
    return filesystem, key


def _url(folder: RemotePath, key: str, root: str) -> str:
    """The URL of a file below a folder. Its key may lack the server, and the root may have been rewritten."""
    if key.startswith(root):
        return f"{folder.url}/{key.removeprefix(root).lstrip('/')}"
    return f"{folder.scheme}://{key.lstrip('/')}"


def _version(filesystem: Any, key: str, info: Mapping[str, Any]) -> int:
    """A number of 63 bits that stands for the content of a file."""
    value = next((str(info[name]) for name in (*HASHES, *TIMES) if info.get(name)), None)
    return version_of(value or filesystem.ukey(key))


def version_of(value: str) -> int:
    """A number of 63 bits in the place of a hash or an entity tag."""
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big") >> 1
