"""Which files of a folder are read: include and exclude patterns and .multimodalignore files, in gitignore syntax."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE = ".multimodalignore"
FOLDER_MARK = "ps_d"  # the group of pathspec's expressions that matches the slash after a folder
MAX_IGNORE_BYTES = 1 << 20

Patterns = str | Sequence[str]


class IgnoreRules(NamedTuple):
    """The patterns of one ignore file. folder: the path of its folder below the root, with a trailing slash, or ""."""

    folder: str
    spec: GitIgnoreSpec

    def decide(self, name: str) -> bool | None:
        """Whether a file, or a folder (its name ends with a slash), is ignored; None if no pattern matches it.

        As git does, the last pattern decides that matches the name itself. A pattern that matches only a folder above
        it says nothing: that folder was decided on before it was entered.
        """
        below = name.removeprefix(self.folder)
        for pattern in reversed(self.spec.patterns):
            result = None if pattern.include is None else pattern.match_file(below)
            if result is None:
                continue
            folder_end = result.match.groupdict().get(FOLDER_MARK)
            if folder_end is None or result.match.end(FOLDER_MARK) == len(below):
                return pattern.include
        return None


@dataclass(frozen=True)
class Selection:
    """Patterns that apply to all folders of a source. None: no patterns are given.

    A file is read if it matches an include pattern, if there are any, and no exclude pattern. A folder that matches an
    exclude pattern is not entered.
    """

    include: GitIgnoreSpec | None = None
    exclude: GitIgnoreSpec | None = None

    def takes(self, path: str, *, is_folder: bool, ignores: Sequence[IgnoreRules] = ()) -> bool:
        """Whether a file is read, or a folder entered.

        Args:
            path: The path below the root of the walk, with slashes.
            is_folder: Whether it is a folder.
            ignores: The ignore files of the folders above it, the outermost first; the innermost that says anything of
                a path decides.
        """
        name = f"{path}/" if is_folder else path
        if self.exclude is not None and self.exclude.match_file(name):
            return False
        for rules in reversed(ignores):
            is_ignored = rules.decide(name)
            if is_ignored is not None:
                return not is_ignored and self._includes(name, is_folder=is_folder)
        return self._includes(name, is_folder=is_folder)

    def _includes(self, name: str, *, is_folder: bool) -> bool:
        return is_folder or self.include is None or self.include.match_file(name)


EVERYTHING = Selection()


def selection(include: Patterns | None, exclude: Patterns | None) -> Selection:
    """The selection of `Index.add(include=, exclude=)`. Raises InvalidInput for an empty or invalid pattern."""
    return Selection(_spec(include, "include"), _spec(exclude, "exclude"))


def read_ignore_file(folder: Path, path: str) -> IgnoreRules | None:
    """The rules of the ignore file in a folder; None if it holds none.

    Args:
        folder: The folder that has an ignore file.
        path: Its path below the root of the walk.

    Raises:
        OSError: The file cannot be read.
    """
    with (folder / IGNORE_FILE).open("rb") as file:
        lines = file.read(MAX_IGNORE_BYTES).decode("utf-8-sig", errors="replace").splitlines()
    spec = compile_patterns(lines)
    return IgnoreRules(f"{path}/" if path else "", spec) if len(spec) else None


def compile_patterns(lines: Iterable[str]) -> GitIgnoreSpec:
    """Patterns in gitignore's syntax. Lines that are no valid pattern are left out, as git does."""
    from pathspec import GitIgnoreSpec

    valid = [line for line in lines if line.strip() and not line.startswith("#") and _is_valid(line)]
    return GitIgnoreSpec.from_lines(valid)


def _is_valid(pattern: str) -> bool:
    from pathspec import GitIgnoreSpec

    try:
        GitIgnoreSpec.from_lines([pattern])
    except ValueError:
        return False
    return True


def _spec(patterns: Patterns | None, name: str) -> GitIgnoreSpec | None:
    if patterns is None:
        return None
    listed: list[object] = [patterns] if isinstance(patterns, str) else list(patterns)
    for pattern in listed:
        if not (isinstance(pattern, str) and pattern.strip() and _is_valid(pattern)):
            raise InvalidInput(
                f"{name} takes patterns in the syntax of gitignore, such as '*.jpg' or 'drafts/', got {pattern!r}"
            )
    return compile_patterns(map(str, listed)) if listed else None
