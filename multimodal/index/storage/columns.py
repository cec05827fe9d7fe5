"""Records: what rows are beside their vectors, as Arrow in memory, or in a file that is read in place.

To read ten rows out of LanceDB takes longer than to find them among a million. Here it takes a fraction of that, since
nothing is unpacked or looked up: a row's number in its part is its place.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.index.storage.schema import SHOWN, Row, added_later

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMNS = [*(name for name in SHOWN if name != "modality"), "content"]  # a part has the modality itself


def schema() -> Any:
    import pyarrow as pa

    kinds = {one.name: one.type for one in added_later()}
    return pa.schema([pa.field(name, kinds.get(name, pa.string())) for name in COLUMNS])


def columns(found: Any) -> Any:
    """The columns of records out of an Arrow batch that may lack some."""
    import pyarrow as pa

    names = set(found.schema.names)
    arrays = []
    for one in schema():
        array = found[one.name] if one.name in names else pa.nulls(found.num_rows, one.type)
        arrays.append(array.storage if isinstance(array, pa.ExtensionArray) else array)
    return pa.record_batch(arrays, schema=schema())


class Records:
    """Of n rows, in their order. May be used by several threads."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = [one for one in batches if one.num_rows]
        self._columns = [batch.columns for batch in self.batches]
        self._ends = list(itertools.accumulate(batch.num_rows for batch in self.batches))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @classmethod
    def read(cls, path: Path) -> Records:
        """What `Writer` wrote into a file. Raises OSError, ValueError."""
        import pyarrow as pa

        return cls.of(pa.memory_map(str(path)))

    @classmethod
    def of(cls, written: Any) -> Records:
        """What `Writer` wrote, as bytes or as a file. Raises ValueError."""
        import pyarrow as pa

        file = pa.ipc.open_file(written)
        if file.schema != schema():
            raise ValueError(f"records have the columns {', '.join(file.schema.names)}")
        return cls([file.get_batch(number) for number in range(file.num_record_batches)])

    def row(self, place: int, modality: str) -> tuple[Row, str | None]:
        """One row, and the hash of the content it is a part of, if known."""
        batch, at = self._at(place)
        return _row([column[at].as_py() for column in self._columns[batch]], modality)

    def id(self, place: int) -> str:
        batch, at = self._at(place)
        return str(self._columns[batch][0][at])

    def _at(self, place: int) -> tuple[int, int]:
        """The batch in which a row stands, and the place in that."""
        batch = bisect.bisect_right(self._ends, place)
        return batch, place - (self._ends[batch - 1] if batch else 0)

    def rows(self) -> Iterator[list[Row]]:
        """All of them, batch by batch; their modality is not told."""
        for some in self._columns:
            yield [_row(list(values), "")[0] for values in zip(*map(_values, some), strict=True)]

    def only(self, mask: NDArray[np.bool_]) -> Records:
        """The rows that a mask (n,) keeps."""
        import numpy as np
        import pyarrow as pa

        cuts = np.split(mask, self._ends[:-1])
        return Records([batch.filter(pa.array(cut)) for batch, cut in zip(self.batches, cuts, strict=False)])


class Writer:
    """Into a file that is open to be written, batch by batch."""

    def __init__(self, file: Any) -> None:
        import pyarrow as pa

        self._into = pa.ipc.new_file(file, schema())

    def write(self, batch: Any) -> None:
        self._into.write_batch(batch)

    def close(self) -> None:
        self._into.close()


def _values(column: Any) -> list[Any]:
    return column.to_pylist()  # type: ignore[no-any-return]


def _row(values: list[Any], modality: str) -> tuple[Row, str | None]:
    """Of the values of COLUMNS."""
    id_, uri, text, metadata, *place, content = values
    return Row(id_, uri, modality, text, json.loads(metadata), *place), content
