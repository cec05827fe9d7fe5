"""Folders: of the files that ship with the package, and those that callers name for output."""

from __future__ import annotations

import os
import re
from pathlib import Path

from multimodal.core.errors import InvalidInput, MultimodalError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
COLLAPSED_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib joins slashes; one letter would be a drive


def assets() -> Path:
    """The folder with the shipped weights and the gallery: in a checkout, an editable install or a wheel alike.

    Raises MultimodalError if the installation lacks it.
    """
    package = Path(__file__).resolve().parent.parent
    # In a checkout multimodal/assets is a link to ../assets; where links are not supported the real one is beside.
    for folder in (package / "assets", package.parent / "assets"):
        if folder.is_dir():
            return folder.resolve()
    raise MultimodalError(f"the folder 'assets' is missing from {package}; reinstall multimodal")


def local_path(path: str | os.PathLike[str], what: str) -> Path:
    """The absolute path of a file or folder to write.

    Args:
        path: As the caller gave it.
        what: Its name in the error message, such as "an index".

    Raises:
        InvalidInput: The path is a URL: taken for a path, "s3://bucket" would be the local folder "s3:".
    """
    given = os.fspath(path)
    if (URL if isinstance(path, str) else COLLAPSED_URL).match(given):
        raise InvalidInput(
            f"{what} is kept in a local folder, got the URL {given!r}; give a local path, and copy or mount remote "
            "storage"
        )
    return Path(given).expanduser().absolute()
