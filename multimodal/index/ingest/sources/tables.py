"""Tables that say what to index: CSV, TSV, JSON lines and Parquet, one thing a row, read row by row.

One column holds paths (relative ones are taken from beside the table) or the media themselves, or one holds texts; one
may hold ids; every other is metadata. A row without an id is known by its file, or else by its number.
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
from multimodal.index.ingest.sources.folders import shown
from multimodal.index.ingest.sources.record import Entry, about, media, roles
from multimodal.index.results import Metadata
from multimodal.index.storage.failures import FailureRecord

CSV = (".csv", ".tsv")
DELIMITERS = ",;\t|"
ROWS_A_BATCH = 256

Row = dict[str, Any]


def is_manifest(path: Path) -> bool:
    """Whether a file is a table, by its name."""
    return path.suffix.lower() in READERS and path.is_file()


def n_rows(path: Path) -> int | None:
    """How many rows a table has, where its header tells."""
    if path.suffix.lower() != ".parquet":
        return None
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError):  # a broken file is told when it is read
        return None


def entries(
    path: Path, metadata: Metadata | None, columns: Mapping[str, str] | None
) -> Iterator[Entry | FailureRecord]:
    """A row of a table after the other. What is wrong with the table is a failure, what is wrong with one row too.

    Raises InvalidInput where the columns cannot be told apart; see entry.roles.
    """
    kept = None if columns is None else dict(columns)
    try:
        rows = READERS[path.suffix.lower()](path)
        first = next(rows, None)
        if first is None:
            raise InvalidInput(f"{shown(path)}: has no rows; there is nothing to index")
    except (OSError, ValueError, csv.Error) as error:
        yield _failed(str(path), path, _reason(path, error), kept, metadata)
        return
    role = roles(list(first), columns, shown(path))
    number = 0
    try:
        for number, row in enumerate(itertools.chain([first], rows), start=1):
            yield _entry(path, number, row, role, metadata, kept)
    except (OSError, ValueError, csv.Error) as error:
        yield _failed(str(path), path, f"{_reason(path, error)} (after {number:,} rows)", kept, metadata)


def _entry(
    path: Path,
    number: int,
    row: Row,
    role: dict[str, str],
    metadata: Metadata | None,
    columns: dict[str, str] | None,
) -> Entry | FailureRecord:
    uri = f"{path}#row={number}"
    try:
        value = media(row.get(role["path"]), uri, path.parent) if "path" in role else _text(row, role, uri)
        about_it = (metadata or {}) | about(
            _typed(row) if path.suffix.lower() in CSV else row, [*role.values()]
        )
        given = row.get(role["id"]) if "id" in role else None
        if "id" in role and given in (None, ""):
            raise InvalidInput(f"the column {role['id']!r} is empty; every row needs its own id")
    except InvalidInput as error:
        return _failed(uri, path, f"{shown(uri)}: {error}", columns)
    name = shown(value) if isinstance(value, Path) else shown(uri)
    id_ = None if given is None else str(given)
    return Entry(value, name, id_, about_it, str(path), columns, None, cut=True)


def _failed(
    key: str, path: Path, reason: str, columns: dict[str, str] | None, metadata: Metadata | None = None
) -> FailureRecord:
    return FailureRecord(key, shown(key), "read", reason, None, str(path), columns, None, metadata)


def _text(row: Row, role: dict[str, str], uri: str) -> Text:
    value = row.get(role["text"])
    if value is None or value == "":
        raise InvalidInput(f"the column {role['text']!r} is empty; there is nothing to encode")
    return Text(str(value), uri=uri)


def _csv(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = file.readline()
        file.seek(0)
        for row in csv.DictReader(file, delimiter=max(DELIMITERS, key=header.count)):
            yield {name: cell or None for name, cell in row.items() if isinstance(name, str)}


def _typed(row: Row) -> Row:
    """The cells of a CSV file, which knows only text: what JSON takes for a number, true or false is one."""
    return {name: _value(cell) for name, cell in row.items()}


def _value(cell: Any) -> Any:
    try:
        value = json.loads(cell)
    except (TypeError, ValueError):
        return cell
    return value if isinstance(value, bool | int | float) else cell


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = json.loads(line)
            if not isinstance(row, dict):
                raise InvalidInput(f"line {number} is no JSON object such as {{'path': 'x.jpg'}}")
            yield row


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROWS_A_BATCH):
            yield from batch.to_pylist()


READERS = {".csv": _csv, ".tsv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}


def _reason(path: Path, error: Exception) -> str:
    text = str(error)
    return text if text.startswith(shown(path)) else f"{shown(path)}: cannot be read as a table ({text})"
