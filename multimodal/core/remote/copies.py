"""Local copies of media on an object store, for what shows or plays them: decoders and browsers read parts of a file.

Copies lie in `media` in the cache of the package, are named by address, size and version, and made at first need. The
cache holds up to COPIES_BYTES: what was used least recently is removed first. Several processes may share it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path, PurePosixPath

from multimodal.core.errors import MediaTooLarge, MultimodalError
from multimodal.core.hub.cache import own_cache
from multimodal.core.remote import files
from multimodal.core.remote.path import RemotePath, is_remote_source

FOLDER = "media"
COPIES_BYTES = 4 << 30
MAX_BYTES = 1 << 30  # of one file


def media_path(uri: str | None) -> Path | None:
    """The local file behind the uri of an item: that file, or a copy of an object.

    Returns:
        None if it names no file, or the object cannot be fetched. A local file may not exist.
    """
    if not uri or "\0" in uri:
        return None
    if not is_remote_source(uri):
        return Path(uri)
    try:
        return local_copy(RemotePath(uri))
    except (OSError, MultimodalError):
        return None


def local_copy(path: RemotePath) -> Path:
    """A copy of an object as it is now. Raises FileNotFoundError, StorageError, MediaTooLarge, OSError."""
    file = files.stat(path)
    if file is None:
        raise FileNotFoundError(f"{path}: no such object")
    check_size(file)
    key = hashlib.sha256(f"{path}\0{file.size}\0{file.version}".encode()).hexdigest()[:32]
    folder = own_cache() / FOLDER
    target = folder / f"{key}{PurePosixPath(path.name).suffix}"
    if target.is_file():
        with contextlib.suppress(OSError):  # removed by another process, or of another user
            os.utime(target)
            return target
    content = files.read(path)
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix="new-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as new:
            new.write(content)
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
    _make_room(folder, target)
    return target


def check_size(file: files.RemoteFile) -> None:
    """Raises MediaTooLarge for an object that is not read into memory."""
    if file.size > MAX_BYTES:
        raise MediaTooLarge(
            f"{file.path}: has {file.size:,} bytes, and up to {MAX_BYTES:,} of an object are read; copy it to a disk"
        )


def _make_room(folder: Path, kept: Path) -> None:
    copies = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # removed meanwhile
            status = path.stat()
            copies.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in copies)
    for _, size, path in sorted(copies):
        if total <= COPIES_BYTES:
            return
        if path != kept:
            path.unlink(missing_ok=True)
            total -= size
