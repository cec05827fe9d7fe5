"""Lists the files of folders and patterns, one after another.

Made for a million files: a folder is listed once, without a stat of each file, and only the names in the open folders
and the folders that were visited are held.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from multimodal.core.errors import MediaNotFound
from multimodal.index.ingest.sources.names import printable
from multimodal.index.ingest.sources.selection import (
    EVERYTHING,
    IGNORE_FILE,
    IgnoreRules,
    Selection,
    read_ignore_file,
)
from multimodal.index.ingest.video import without_subtitles
from multimodal.index.storage.creation import is_index
from multimodal.index.storage.failures import FailureRecord


def files_in(folder: str | os.PathLike[str], *, skip: Path | None = None) -> list[Path]:
    """Lists the files that `Index.add` would read from a folder.

    Args:
        folder: The folder; its subfolders are listed too.
        skip: A folder to leave out.

    Returns:
        Absolute paths in order of name, without hidden files.

    Raises:
        MediaNotFound: `folder` is not a folder.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise MediaNotFound(f"{path}: no such folder; check the path")
    return [file for file in walk(path, skip) if isinstance(file, Path)]


def walk(
    folder: Path, skip: Path | None = None, selection: Selection = EVERYTHING
) -> Iterator[Path | FailureRecord]:
    """Yields the files below a folder in order of name, and a failure for each folder that cannot be listed.

    Links to folders are resolved, and each folder is visited once, so that a loop ends and a file has one path. Hidden
    files, other indexes and the folder `skip` are left out, and so are subtitles beside their video, which belong to
    the video's document, and what the selection or an ignore file excludes.
    """
    visited: set[Path] = set() if skip is None else {skip.resolve()}
    root = folder.resolve()
    name = root.name or "."  # of the root of the file system
    top = _Listing(root.parent, [name], {name: False}, None, ())
    stack = [top]  # no recursion, so that no folder is too deep
    while stack:
        listing = stack[-1]
        if not listing.names:
            stack.pop()
            continue
        name = listing.names.pop()
        child = listing.folder / name
        if name not in listing.is_link:
            yield child
            continue
        real = child.resolve() if listing.is_link[name] else child
        if real in visited:
            continue
        visited.add(real)
        try:
            if not is_index(real):
                path = "" if listing.path is None else f"{listing.path}/{name}".lstrip("/")
                stack.append(_list(real, path, listing.ignores, selection))
        except OSError as error:
            reason = f"{printable(real)}: cannot be listed ({error.strerror}); check its permissions"
            yield FailureRecord(str(real), printable(real), "walk", reason, path=str(real))


def count_files(folder: Path, skip: Path | None = None, selection: Selection = EVERYTHING) -> int:
    """How many files and failures `walk` yields."""
    return sum(1 for _ in walk(folder, skip, selection))


def expand_pattern(pattern: str) -> list[Path] | None:
    """What matches a pattern such as `photos/**/*.jpg`, sorted, without hidden files; None if it is no pattern."""
    parts = Path(pattern).parts
    first = next((position for position, part in enumerate(parts) if set(part) & set("*?[")), None)
    if first is None:
        return None
    root = Path(*parts[:first])
    return sorted(
        path
        for path in root.glob("/".join(parts[first:]))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def absolute(path: Path) -> Path:
    """An absolute path with the links of its folder resolved. A link at its end stays: it is the name of the file."""
    return path.parent.resolve() / path.name


def exists(path: Path) -> bool:
    """Whether a path exists, also as a broken link, or in a folder without permission."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


class _Listing:
    """A folder that is being walked. names: those still to come, last first. is_link: for each subfolder, whether it is
    a link. path: of the folder below the root, None above it. ignores: of the folder and those above."""

    def __init__(
        self,
        folder: Path,
        names: list[str],
        is_link: dict[str, bool],
        path: str | None,
        ignores: tuple[IgnoreRules, ...],
    ) -> None:
        self.folder, self.names, self.is_link, self.path, self.ignores = folder, names, is_link, path, ignores


def _list(folder: Path, path: str, ignores: tuple[IgnoreRules, ...], selection: Selection) -> _Listing:
    """What a folder holds, without hidden files and what is not selected. Raises OSError."""
    names, is_link, has_ignore_file = [], {}, False
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                has_ignore_file = has_ignore_file or entry.name == IGNORE_FILE
                continue
            names.append(entry.name)
            if _is_folder(entry):
                is_link[entry.name] = entry.is_symlink()
    if has_ignore_file and (rules := read_ignore_file(folder, path)) is not None:
        ignores = (*ignores, rules)
    if ignores or selection is not EVERYTHING:
        prefix = f"{path}/" if path else ""
        names = [
            name
            for name in names
            if selection.takes(prefix + name, is_folder=name in is_link, ignores=ignores)
        ]
    names = sorted(without_subtitles(names), reverse=True)
    return _Listing(folder, names, is_link, path, ignores)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself: not a folder, and reported when it is read
        return False
