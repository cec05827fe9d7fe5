"""Entry: one thing to add, not looked at yet; and what tables, archives and data sets share in making entries."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

from multimodal.core.errors import InvalidInput
from multimodal.index.results import Metadata, Scalar
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.filters import MAX_INT, check_metadata

ROLES = ("path", "text", "id")  # what a column of a table may be; every other one is metadata
PATH_NAMES = (
    *(
        "path",
        "file_name",
        "filename",
        "file",
        "filepath",
        "file_path",
        "image_path",
        "audio_path",
        "video_path",
    ),
    *("image", "audio", "video"),
)
TEXT_NAMES = ("text", "caption", "sentence", "content", "transcript")


class Blob(NamedTuple):
    """The bytes of a file that is no file on this machine: a member of an archive, a cell of a table."""

    data: bytes
    uri: str


class Entry(NamedTuple):
    """One thing to add. name: how a failure calls it. metadata: None leaves what is known as it is.

    container: the archive or table it comes from, `columns` as given with that, and file: size and mtime_ns of it if
    what is in it cannot change without it. cut: whether a text is cut into chunks; one given by itself is not.
    """

    value: object
    name: str
    id: str | None = None
    metadata: Metadata | None = None
    container: str | None = None
    columns: dict[str, str] | None = None
    file: tuple[int, int] | None = None
    cut: bool = False


class WasRead(NamedTuple):
    """A table or archive was read to its end: if that failed before, it does not any more."""

    container: str


Source = Entry | FailureRecord | WasRead  # what a source gives, one after another


def roles(names: Sequence[str], given: Mapping[str, str] | None, where: str) -> dict[str, str]:
    """Which column is the path (or the media themselves), which the text, which the id: {role: column}.

    Without a word from the caller the path is told by its name, and where there is none the text.
    Raises InvalidInput for a role or column that is not there, or a table in which neither can be told.
    """
    known = ", ".join(map(repr, names))
    for role, column in (given or {}).items():
        if role not in ROLES:
            raise InvalidInput(f"columns must say which is the {' or '.join(map(repr, ROLES))}, got {role!r}")
        if column not in names:
            raise InvalidInput(f"{where}: has no column {column!r} for {role!r}; it has {known}")
    found = dict(given or {})
    spelt = {name.lower(): name for name in reversed(names)}
    for role, likely in (("path", PATH_NAMES), ("text", TEXT_NAMES)):
        best = next((spelt[name] for name in likely if name in spelt), None)
        if best is not None and not {"path", "text"} & found.keys():
            found[role] = best
    if not {"path", "text"} & found.keys():
        raise InvalidInput(
            f"{where}: which column holds the files or the texts cannot be told; it has {known}: say it with "
            "columns={'path': ...} or columns={'text': ...}"
        )
    return found


def about(row: Mapping[str, Any], without: Sequence[str]) -> Metadata:
    """The cells of a row as metadata; what is empty or has no name is left out."""
    cells = {name: _plain(value) for name, value in row.items() if name and name not in without}
    return check_metadata({name: value for name, value in cells.items() if value is not None})


def _plain(value: object) -> Scalar:
    """A cell as metadata can hold it: dates as ISO 8601, lists and the like as JSON, huge numbers as text."""
    import numpy as np

    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, int) and not isinstance(plain, bool) and abs(plain) > MAX_INT:
        return str(plain)
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    if plain is None or isinstance(plain, str | int | float):
        return plain
    if isinstance(plain, date | datetime | time):
        return plain.isoformat()
    return json.dumps(plain, ensure_ascii=False, default=str)


def media(value: object, uri: str, folder: Path) -> object:
    """What a path column holds: the path of a file, beside the table if it does not say where; or its bytes, or
    {"bytes", "path"} as Hugging Face writes them; or media as they are.

    Raises InvalidInput for nothing, or an address on the web.
    """
    if isinstance(value, Mapping) and set(value) == {"bytes", "path"}:
        value = value["path"] if value["bytes"] is None else value["bytes"]
    if isinstance(value, bytes) and value:
        return Blob(value, uri)
    if value is None or value in ("", b""):
        raise InvalidInput("the path is empty; nothing is there to index")
    if not isinstance(value, str):
        return value
    if "://" in value:
        raise InvalidInput(f"{value!r} is an address, not a file here; download it first")
    return folder / Path(value).expanduser()
