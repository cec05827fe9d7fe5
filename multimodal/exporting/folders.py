"""The folder of an export: free or written by an earlier one, and written in one step."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from multimodal.core.errors import InvalidInput
from multimodal.core.paths import local_path


def free_folder(folder: str | os.PathLike[str], marker: str, what: str) -> Path:
    """The absolute path of a folder to write.

    Args:
        folder: New, empty, or with the marker of an earlier export.
        marker: A file that every such export holds.
        what: Is written, for the message, such as "an exported space".

    Raises:
        InvalidInput: It holds anything else.
    """
    target = local_path(folder, what)
    is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    if not is_free and not (target / marker).is_file():
        raise InvalidInput(f"{target} exists and is not {what}; export to a new or empty folder")
    return target


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """An empty folder beside the target, which takes its place if nothing is raised."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        yield new
        if target.exists():
            target.replace(Path(scratch) / "old")
        new.replace(target)
