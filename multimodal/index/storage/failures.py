"""Persistent record of documents that could not be added, with stage and reason.

In a local index, a file of JSON lines. Each line records a failure, or that a failure is resolved; the last line about
a document counts. The file is only appended to or replaced atomically, so a killed process loses no complete line. An
incomplete last line is ignored. On an object store, a table: see remote/failures.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multimodal.core.remote.path import AnyPath, RemotePath
from multimodal.index.results import Failure, Metadata, by_name
from multimodal.index.storage.remote.failures import FailureTable

FILE_NAME = "failures.jsonl"
SPARE_LINES = 100  # lines of resolved failures that the file may hold before it is replaced


@dataclass(frozen=True)
class FailureRecord:
    """The stored record of a failure, from which the document can be added again.

    Attributes:
        key: The id that the document has, or would have.
        uri: The name that is shown.
        stage: Where it failed; see `Failure`.
        reason: What is wrong, and the cure.
        path: The path of its file exactly as the system names it; None for what is not a file.
        container: The table or archive that holds it, with the `columns`, `delimiter` and `encoding` given for that.
        id: The id it was given with.
        metadata: The metadata it was given with.
    """

    key: str
    uri: str
    stage: str
    reason: str
    path: str | None = None
    container: str | None = None
    columns: dict[str, str] | None = None
    id: str | None = None
    metadata: Metadata | None = None
    delimiter: str | None = None
    encoding: str | None = None

    @property
    def failure(self) -> Failure:
        """The failure as it is shown."""
        return Failure(self.uri, self.stage, self.reason)


class FailureLog:
    """The failures of one index. Only the writer of the index may change it; any process may read it."""

    def __init__(self, index: AnyPath) -> None:
        self._store = FailureTable(index) if isinstance(index, RemotePath) else FailureFile(index)
        self._records: dict[str, FailureRecord] = {}
        for line in self._store.read():
            if "settled" in line:
                self._records.pop(line["settled"], None)
            else:
                self._records[line["key"]] = FailureRecord(**line)
        self._changes: dict[str, FailureRecord | None] = {}  # not written yet; None for a resolved failure

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __iter__(self) -> Iterator[FailureRecord]:
        """In the order in which they first failed."""
        return iter(list(self._records.values()))

    def failures(self) -> tuple[Failure, ...]:
        """All failures, in natural order of their names."""
        return by_name(record.failure for record in self._records.values())

    def record(self, failure: FailureRecord) -> None:
        """Adds a failure, or replaces the one with its key."""
        if self._records.get(failure.key) != failure:
            self._records[failure.key] = self._changes[failure.key] = failure

    def resolve(self, key: str) -> None:
        """Removes the failure with a key, if there is one: the document was added, or no longer exists."""
        if self._records.pop(key, None) is not None:
            self._changes[key] = None

    def write(self) -> None:
        """Writes the changes. Raises OSError."""
        changes, self._changes = self._changes, {}
        if not changes:
            return
        if isinstance(self._store, FailureTable):
            self._store.write(
                {key: None if record is None else _fields(record) for key, record in changes.items()}
            )
        elif self._store.n_lines + len(changes) > 2 * len(self._records) + SPARE_LINES:
            self._store.replace(map(_fields, self._records.values()))
        else:
            self._store.append(
                {"settled": key} if record is None else _fields(record) for key, record in changes.items()
            )


class FailureFile:
    """The file of JSON lines of a local index."""

    def __init__(self, index: Path) -> None:
        self.path = index / FILE_NAME
        self.n_lines = 0

    def read(self) -> Iterator[dict[str, Any]]:
        """The complete lines."""
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines[:-1]:  # what follows the last line break is incomplete
            try:
                fields = json.loads(line)
            except ValueError:  # incomplete too; another line was appended to it since
                continue
            self.n_lines += 1
            yield fields

    def append(self, lines: Iterable[dict[str, Any]]) -> None:
        """Raises OSError."""
        is_incomplete = self._ends_incomplete()
        encoded = [_line(fields) for fields in lines]
        with self.path.open("ab") as file:
            file.write(b"\n" * is_incomplete + b"".join(encoded))
            file.flush()
            os.fsync(file.fileno())
        self.n_lines += len(encoded)

    def _ends_incomplete(self) -> bool:
        """Whether the last line is incomplete, so that the next must begin on a new one."""
        try:
            with self.path.open("rb") as file:
                return (
                    bool(file.seek(0, os.SEEK_END))
                    and file.seek(-1, os.SEEK_END) >= 0
                    and file.read(1) != b"\n"
                )
        except FileNotFoundError:
            return False

    def replace(self, lines: Iterable[dict[str, Any]]) -> None:
        """Replaces the file. Raises OSError."""
        encoded = [_line(fields) for fields in lines]
        new = self.path.with_suffix(".new")
        with new.open("wb") as file:
            file.writelines(encoded)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        self.n_lines = len(encoded)


def _fields(record: FailureRecord) -> dict[str, Any]:
    return {key: value for key, value in asdict(record).items() if value is not None}


def _line(fields: dict[str, Any]) -> bytes:
    # In ASCII, so that a path that is not valid Unicode is read back as it was.
    return json.dumps(fields).encode() + b"\n"
