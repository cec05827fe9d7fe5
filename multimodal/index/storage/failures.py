"""Persistent record of documents that could not be added, with stage and reason.

A file of JSON lines. Each line records a failure, or that a failure is resolved; the last line about a document counts.
The file is only appended to or replaced atomically, so a killed process loses no complete line. An incomplete last line
is ignored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multimodal.index.results import Failure, Metadata, by_name

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

    def __init__(self, index: Path) -> None:
        self.path = index / FILE_NAME
        self._records: dict[str, FailureRecord] = {}
        self._lines = 0
        for line in self._read():
            self._lines += 1
            if "settled" in line:
                self._records.pop(line["settled"], None)
            else:
                self._records[line["key"]] = FailureRecord(**line)
        self._changes: dict[str, FailureRecord | None] = {}  # not written yet; None for a resolved failure

    def _read(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines[:-1]:  # what follows the last line break is incomplete
            try:
                yield json.loads(line)
            except ValueError:  # incomplete too; another line was appended to it since
                continue

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
        """Writes the changes to disk. Raises OSError."""
        changes, self._changes = self._changes, {}
        if not changes:
            return
        if self._lines + len(changes) > 2 * len(self._records) + SPARE_LINES:
            self._replace()
            return
        is_incomplete = self._ends_incomplete()
        lines = [{"settled": key} if record is None else asdict(record) for key, record in changes.items()]
        with self.path.open("ab") as file:
            file.write(b"\n" * is_incomplete + b"".join(map(_line, lines)))
            file.flush()
            os.fsync(file.fileno())
        self._lines += len(lines)

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

    def _replace(self) -> None:
        new = self.path.with_suffix(".new")
        with new.open("wb") as file:
            file.writelines(_line(asdict(record)) for record in self._records.values())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        self._lines = len(self._records)


def _line(fields: dict[str, Any]) -> bytes:
    # In ASCII, so that a path that is not valid Unicode is read back as it was.
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode() + b"\n"
