"""Where fetched files are kept: huggingface_hub's cache, in the layout it documents, and a folder of our own.

    <hub cache>/models--owner--name/refs/<branch>                the commit a branch or tag was last seen at
                                   /snapshots/<commit>/<file>    a link to blobs/<the ETag the hub announced>
                                   /.multimodal/<commit>.json    ours: the names of all files of a commit
                                   /.multimodal/<key>.unchecked  ours: see `hub._obtain`
    <own cache>/files/<key>/<file>                               files at plain URLs, see `_hub_url`

The environment is read when it is needed, so that a change counts at once.
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
CHUNK = 1 << 20


@dataclass(frozen=True)
class Address:
    """A revision of a repository, and who is asked for it. repo: "owner/name"; revision: a branch, tag or commit."""

    repo: str
    revision: str
    endpoint: str

    def __str__(self) -> str:
        return f"{self.repo} (revision {self.revision!r}, {self.endpoint})"

    @property
    def pinned(self) -> bool:
        """Whether the revision is a whole commit hash, which never changes what it means."""
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
        return self._folder / "snapshots" / commit

    def last_commit(self) -> str | None:
        """The commit this revision is or was last seen at; None if it was never fetched."""
        if self.pinned:
            return self.revision
        try:
            commit = self._ref.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return commit if COMMIT.fullmatch(commit) else None

    def remember_commit(self, commit: str) -> None:
        """Note what the branch points at, once its files are here: so a failed update leaves the old one in use."""
        if not self.pinned and self.last_commit() != commit:
            _note(self._ref, commit)

    def listing(self, commit: str) -> list[str] | None:
        """The names of all files of a commit, if they were ever asked for."""
        try:
            names = json.loads((self._notes / f"{commit}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return names if isinstance(names, list) else None

    def remember_listing(self, commit: str, names: list[str]) -> None:
        if self.listing(commit) != names:
            _note(self._notes / f"{commit}.json", json.dumps(names, ensure_ascii=False))

    def present(self, commit: str) -> list[str]:
        """The names of the files of a commit that are in the cache, sorted."""
        top = self.snapshot(commit)
        found = (path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())
        return sorted(name for name in found if self.find(commit, name))

    def find(self, commit: str, name: str) -> Path | None:
        """A file in the cache. One that was left unchecked by a process that died is not taken for found."""
        path = self.snapshot(commit) / inside(name)
        return path if path.is_file() and not self.guard(commit, name, "unchecked").exists() else None

    def guard(self, commit: str, name: str, kind: str) -> Path:
        """A small file that says something of one file in the cache: kind "lock" or "unchecked"."""
        key = hashlib.sha256(f"{commit}/{name}".encode()).hexdigest()[:24]
        return self._notes / f"{key}.{kind}"


def is_offline(offline: bool = False) -> bool:
    """Whether the network is out of bounds: by the option, or by HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE."""
    if offline or is_set("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        return True
    # huggingface_hub looks at the environment once, when it is imported, and then refuses every request
    loaded = sys.modules.get("huggingface_hub.constants")
    return loaded is not None and bool(loaded.HF_HUB_OFFLINE)


def is_set(*names: str) -> bool:
    """Whether the first of these variables that is there says yes, in huggingface_hub's words."""
    value = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return value.upper() in ("1", "ON", "YES", "TRUE")


def hub_cache() -> Path:
    """huggingface_hub's cache: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME/hub or what it chose itself."""
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


def inside(name: str) -> PurePosixPath:
    """A file's name as a relative path. Raises InvalidInput for one that would leave its folder."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
        raise InvalidInput(f"a file of a repository is named as 'folder/file.txt', got {name!r}")
    return path


def check(path: Path, announced: str) -> bool:
    """Whether a file's content is what its ETag announced. ETags that are no digest cannot be compared: True.

    Large files carry their sha256. Small ones carry git's sha1 of the content with a header; some mirrors give the
    plain sha1 instead.
    """
    if re.fullmatch(r"[0-9a-f]{64}", announced):
        return digest(path, hashlib.sha256()) == announced
    if re.fullmatch(r"[0-9a-f]{40}", announced):
        git = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
        return announced in (digest(path, git), digest(path, hashlib.sha1(usedforsecurity=False)))
    return True


def digest(path: Path, hashing: hashlib._Hash) -> str:
    """The hex digest of a file, added to what `hashing` holds already."""
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            hashing.update(chunk)
    return hashing.hexdigest()


def remove(path: Path) -> None:
    """Take a file out of the hub's cache: the link in its snapshot and whatever the link leads to."""
    chain = [path]
    while chain[-1].is_symlink():
        chain.append(chain[-1].parent / chain[-1].readlink())
    for one in chain:
        one.unlink(missing_ok=True)


def require_room(folder: Path, size: int, what: str) -> None:
    """Raises DownloadError if `size` bytes do not fit where `folder` is or will be."""
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(existing).free
    if free < size:
        raise DownloadError(
            f"{what} takes {size / 1e6:,.1f} MB and only {free / 1e6:,.1f} MB are free in {existing}; make room, or "
            "set HF_HOME (MULTIMODAL_CACHE for plain URLs) to a folder on a larger disk"
        )


def _note(path: Path, text: str) -> None:
    """Write a note, all or nothing, since others may be reading. Where that cannot be done, as in a cache that a whole
    cluster reads, it is left: a note only saves the next call a question."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".note.", dir=path.parent) as scratch:
            new = Path(scratch) / path.name
            new.write_text(text, encoding="utf-8")
            new.replace(path)
