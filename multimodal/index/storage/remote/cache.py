"""The local cache of indexes on object stores: what searches derive from an index, such as its memory-mapped segments.

    CACHE/<key>/         one folder per index: what lies in the folder of a local index beside its table
    CACHE/<key>/used     touched when the index is opened

The key is a hash of the address, the identity of the index and the fingerprint of its space. Within a folder, rows are
named by LanceDB's row ids, which are never reused, and the version is compared before every search. So what is cached
is never that of another index, nor out of date.

The folder is MULTIMODAL_INDEX_CACHE, or `indexes` in the cache of the package. It holds up to
MULTIMODAL_INDEX_CACHE_GB gigabytes: what was opened least recently is removed first, never the index that is being
opened. Everything in it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import shutil
from pathlib import Path

from multimodal.core.errors import InvalidInput
from multimodal.core.hub.cache import own_cache
from multimodal.core.remote.path import AnyPath, RemotePath

FOLDER_VARIABLE, SIZE_VARIABLE = "MULTIMODAL_INDEX_CACHE", "MULTIMODAL_INDEX_CACHE_GB"
DEFAULT_GB = 20.0
USED_FILE, SEGMENTS, LOCK_FILE = "used", "search", "lock"
KEY_CHARS = 32


def derived_folder(index: AnyPath, identity: str, fingerprint: str) -> Path:
    """The local folder for what is derived from an index: that of the index itself, or one in the cache."""
    if not isinstance(index, RemotePath):
        return index
    key = hashlib.sha256("\0".join((str(index), identity, fingerprint)).encode()).hexdigest()[:KEY_CHARS]
    folder = cache_root() / key
    with contextlib.suppress(OSError):  # a read-only disk: each process keeps in memory what it needs
        folder.mkdir(parents=True, exist_ok=True)
        (folder / USED_FILE).write_text(f"{index}\n")
        make_room(folder)
    return folder


def cache_root() -> Path:
    """The folder of the cache."""
    if value := os.environ.get(FOLDER_VARIABLE):
        return Path(value).expanduser().absolute()
    return own_cache() / "indexes"


def max_bytes() -> int:
    """The size of the cache. Raises InvalidInput."""
    value = os.environ.get(SIZE_VARIABLE) or str(DEFAULT_GB)
    try:
        gigabytes = float(value)
    except ValueError:
        gigabytes = math.nan
    if not 0 <= gigabytes < math.inf:
        raise InvalidInput(f"{SIZE_VARIABLE} must be a number of gigabytes such as 20, got {value!r}")
    return int(gigabytes * 1e9)


def make_room(kept: Path) -> None:
    """Removes the folders that were opened least recently, until the cache fits. `kept` stays. Raises OSError."""
    folders = [folder for folder in kept.parent.iterdir() if folder.is_dir()]
    sizes = {folder: _size(folder) for folder in folders}
    total, limit = sum(sizes.values()), max_bytes()
    for folder in sorted(folders, key=_last_used):
        if total <= limit:
            return
        if folder != kept and _remove(folder):
            total -= sizes[folder]


def _remove(folder: Path) -> bool:
    """Removes a folder, unless another process is building in it. One that reads from it keeps the files it maps."""
    lock = folder / SEGMENTS / LOCK_FILE
    try:
        import fcntl

        with lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    except FileNotFoundError:  # nothing was built in it yet
        shutil.rmtree(folder, ignore_errors=True)
    except (ImportError, OSError):
        return False
    return True


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # removed meanwhile
            total += path.stat().st_size
    return total


def _last_used(folder: Path) -> float:
    try:
        return (folder / USED_FILE).stat().st_mtime
    except OSError:
        return 0.0
