"""Files in a repository of a hub, hf://datasets/user/name/folder, by the fsspec filesystem of huggingface_hub.

They are only read. In the place of a time, the hub has a hash of each file, which makes its version.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping
from typing import Any

from multimodal.core.errors import MissingExtra
from multimodal.core.remote.path import RemotePath

SCHEME = "hf"
HASHES = ("blob_id", "xet_hash", "etag", "ETag")  # of a file in git, in a bucket, and of other filesystems


def is_hub(path: RemotePath) -> bool:
    """Whether a path is in a repository of a hub."""
    return path.scheme == SCHEME


def list_files(folder: RemotePath) -> Iterator[tuple[str, int, int]]:
    """Yields (key, size in bytes, version) of all files below a folder. Raises FileNotFoundError, OSError."""
    filesystem = _fresh(folder)
    if filesystem.isdir(folder.key):
        for key, info in filesystem.find(folder.key, detail=True).items():
            yield key, int(info["size"]), _version(filesystem, key, info)


def stat(path: RemotePath) -> tuple[str, int, int] | None:
    """(key, size in bytes, version) of a file; None if there is none. Raises OSError."""
    filesystem = _fresh(path)
    try:
        info = filesystem.info(path.key)
    except FileNotFoundError:
        return None
    if info["type"] != "file":
        return None
    return path.key, int(info["size"]), _version(filesystem, path.key, info)


def read(path: RemotePath) -> bytes:
    """The content of a file. Raises FileNotFoundError, OSError."""
    content: bytes = _filesystem(os.getpid()).cat_file(path.key)
    return content


def _fresh(path: RemotePath) -> Any:
    """The filesystem, without what it remembers of earlier listings."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra(f"reading {path}", package="huggingface_hub", extra="hf")
    filesystem = _filesystem(os.getpid())
    filesystem.invalidate_cache()
    return filesystem


@functools.lru_cache(maxsize=1)
def _filesystem(pid: int) -> Any:
    """pid: that of the process, since connections do not survive a fork."""
    import fsspec

    return fsspec.filesystem(SCHEME)


def _version(filesystem: Any, key: str, info: Mapping[str, Any]) -> int:
    """A number of 63 bits that stands for the content of a file."""
    value = next((str(info[name]) for name in HASHES if info.get(name)), None) or filesystem.ukey(key)
    return int.from_bytes(hashlib.sha256(value.encode()).digest()[:8], "big") >> 1
