"""Creates the table of an index: in a folder by renaming one that is complete, on an object store under the lock."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

from multimodal.core.errors import IndexStateError, StorageError
from multimodal.core.remote import files
from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.index.storage import schema
from multimodal.index.storage.connection import connect, reason_of, store_errors
from multimodal.index.storage.lock import writing
from multimodal.index.storage.remote.lock import FOLDER as LOCK_FOLDER
from multimodal.index.storage.schema import IndexMetadata

TABLE_NAME = "items"
VERSIONS = f"{TABLE_NAME}.lance/_versions"


def create_table(path: AnyPath, index_metadata: IndexMetadata) -> None:
    """Creates a new, empty table. Raises IndexStateError if the path is in use, StorageError."""
    _refuse_existing(path)
    if isinstance(path, RemotePath):
        _create_remote(path, index_metadata)
    else:
        _create_local(path, index_metadata)


def is_index(path: AnyPath) -> bool:
    """Whether there is an index at a path. Raises StorageError."""
    if isinstance(path, RemotePath):
        return bool(files.list_names(path / VERSIONS))
    return (path / f"{TABLE_NAME}.lance").is_dir()


def _refuse_existing(path: AnyPath) -> None:
    if is_index(path):
        raise IndexStateError(f"there is an index at {str(path)!r} already: open it with Index.open({str(path)!r}), "
                              "or create it with exist_ok=True")  # fmt: skip
    if isinstance(path, RemotePath):
        # A process that was killed while it created the index may have left a lock, and a table without a version.
        leftovers = ("", f"{TABLE_NAME}.lance", LOCK_FOLDER)
        if others := [name for name in files.list_names(path) if name not in leftovers]:
            raise IndexStateError(
                f"cannot create an index at {str(path)!r}: there is {others[0]!r} already; choose a new folder"
            )
        return
    ancestor = next(parent for parent in path.parents if parent.exists())
    if not ancestor.is_dir():
        raise IndexStateError(f"cannot create an index at {str(path)!r}: {str(ancestor)!r} is a file, not a folder; "
                              "choose another path")  # fmt: skip
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        what = "a folder that is not empty" if path.is_dir() else "a file"
        raise IndexStateError(
            f"cannot create an index at {str(path)!r}: the path is {what}; choose a new or empty folder"
        )


def _create_local(path: Path, index_metadata: IndexMetadata) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, so that the final rename stays on one file system and is atomic.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
            new = Path(scratch) / "new"
            connect(new).create_table(TABLE_NAME, schema=schema.table_schema(index_metadata))
            new.replace(path)
    except OSError as error:
        _refuse_existing(path)  # another process was quicker
        raise IndexStateError(f"cannot create an index at {str(path)!r}: {error.strerror or error}; "
                              "choose a writable folder")  from error  # fmt: skip


def _create_remote(path: RemotePath, index_metadata: IndexMetadata) -> None:
    """Under the lock: LanceDB may overwrite a table that another process creates at the same time."""
    identified = schema.with_identity(schema.table_schema(index_metadata), uuid.uuid4().hex)
    try:
        with writing(path), store_errors(path):
            _refuse_existing(path)
            connect(path).create_table(TABLE_NAME, schema=identified)
    except IndexStateError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, StorageError):
            raise
        raise StorageError(f"cannot create an index at {path}: {reason_of(path, error)}") from error
