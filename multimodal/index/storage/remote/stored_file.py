"""StoredFile: a small file of an index, in its folder or on its object store, that is replaced as a whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from multimodal.core.remote import files
from multimodal.core.remote.path import AnyPath, RemotePath


class StoredFile:
    """A file of text. All methods raise OSError, StorageError being one."""

    def __init__(self, index: AnyPath, name: str) -> None:
        self.folder, self.path = index, index / name

    def state(self) -> object:
        """What changes when the file is replaced; None if there is no such file."""
        if isinstance(self.path, RemotePath):
            file = files.stat(self.path)
            return None if file is None else (file.mtime_ns, file.size)
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_ino

    def read(self) -> str:
        return files.read(self.path).decode() if isinstance(self.path, RemotePath) else self.path.read_text()

    def replace(self, content: str) -> None:
        """Writes the file atomically."""
        if isinstance(self.path, RemotePath):
            files.write(self.path, content.encode())
            return
        descriptor, name = tempfile.mkstemp(prefix=self.path.name, suffix=".new", dir=self.path.parent)
        new = Path(name)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(content)
            new.chmod(0o644)  # other users may read the index
            new.replace(self.path)
        finally:
            new.unlink(missing_ok=True)

    def delete(self) -> bool:
        """Whether there was one."""
        if isinstance(self.path, RemotePath):
            return files.delete(self.path)
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True
