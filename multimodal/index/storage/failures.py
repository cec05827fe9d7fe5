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

LEDGER = "failures.jsonl"
SPARE_LINES = 100  # lines about resolved failures that are kept before the file is rewritten


@dataclass(frozen=True)
class FailureRecord:
    """One line. key: the id the thing has, or would have. path: of its file, exactly as the system names it, or None
    if it is none. container: the archive or table it is in; `columns`, as given with that. The rest is as it was given
    and as it will be given again."""

    key: str
    uri: str
    stage: str
    reason: str
    path: str | None = None
    container: str | None = None
    columns: dict[str, str] | None = None
    id: str | None = None
    metadata: Metadata | None = None

    @property
    def failure(self) -> Failure:
        return Failure(self.uri, self.stage, self.reason)


class Ledger:
    """The failures of one index. Only the writer of the index may change it; anyone may read it."""

    def __init__(self, index: Path) -> None:
        self.path = index / LEDGER
        self._kept: dict[str, FailureRecord] = {}
        self._lines = 0
        for line in self._read():
            self._lines += 1
            if "settled" in line:
                self._kept.pop(line["settled"], None)
            else:
                self._kept[line["key"]] = FailureRecord(**line)
        self._news: dict[str, FailureRecord | None] = {}

    def _read(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for line in lines[:-1]:  # what is behind the last line break was cut short
            try:
                yield json.loads(line)
            except ValueError:  # cut short too, and something was written behind it since
                continue

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def __iter__(self) -> Iterator[FailureRecord]:
        """In the order in which they first failed."""
        return iter(list(self._kept.values()))

    def failures(self) -> tuple[Failure, ...]:
        """What there is, in the order of names."""
        return by_name(one.failure for one in self._kept.values())

    def record(self, failed: FailureRecord) -> None:
        """Something failed, anew or again."""
        if self._kept.get(failed.key) != failed:
            self._kept[failed.key] = self._news[failed.key] = failed

    def settle(self, key: str) -> None:
        """Something is no longer wrong, or no longer there."""
        if self._kept.pop(key, None) is not None:
            self._news[key] = None

    def write(self) -> None:
        """Puts what is new on disk. Raises OSError."""
        news, self._news = self._news, {}
        if not news:
            return
        if self._lines + len(news) > 2 * len(self._kept) + SPARE_LINES:
            self._replace()
            return
        torn = self._is_torn()
        lines = [{"settled": key} if one is None else asdict(one) for key, one in news.items()]
        with self.path.open("ab") as file:
            file.write(b"\n" * torn + b"".join(map(_line, lines)))
            file.flush()
            os.fsync(file.fileno())
        self._lines += len(lines)

    def _is_torn(self) -> bool:
        """Whether the last line was cut short, so that what follows must begin on a new one."""
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
            file.writelines(_line(asdict(one)) for one in self._kept.values())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        self._lines = len(self._kept)


def _line(value: dict[str, Any]) -> bytes:
    # In ASCII, so that a path of bytes that are no Unicode comes back as it was.
    return json.dumps({key: one for key, one in value.items() if one is not None}).encode() + b"\n"
