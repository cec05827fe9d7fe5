"""Table files: CSV, TSV, JSON lines, Parquet and Arrow, one document a row, read row by row.

One column holds paths (relative to the table) or the media themselves, or one holds texts. One may hold ids, and every
other column is metadata. A row without an id is identified by its file, or else by its number. A row that cannot be
read is a failure, counts in the numbering, and the rows after it are read.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.index.ingest.sources.arrow_rows import read_arrow, read_parquet
from multimodal.index.ingest.sources.delimited import BadRow, TableRow, read_delimited
from multimodal.index.ingest.sources.lines import read_lines
from multimodal.index.ingest.sources.names import printable
from multimodal.index.ingest.sources.record import (
    ROW,
    ROW_RANGE,
    ContainerRead,
    SourceOptions,
    SourceRecord,
    column_roles,
    id_value,
    media_value,
    row_metadata,
    text_value,
)
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

CSV = (".csv", ".tsv")
JSON_LINES = ".jsonl"
PARQUET = ".parquet"
ARROW = (".arrow", ".feather")
SUFFIXES = (*CSV, JSON_LINES, PARQUET, *ARROW)
PEEK_ROWS = 64  # read to find the columns, so that a bad first row does not decide them
READ_ERRORS = (OSError, ValueError)


def is_table(path: AnyPath) -> bool:
    """Whether a file is a table, by its name. One on an object store is not looked for."""
    return path.suffix.lower() in SUFFIXES and (isinstance(path, RemotePath) or path.is_file())


def n_rows(path: Path) -> int | None:
    """How many rows a table has, if its header says so."""
    if path.suffix.lower() != PARQUET:
        return None
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except READ_ERRORS:  # reported when the table is read
        return None


def column_names(rows: list[Any]) -> list[str]:
    """The names of all columns of some rows, in the order in which they first come."""
    return list(dict.fromkeys(str(name) for row in rows if isinstance(row, Mapping) for name in row))


def records(
    path: AnyPath, metadata: Metadata | None, options: SourceOptions
) -> Iterator[SourceRecord | FailureRecord | ContainerRead]:
    """Yields the rows of a table. An unreadable table is one failure, and so is an unusable row.

    Raises InvalidInput if the roles of the columns cannot be found; see record.column_roles.
    """
    table = _Table(path, metadata, options)
    rows = table.read()
    first, error = peek(rows, READ_ERRORS)
    if not first:
        error = error or InvalidInput(f"{printable(path)}: has no rows; there is nothing to index")
        yield table.failure(str(path), table.reason(error), metadata)
        return
    names = column_names(first)
    table.roles = column_roles(names, options.columns, printable(path)) if names else {}
    number, failed = 0, set[str]()
    try:
        for row in itertools.chain(first, rows):
            output = table.output(number + 1, row)
            if isinstance(row, BadRow) and isinstance(output, FailureRecord):
                failed.add(output.key)
            yield output
            number += row.n_rows if isinstance(row, BadRow) else 1
    except READ_ERRORS as later:
        error = later
    if error is not None:
        yield table.failure(str(path), f"{table.reason(error)} (after {number:,} rows)", metadata)
    else:
        yield ContainerRead(str(path), number, frozenset(failed), not failed)


def peek(rows: Iterator[Any], errors: tuple[type[Exception], ...]) -> tuple[list[Any], Exception | None]:
    """The first rows, and the error that came before there were enough of them."""
    first: list[Any] = []
    try:
        first.extend(itertools.islice(rows, PEEK_ROWS))  # keeps what came before an error
    except errors as error:
        return first, error
    return first, None


class _Table:
    """A table that is being read, with what all of its rows share."""

    def __init__(self, path: AnyPath, metadata: Metadata | None, options: SourceOptions) -> None:
        self.path, self.metadata, self.options = path, metadata, options
        self.suffix = path.suffix.lower()
        self.columns = None if options.columns is None else dict(options.columns)
        self.roles: dict[str, str] = {}

    def read(self) -> Iterator[TableRow | BadRow]:
        if self.suffix in CSV:
            return read_delimited(self.path, self.options.delimiter, self.options.encoding)
        if self.suffix == JSON_LINES:
            return _json_lines(self.path, self.options.encoding)
        return read_parquet(self.path) if self.suffix == PARQUET else read_arrow(self.path)

    def output(self, number: int, row: TableRow | BadRow) -> SourceRecord | FailureRecord:
        """What becomes of a row. number: from 1."""
        if isinstance(row, BadRow) and row.n_rows > 1:
            key = f"{self.path}{ROW_RANGE}{number}-{number + row.n_rows - 1}"
            reason = f"{printable(key)}: {row.reason}, so {row.n_rows:,} rows were not added"
            return self.failure(key, reason, self.metadata)
        place = f"{self.path}{ROW}{number}"
        if isinstance(row, BadRow):
            return self.failure(place, f"{printable(place)}: {row.reason}", self.metadata)
        try:
            return self.record(place, row)
        except InvalidInput as error:
            return self.failure(place, f"{printable(place)}: {error}", self.metadata)

    def record(self, place: str, row: TableRow) -> SourceRecord:
        roles, value = self.roles, None
        if "path" in roles:
            value = media_value(row.get(roles["path"]), place, self.path)
        else:
            value = text_value(row.get(roles["text"]), roles["text"], place)
        cells = _typed_cells(row) if self.suffix in CSV else row
        return SourceRecord(
            value,
            printable(value) if isinstance(value, Path | RemotePath) else printable(place),
            id_value(row.get(roles["id"]), roles["id"]) if "id" in roles else None,
            (self.metadata or {}) | row_metadata(cells, [*roles.values()]),
            str(self.path),
            self.columns,
            split_text=True,
            place=place,
            delimiter=self.options.delimiter,
            encoding=self.options.encoding,
        )

    def failure(self, key: str, reason: str, metadata: Metadata | None) -> FailureRecord:
        return FailureRecord(
            key,
            printable(key),
            "read",
            reason,
            container=str(self.path),
            columns=self.columns,
            metadata=metadata,
            delimiter=self.options.delimiter,
            encoding=self.options.encoding,
        )

    def reason(self, error: Exception) -> str:
        text, name = str(error), printable(self.path)
        return text if text.startswith(name) else f"{name}: cannot be read as a table ({text})"


def _typed_cells(row: TableRow) -> TableRow:
    """The cells of a CSV file, in which all is text: numbers, true and false are parsed as JSON."""
    return {name: _typed(cell) for name, cell in row.items()}


def _typed(cell: Any) -> Any:
    try:
        value = json.loads(cell)
    except (TypeError, ValueError, RecursionError):
        return cell
    return value if isinstance(value, bool | int | float) else cell


def _json_lines(path: AnyPath, encoding: str | None) -> Iterator[TableRow | BadRow]:
    for line in read_lines(path, encoding):
        if line.problem is not None:
            yield BadRow(line.problem)
        elif line.text.strip():
            yield _json_row(line.number, line.text)


def _json_row(number: int, text: str) -> TableRow | BadRow:
    try:
        row = json.loads(text.strip())
    except json.JSONDecodeError as error:
        return BadRow(f"line {number:,} is not valid JSON ({error.msg}, at column {error.colno:,})")
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, too many brackets
        return BadRow(f"line {number:,} cannot be read as JSON ({error})")
    if not isinstance(row, dict):
        return BadRow(f"line {number:,} is no JSON object such as {{'path': 'x.jpg'}}")
    return row
