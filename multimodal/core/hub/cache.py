"""The caches: huggingface_hub's, in its documented layout, and a folder of multimodal's own for plain URLs.

    <hub cache>/models--owner--name/refs/<branch>                the commit a branch or tag was last seen at
                                   /snapshots/<commit>/<file>    a link to blobs/<the ETag of the hub>
                                   /.multimodal/<commit>.json    ours: the names of all files of a commit
                                   /.multimodal/<key>.unchecked  ours: see `fetch.download`
    <own cache>/files/<key>/<file>                               files at plain URLs, see `url`

Environment variables are read at every use, so that changes apply at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from multimodal.core.errors import DownloadError, InvalidInput

COMMIT = re.compile(r"[0-9a-f]{40}")
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Address:
    """A revision of a repository on a hub.

    Attributes:
        repo: "owner/name".
        revision: a branch, tag or commit.
        endpoint: the URL of the hub.
    """

    repo: str
    revision: str
    endpoint: str

    def __str__(self) -> str:
        return f"{self.repo} (revision {self.revision!r}, {self.endpoint})"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a full commit hash, whose content never changes."""
        return COMMIT.fullmatch(self.revision) is not None

    @property
    def _folder(self) -> Path:
        return hub_cache() / f"models--{self.repo.replace('/', '--')}"

    @property
    def _ref(self) -> Path:
        return self._folder / "refs" / self.revision

    @property
    def _notes(self) -> Path:
        return self._folder / ".multimodal"

    def snapshot(self, commit: str) -> Path:
        """The folder of a commit in the cache."""
        return self._folder / "snapshots" / commit

    def last_commit(self) -> str | None:
        """The commit of this revision when it was last fetched; None if it never was."""
        if self.pinned:
            return self.revision
        try:
            commit = self._ref.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def remember_commit(self, commit: str) -> None:
        """Records the commit of a branch, once its files are cached: a failed update keeps the old commit."""
        if not self.pinned and self.last_commit() != commit:
            _write_whole(self._ref, commit)

    def listing(self, commit: str) -> list[str] | None:
        """The names of all files of a commit; None if they were never requested."""
        try:
            names = json.loads((self._notes / f"{commit}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return names if isinstance(names, list) else None

    def remember_listing(self, commit: str, names: list[str]) -> None:
        """Records the names of all files of a commit."""
        if self.listing(commit) != names:
            _write_whole(self._notes / f"{commit}.json", json.dumps(names, ensure_ascii=False))

    def present(self, commit: str) -> list[str]:
        """The sorted names of the files of a commit that are in the cache."""
        top = self.snapshot(commit)
        names = (path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())
        return sorted(name for name in names if self.find(commit, name))

    def find(self, commit: str, name: str) -> Path | None:
        """A file in the cache; None without one, or if the process that downloaded it died before verifying it."""
        path = self.snapshot(commit) / relative_path(name)
        return path if path.is_file() and not self.marker(commit, name, "unchecked").exists() else None

    def marker(self, commit: str, name: str, kind: str) -> Path:
        """The path of a marker for one file in the cache. kind: "lock", or "unchecked" until it is verified."""
        key = hashlib.sha256(f"{commit}/{name}".encode()).hexdigest()[:24]
        return self._notes / f"{key}.{kind}"


def is_offline(offline: bool = False) -> bool:
    """Whether network requests are disabled, by the option, HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE."""
    if offline or is_set("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        return True
    # huggingface_hub reads the environment once, at import, and then refuses every request
    loaded = sys.modules.get("huggingface_hub.constants")
    return loaded is not None and bool(loaded.HF_HUB_OFFLINE)


def is_set(*names: str) -> bool:
    """Whether the first of these environment variables that is set is true, by the rules of huggingface_hub."""
    value = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return value.upper() in ("1", "ON", "YES", "TRUE")


def hub_cache() -> Path:
    """huggingface_hub's cache: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub or its default."""
    from huggingface_hub import constants

    for name, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "hub")):
        if value := os.environ.get(name):
            return Path(os.path.expandvars(value)).expanduser().absolute() / below
    return Path(constants.HF_HUB_CACHE)


def own_cache() -> Path:
    """MULTIMODAL_CACHE, else `multimodal` in XDG_CACHE_HOME, else ~/.cache/multimodal."""
    if value := os.environ.get("MULTIMODAL_CACHE"):
        return Path(value).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "multimodal"


def relative_path(name: str) -> PurePosixPath:
    """The name of a file in a repository as a relative path. Raises InvalidInput if it leaves the repository."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
        raise InvalidInput(f"the name of a file in a repository must be like 'folder/file.txt', got {name!r}")
    return path


def matches_etag(path: Path, etag: str) -> bool:
    """Whether the content of a file matches its ETag; True for an ETag that is not a digest.

    The ETag of a large file is its sha256; of a small one, git's sha1 of a header and the content, or at some mirrors
    the plain sha1.
    """
    if re.fullmatch(r"[0-9a-f]{64}", etag):
        return digest(path, hashlib.sha256()) == etag
    if re.fullmatch(r"[0-9a-f]{40}", etag):
        git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        return etag in (digest(path, git), digest(path, hashlib.sha1(usedforsecurity=False)))
    return True


def digest(path: Path, hashing: hashlib._Hash) -> str:
    """The hex digest of a file. hashing: a hash object, possibly updated with a header before."""
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            hashing.update(block)
    return hashing.hexdigest()


def remove(path: Path) -> None:
    """Deletes a file from the cache: the link in its snapshot and the file that it points to."""
    chain = [path]
    while chain[-1].is_symlink():
        chain.append(chain[-1].parent / chain[-1].readlink())
    for link in chain:
        link.unlink(missing_ok=True)


def require_disk_space(folder: Path, size: int, what: str) -> None:
    """Raises DownloadError if the disk of `folder`, which need not exist, has less than `size` bytes free."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise DownloadError(
            f"{what} needs {size / 1e6:,.1f} MB and only {free / 1e6:,.1f} MB are free in {existing}; free some "
            "space, or set HF_HOME (MULTIMODAL_CACHE for plain URLs) to a folder on a larger disk"
        )


def _write_whole(path: Path, text: str) -> None:
    """Writes a small file atomically, since other processes may be reading it.

    A failure, as in a read-only cache shared by a cluster, is ignored: the file only saves the next call a request.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new.", dir=path.parent) as scratch:
            new = Path(scratch) / path.name
            new.write_text(text, encoding="utf-8")
            new.replace(path)
