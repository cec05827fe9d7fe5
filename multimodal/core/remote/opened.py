"""Opens files for reading in blocks, whether they are on a disk or on an object store."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from multimodal.core.remote import files
from multimodal.core.remote.path import AnyPath, RemotePath

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STREAM_BYTES = 8 << 20  # read at once of what is read from start to end
SEEK_BYTES = 256 << 10  # of what is read here and there


def open_binary(path: AnyPath, block_bytes: int = STREAM_BYTES) -> IO[bytes]:
    """Opens a file for reading; it can be sought in.

    Args:
        path: The file.
        block_bytes: How much is requested of an object store at once, and held in memory.

    Returns:
        The open file.

    Raises:
        OSError: There is no such file, or it cannot be opened; StorageError of an object store.
    """
    if isinstance(path, Path):
        return path.open("rb")
    return cast("IO[bytes]", io.BufferedReader(RemoteReader(path, files.open_ranges(path)), block_bytes))


def file_state(path: AnyPath) -> tuple[int, int]:
    """Size in bytes, and time of the last write in ns or version. Raises OSError."""
    if isinstance(path, Path):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    file = files.stat_source(path)
    if file is None:
        raise FileNotFoundError(f"{path}: no such file; check the address")
    return file.size, file.version


def is_file(path: AnyPath) -> bool:
    """Whether there is a file. Raises StorageError."""
    return path.is_file() if isinstance(path, Path) else files.stat(path) is not None


class RemoteReader(io.RawIOBase):
    """An object as a file of Python, each read of which is a request. Raises StorageError."""

    def __init__(self, path: RemotePath, ranges: files.Ranges) -> None:
        super().__init__()
        self._path, self._ranges, self._position = path, ranges, 0
        self._size: int | None = None

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The position of the next read."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Sets the position of the next read, and returns it."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._n_bytes()}[whence]
        if start + offset < 0:
            raise ValueError(f"cannot seek to {start + offset}, before the start of {self._path}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Reads as much as fits and is there -> the number of bytes."""
        view = memoryview(buffer).cast("B")
        n_bytes = max(0, min(len(view), self._n_bytes() - self._position))
        if n_bytes:
            with files.errors_of(self._path):
                part = self._ranges.read_at(n_bytes, self._position)
            n_bytes = len(part)
            view[:n_bytes] = part
            self._position += n_bytes
        return n_bytes

    def _n_bytes(self) -> int:
        if self._size is None:
            with files.errors_of(self._path):
                self._size = self._ranges.size()
        return self._size

    def close(self) -> None:
        """Ends the connection."""
        if not self.closed:
            self._ranges.close()
        super().close()
