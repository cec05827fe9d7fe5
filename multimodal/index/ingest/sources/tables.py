"""Tables of documents: CSV, TSV, JSON lines and Parquet, one document a row, read row by row.

One column holds paths (relative to the table) or the media themselves, or one holds texts. One may hold ids, and every
other column is metadata. A row without an id is identified by its file, or else by its number.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text
from multimodal.index.ingest.sources.folders import printable
from multimodal.index.ingest.sources.record import SourceRecord, column_roles, media_value, row_metadata
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

CSV = (".csv", ".tsv")
DELIMITERS = ",;\t|"
ROWS_PER_BATCH = 256

TableRow = dict[str, Any]


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its name."""
    return path.suffix.lower() in READERS and path.is_file()


def n_rows(path: Path) -> int | None:
    """How many rows a table has, if its header says so."""
    if path.suffix.lower() != ".parquet":
        return None
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError):  # reported when the table is read
        return None


def records(
    path: Path, metadata: Metadata | None, columns: Mapping[str, str] | None
) -> Iterator[SourceRecord | FailureRecord]:
    """Yields the rows of a table. An unreadable table is one failure, and so is an unusable row.

    Raises InvalidInput if the roles of the columns cannot be found; see record.column_roles.
    """
    given_columns = None if columns is None else dict(columns)
    try:
        rows = READERS[path.suffix.lower()](path)
        first = next(rows, None)
        if first is None:
            raise InvalidInput(f"{printable(path)}: has no rows; there is nothing to index")
    except (OSError, ValueError, csv.Error) as error:
        yield _failure(str(path), path, _reason(path, error), given_columns, metadata)
        return
    roles = column_roles(list(first), columns, printable(path))
    number = 0
    try:
        for number, row in enumerate(itertools.chain([first], rows), start=1):
            yield _record(path, number, row, roles, metadata, given_columns)
    except (OSError, ValueError, csv.Error) as error:
        reason = f"{_reason(path, error)} (after {number:,} rows)"
        yield _failure(str(path), path, reason, given_columns, metadata)


def _record(
    path: Path,
    number: int,
    row: TableRow,
    roles: dict[str, str],
    metadata: Metadata | None,
    columns: dict[str, str] | None,
) -> SourceRecord | FailureRecord:
    uri = f"{path}#row={number}"
    try:
        value = (
            media_value(row.get(roles["path"]), uri, path.parent)
            if "path" in roles
            else _text(row, roles["text"], uri)
        )
        cells = _typed_cells(row) if path.suffix.lower() in CSV else row
        merged = (metadata or {}) | row_metadata(cells, [*roles.values()])
        id_ = row.get(roles["id"]) if "id" in roles else None
        if "id" in roles and id_ in (None, ""):
            raise InvalidInput(f"the column {roles['id']!r} is empty; every row needs its own id")
    except InvalidInput as error:
        return _failure(uri, path, f"{printable(uri)}: {error}", columns)
    name = printable(value) if isinstance(value, Path) else printable(uri)
    return SourceRecord(
        value, name, None if id_ is None else str(id_), merged, str(path), columns, split_text=True
    )


def _failure(
    key: str, path: Path, reason: str, columns: dict[str, str] | None, metadata: Metadata | None = None
) -> FailureRecord:
    return FailureRecord(
        key, printable(key), "read", reason, container=str(path), columns=columns, metadata=metadata
    )


def _text(row: TableRow, column: str, uri: str) -> Text:
    value = row.get(column)
    if value is None or value == "":
        raise InvalidInput(f"the column {column!r} is empty; there is nothing to encode")
    return Text(str(value), uri=uri)


def _csv(path: Path) -> Iterator[TableRow]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        file.seek(0)
        for row in csv.DictReader(file, delimiter=max(DELIMITERS, key=header.count)):
            yield {name: cell or None for name, cell in row.items() if isinstance(name, str)}


def _typed_cells(row: TableRow) -> TableRow:
    """The cells of a CSV file, in which all is text: numbers, true and false are parsed as JSON."""
    return {name: _typed(cell) for name, cell in row.items()}


def _typed(cell: Any) -> Any:
    try:
        value = json.loads(cell)
    except (TypeError, ValueError):
        return cell
    return value if isinstance(value, bool | int | float) else cell


def _jsonl(path: Path) -> Iterator[TableRow]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise InvalidInput(f"line {number} is no JSON object such as {{'path': 'x.jpg'}}")
            yield row


def _parquet(path: Path) -> Iterator[TableRow]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_PER_BATCH):
            yield from batch.to_pylist()


READERS = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def _reason(path: Path, error: Exception) -> str:
    text = str(error)
    return (
        text if text.startswith(printable(path)) else f"{printable(path)}: cannot be read as a table ({text})"
    )
