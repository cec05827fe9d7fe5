"""Folders and patterns -> files, one after another, whatever the folders hold.

A million files pass through here, so a folder is listed once, without a look at each file, and nothing is kept but the
names in the folders that are open and the folders that were seen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from multimodal.core.errors import InvalidInput, MediaNotFound
from multimodal.index.ingest.video import without_subtitles
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.table import is_index


def files_in(folder: str | os.PathLike[str], *, skip: Path | None = None) -> list[Path]:
    """The files that adding a folder would look at: recursive, sorted, none hidden, absolute paths.

    Raises MediaNotFound if it is no folder.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise MediaNotFound(f"{path}: no such folder; check the path")
    return [one for one in walk(path, skip) if isinstance(one, Path)]


def walk(folder: Path, skip: Path | None = None) -> Iterator[Path | FailureRecord]:
    """Files below a folder, in order of name; a folder that cannot be listed is a failure.

    Links to folders are followed to where they lead, and each folder is taken once, so that no loop is endless and no
    file has two paths. Hidden files, other indexes and the folder `skip` are left out, and so are subtitles beside
    their film, which are a part of it.
    """
    seen: set[Path] = set() if skip is None else {skip.resolve()}
    root = folder.resolve()
    name = root.name or "."  # of the root of the file system
    open_folders = [_Listing(root.parent, [name], {name: False})]  # a stack, so that no depth is too deep
    while open_folders:
        here = open_folders[-1]
        if not here.names:
            open_folders.pop()
            continue
        name = here.names.pop()
        child = here.folder / name
        if name not in here.folders:
            yield child
            continue
        real = child.resolve() if here.folders[name] else child
        if real in seen:
            continue
        seen.add(real)
        try:
            if not is_index(real):
                open_folders.append(_list(real))
        except OSError as error:
            reason = f"{shown(real)}: cannot be listed ({error.strerror}); check its permissions"
            yield FailureRecord(str(real), shown(real), "walk", reason, path=str(real))


def count_files(folder: Path, skip: Path | None = None) -> int:
    """How many things `walk` gives."""
    return sum(1 for _ in walk(folder, skip))


def matches(pattern: str) -> list[Path] | None:
    """What matches a pattern such as `photos/**/*.jpg`, sorted, none hidden; None if it is no pattern."""
    parts = Path(pattern).parts
    first = next((at for at, part in enumerate(parts) if set(part) & set("*?[")), None)
    if first is None:
        return None
    root = Path(*parts[:first])
    found = root.glob("/".join(parts[first:]))
    return sorted(
        one for one in found if not any(part.startswith(".") for part in one.relative_to(root).parts)
    )


def absolute(path: Path) -> Path:
    """From the root, without links on the way; a last link stays, since it is the name the file is known by."""
    return path.parent.resolve() / path.name


def is_there(path: Path) -> bool:
    """Whether something is at a path, be it a link that leads nowhere, or hidden by a folder without permission."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def check_unicode(text: str, what: str) -> None:
    """Raises InvalidInput for a name that cannot be stored as text."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{what} {shown(text)} holds bytes that are not valid UTF-8, so it cannot be stored; rename it"
        ) from error


def shown(path: object) -> str:
    """A path or text as valid Unicode, for messages: names on disk may hold any bytes."""
    return os.fsencode(str(path)).decode("utf-8", errors="replace")


class _Listing:
    """A folder that is being walked: the names still to come, the last one first, and which of them are folders (or
    links to folders: True)."""

    def __init__(self, folder: Path, names: list[str], folders: dict[str, bool]) -> None:
        self.folder, self.names, self.folders = folder, names, folders


def _list(folder: Path) -> _Listing:
    """What a folder holds, without hidden files. Raises OSError."""
    names, folders = [], {}
    with os.scandir(folder) as found:
        for one in found:
            if one.name.startswith("."):
                continue
            names.append(one.name)
            if _is_folder(one):
                folders[one.name] = one.is_symlink()
    names = sorted(without_subtitles(names), reverse=True)
    return _Listing(folder, names, folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: no folder, and what it is shows when it is read
        return False
