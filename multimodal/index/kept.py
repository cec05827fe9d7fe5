"""The rows that were answered lately, kept in memory: to read ten out of the files takes longer than to search."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from multimodal.index.version import Stored

KEPT_BYTES = 32 << 20
ROW_BYTES = 1000  # about, of a row beside its vector and its text


class KeptRows:
    """Rows of one version by number, as many as fit; those longest unused go first. May be used by several threads."""

    def __init__(self, most: int = KEPT_BYTES) -> None:
        self.most, self.size = most, 0
        self._rows: OrderedDict[int, Stored] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, numbers: Iterable[int]) -> dict[int, Stored]:
        """Those that are kept."""
        found = {}
        with self._lock:
            for number in numbers:
                if (row := self._rows.get(number)) is not None:
                    self._rows.move_to_end(number)
                    found[number] = row
        return found

    def keep(self, rows: Mapping[int, Stored]) -> None:
        """Rows that were read."""
        with self._lock:
            for number, row in rows.items():
                if number not in self._rows:
                    # copied, since it may be part of a larger array
                    self._rows[number] = row._replace(vector=row.vector.copy())
                    self.size += size_of(row)
            while self.size > self.most:
                self.size -= size_of(self._rows.popitem(last=False)[1])


def size_of(row: Stored) -> int:
    """Bytes, about."""
    return int(row.vector.nbytes) + 4 * len(row.row.text or "") + ROW_BYTES
