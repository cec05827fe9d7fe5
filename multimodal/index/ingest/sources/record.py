"""SourceRecord: one document of a source, not looked up yet; and what tables, archives and data sets share."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text
from multimodal.core.media.inputs import describe_type
from multimodal.core.remote.files import RemoteFile
from multimodal.core.remote.path import AnyPath, RemotePath, is_remote_source
from multimodal.index.ingest.sources.delimited import check_delimiter
from multimodal.index.ingest.sources.encodings import check_encoding
from multimodal.index.ingest.sources.selection import EVERYTHING, Selection
from multimodal.index.results import Metadata, Scalar
from multimodal.index.storage.failures import FailureRecord
from multimodal.index.storage.filters import MAX_INT, check_metadata

ROLES = ("path", "text", "id")  # what a column of a table may be; every other column is metadata
PATH_NAMES = (
    *("path", "file_name", "filename", "file", "filepath", "file_path"),
    *("image_path", "audio_path", "video_path", "image", "audio", "video"),
)
TEXT_NAMES = ("text", "caption", "sentence", "content", "transcript")

ROW, ROW_RANGE = "#row=", "#rows="  # what follows the path of a table in the key of a row, and of several
COPY = "#copy="  # what precedes the name in the key of a member that an archive holds again

FileState = tuple[int, int]  # size in bytes, mtime_ns


@dataclass(frozen=True)
class SourceOptions:
    """Options for all records of a source. metadata: None leaves stored metadata as it is. columns: the roles of the
    columns of tables. skip: a folder to leave out, the index itself. delimiter, encoding: of tables that are text;
    None to recognise them. selection: which files of folders and zip archives are read. as_shards: tables, archives and
    messages come as one record each, whose value is a Shard, for a worker to read.

    Raises InvalidInput for a delimiter or encoding that does not exist."""

    metadata: Metadata | None = None
    columns: Mapping[str, str] | None = None
    skip: Path | None = None
    delimiter: str | None = None
    encoding: str | None = None
    selection: Selection = EVERYTHING
    as_shards: bool = False

    def __post_init__(self) -> None:
        check_delimiter(self.delimiter)
        check_encoding(self.encoding)


class Blob(NamedTuple):
    """The bytes of a file that is not on disk by itself: a member of an archive, a cell of a table, an object of a
    store, which is kept in its place before and after it is read."""

    data: bytes
    uri: str
    remote: RemoteFile | None = None


class SourceRecord(NamedTuple):
    """One document to add.

    name: how a failure names it. metadata: None leaves stored metadata as it is. container: the archive or table it
    comes from, with the `columns`, `delimiter` and `encoding` given for that. file_state: that of the container, if its
    members cannot change without it. split_text: whether a long text is split into passages; a text that is given by
    itself is not. place: the row of the table or the sample of the archive, as the key of a failure to read it.
    is_listed: whether a folder or archive holds it among others, so that it is skipped if it is of no known kind.
    """

    value: object
    name: str
    id: str | None = None
    metadata: Metadata | None = None
    container: str | None = None
    columns: dict[str, str] | None = None
    file_state: FileState | None = None
    split_text: bool = False
    place: str | None = None
    delimiter: str | None = None
    encoding: str | None = None
    is_listed: bool = False


class Shard(NamedTuple):
    """A table or archive that is still to be read, or the attachments of a message, with the options for that.

    n_bytes: its size; None for a local file, whose size is looked up.
    """

    path: AnyPath
    metadata: Metadata | None
    options: SourceOptions
    n_bytes: int | None = None


class ContainerRead(NamedTuple):
    """A table or archive was read to its end. Failures of an earlier reading that did not recur are resolved.

    n_rows: how many rows a table has. failed: the keys of the failures to read a row or member. is_complete: whether it
    is known of every row and member which document it is.
    """

    container: str
    n_rows: int | None = None
    failed: frozenset[str] = frozenset()
    is_complete: bool = True

    def resolves(self, failure: FailureRecord) -> bool:
        """Whether a failure of an earlier reading is out of date."""
        if failure.container != self.container or failure.key in self.failed:
            return False
        if failure.key == self.container:
            return True
        place = failure.key.removeprefix(self.container)
        if place.startswith((ROW_RANGE, COPY)):
            return True
        row = place.removeprefix(ROW)
        return self.n_rows is not None and row != place and row.isdecimal() and int(row) > self.n_rows


SourceOutput = SourceRecord | FailureRecord | ContainerRead  # what iterating a source yields


def column_roles(names: Sequence[str], given: Mapping[str, str] | None, where: str) -> dict[str, str]:
    """Which column holds the path (or the media themselves), the text, and the id: {role: column}.

    What is not given is found by the names of the columns: the path first, and without one the text.
    Raises InvalidInput for an unknown role or column, or if neither path nor text is found.
    """
    available = ", ".join(map(repr, names))
    for role, column in (given or {}).items():
        if role not in ROLES:
            raise InvalidInput(f"columns must say which is the {' or '.join(map(repr, ROLES))}, got {role!r}")
        if column not in names:
            raise InvalidInput(f"{where}: has no column {column!r} for {role!r}; it has {available}")
    roles = dict(given or {})
    spelling = {name.lower(): name for name in reversed(names)}
    for role, common_names in (("path", PATH_NAMES), ("text", TEXT_NAMES)):
        column_ = next((spelling[name] for name in common_names if name in spelling), None)
        if column_ is not None and not {"path", "text"} & roles.keys():
            roles[role] = column_
    if not {"path", "text"} & roles.keys():
        raise InvalidInput(
            f"{where}: no column is known to hold files or texts; it has {available}: name it with "
            "columns={'path': ...} or columns={'text': ...}"
        )
    return roles


def row_metadata(row: Mapping[str, Any], without: Sequence[str]) -> Metadata:
    """The cells of a row as metadata, without the columns `without` and those that are empty or have no name."""
    cells = {name: _scalar(value) for name, value in row.items() if name and name not in without}
    return check_metadata({name: value for name, value in cells.items() if value is not None})


def is_missing(value: object) -> bool:
    """Whether a cell is empty: None, NaN, or what pandas and NumPy have for them (NA, NaT)."""
    import numpy as np

    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    return isinstance(value, float | np.floating) and bool(value != value)


def text_value(value: object, column: str, uri: str | None = None) -> Text:
    """The text in a cell; a number is written out.

    Raises InvalidInput for an empty cell, or one that holds neither.
    """
    if is_missing(value) or value == "":
        raise InvalidInput(f"the column {column!r} is empty; there is nothing to encode")
    if isinstance(value, str):
        return Text(str(value), uri=uri)
    if not isinstance(value, numbers.Number | Decimal | date | time | Enum | UUID):
        raise InvalidInput(
            f"the column {column!r} holds {describe_type(value)} where a text was expected; name another with "
            "columns={'text': ...}"
        )
    return Text(str(value), uri=uri)


def id_value(value: object, column: str) -> str | None:
    """The id in a cell; None if it is empty, so that one is derived. A whole number has no decimals: 7.0 is "7".

    Raises InvalidInput for a cell that holds neither text nor a number.
    """
    import numpy as np

    if is_missing(value) or value == "":
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, numbers.Number | Decimal | date | time | Enum | UUID):
        return str(value)
    raise InvalidInput(f"the column {column!r} holds {describe_type(value)} where an id was expected")


def _scalar(value: object) -> Scalar:
    """A cell as metadata: dates as ISO 8601, lists and mappings as JSON, integers beyond 2**53 as text."""
    import numpy as np

    if is_missing(value):
        return None
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, np.ndarray):
        plain = plain.tolist()
    if isinstance(plain, int) and not isinstance(plain, bool) and abs(plain) > MAX_INT:
        return str(plain)
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    if plain is None or isinstance(plain, str | int | float):
        return plain
    if isinstance(plain, date | datetime | time):
        return plain.isoformat()
    return json.dumps(plain, ensure_ascii=False, default=str)


def media_value(value: object, uri: str, table: AnyPath) -> object:
    """The media in a cell: the path of a file, relative to the table, or its address on an object store; its bytes;
    {"bytes", "path"} as Hugging Face writes them; or media as they are.

    Raises InvalidInput for an empty cell, a URL, or an absolute path in a table on an object store, which may come
    from elsewhere and must not name the files of this machine.
    """
    if isinstance(value, Mapping) and set(value) == {"bytes", "path"}:
        value = value["path"] if value["bytes"] is None else value["bytes"]
    if isinstance(value, bytes) and value:
        return Blob(value, uri)
    if is_missing(value) or (isinstance(value, str | bytes) and not value):
        raise InvalidInput("the path is empty; there is nothing to index")
    if not isinstance(value, str):
        return value
    if is_remote_source(value):
        return RemotePath(value)
    if "://" in value:
        raise InvalidInput(f"{value!r} is a URL, not a local file; download it first")
    if isinstance(table, RemotePath):
        return table.parent.below(value)
    return table.parent / Path(value).expanduser()
