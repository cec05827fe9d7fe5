"""The failures of an index on an object store, whose objects cannot be appended to: a second LanceDB table.

INDEX/failures.lance    one row per failure: its key, and the record as JSON
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from multimodal.core.errors import StorageError
from multimodal.core.remote.path import RemotePath
from multimodal.index.storage.connection import connect, is_taken, reason_of
from multimodal.index.storage.filters import is_in
from multimodal.index.storage.schema import PRIMARY_KEY

TABLE_NAME = "failures"
KEYS_PER_STATEMENT = 1000
KEEP_OLD_VERSIONS = timedelta(hours=1)
WRITES_PER_CLEANUP = 64


class FailureTable:
    """Reads and writes the records of failures, as dicts by key."""

    def __init__(self, index: RemotePath) -> None:
        self._index = index
        self._table: Any = None
        self._n_writes = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """All records, in the order in which they were written. Raises StorageError."""
        table = self._open()
        if table is not None:
            for content in table.search().select(["record"]).to_arrow()["record"].to_pylist():
                yield json.loads(content)

    def write(self, changes: Mapping[str, dict[str, Any] | None]) -> None:
        """Stores records, and removes those that are None. Raises StorageError."""
        try:
            self._write(changes)
        except (OSError, RuntimeError, ValueError) as error:
            raise StorageError(f"{self._index / TABLE_NAME}: {reason_of(self._index, error)}") from error

    def _write(self, changes: Mapping[str, dict[str, Any] | None]) -> None:
        import pyarrow as pa

        table = self._open() or self._create()
        removed = [key for key, record in changes.items() if record is None]
        for start in range(0, len(removed), KEYS_PER_STATEMENT):
            table.delete(is_in("key", removed[start : start + KEYS_PER_STATEMENT], "keys"))
        # As JSON in ASCII, so that a path that is not valid Unicode is read back as it was.
        rows = [(key, json.dumps(record)) for key, record in changes.items() if record is not None]
        if rows:
            keys, records = zip(*rows, strict=True)
            data = pa.table({"key": list(keys), "record": list(records)}, schema=_schema())
            operation = table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
            operation.execute(data)
        self._n_writes += 1
        if self._n_writes % WRITES_PER_CLEANUP == 0:
            table.optimize(cleanup_older_than=KEEP_OLD_VERSIONS)

    def _open(self) -> Any:
        """The table; None if there is none yet."""
        if self._table is None:
            try:
                self._table = connect(self._index).open_table(TABLE_NAME)
            except (OSError, RuntimeError, ValueError) as error:
                if "not found" not in str(error).lower():
                    raise StorageError(
                        f"{self._index / TABLE_NAME}: {reason_of(self._index, error)}"
                    ) from error
        return self._table

    def _create(self) -> Any:
        try:
            self._table = connect(self._index).create_table(TABLE_NAME, schema=_schema())
        except (OSError, RuntimeError, ValueError) as error:
            if not is_taken(error):
                raise
            self._table = connect(self._index).open_table(TABLE_NAME)
        return self._table


def _schema() -> Any:
    import pyarrow as pa

    return pa.schema([
        pa.field("key", pa.string(), nullable=False, metadata=PRIMARY_KEY),
        pa.field("record", pa.string(), nullable=False),
    ])  # fmt: skip
