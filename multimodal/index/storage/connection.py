"""Connections to LanceDB, to a local folder or an object store, and what their errors mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from multimodal.core.errors import MultimodalError, StorageError
from multimodal.core.remote.errors import explain, first_line
from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.index.storage.deferred import defer_import, deferred_models, unchecked_overrides
from multimodal.index.storage.forks import check_process, note_use
from multimodal.index.storage.memory import limit_memory

METADATA_CACHE_BYTES = 8 << 20


def connect(path: AnyPath) -> Any:
    """A LanceDB connection that sees the writes of other processes. Raises IndexStateError in a forked process."""
    check_process(path)
    note_use()
    limit_memory()
    defer_import("lance_namespace_urllib3_client")  # its REST clients take half of the time to import LanceDB
    with unchecked_overrides(), deferred_models():
        import lancedb

    # The cache keeps the file list of every version, and a long job makes thousands of versions.
    session = lancedb.Session(metadata_cache_size_bytes=METADATA_CACHE_BYTES)
    remote: dict[str, Any] = {}
    if isinstance(path, RemotePath):
        remote["storage_options"] = path.storage_options
    # 0: check for writes by other processes at every read, instead of never.
    return lancedb.connect(str(path), read_consistency_interval=timedelta(0), session=session, **remote)


def is_taken(error: BaseException) -> bool:
    """Whether a table could not be created because another process has created it."""
    text = str(error)
    return "already exists" in text or "conflict" in text.lower()


@contextlib.contextmanager
def store_errors(path: AnyPath) -> Iterator[None]:
    """Turns errors of LanceDB that are those of an object store into StorageError, and leaves all others alone."""
    try:
        yield
    except MultimodalError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = explain(path, error) if isinstance(path, RemotePath) else None
        if reason is None:
            raise
        raise StorageError(f"{path}: {reason}") from error


def reason_of(path: AnyPath, error: BaseException) -> str:
    """An error of LanceDB, in one sentence if it is one of an object store."""
    if isinstance(path, RemotePath) and not isinstance(error, MultimodalError):
        return explain(path, error) or first_line(error)
    return str(error)
