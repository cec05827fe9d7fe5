"""Stored columns of a segment other than its vectors: Arrow batches in memory, or a memory-mapped Arrow file.

Reading ten rows from LanceDB takes longer than finding them among a million. Here a row's position in its segment is
its position in the file, so nothing is unpacked or looked up.
"""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.index.storage.schema import ROW_COLUMNS, Row, later_columns

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COLUMN_NAMES = [
    *(name for name in ROW_COLUMNS if name != "modality"),
    "content",
]  # a segment has modality ids


def column_schema() -> Any:
    """The Arrow schema of the columns file."""
    import pyarrow as pa

    types = {column.name: column.type for column in later_columns()}
    return pa.schema([pa.field(name, types.get(name, pa.string())) for name in COLUMN_NAMES])


def select_columns(batch: Any) -> Any:
    """The columns of `column_schema` from an Arrow batch that may lack some of them."""
    import pyarrow as pa

    names = set(batch.schema.names)
    arrays = []
    for column in column_schema():
        array = batch[column.name] if column.name in names else pa.nulls(batch.num_rows, column.type)
        arrays.append(array.storage if isinstance(array, pa.ExtensionArray) else array)
    return pa.record_batch(arrays, schema=column_schema())


class Columns:
    """The columns of n rows, in row order. May be used by several threads."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self.batches = [batch for batch in batches if batch.num_rows]
        self._arrays = [batch.columns for batch in self.batches]
        self._ends = list(itertools.accumulate(batch.num_rows for batch in self.batches))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @classmethod
    def read(cls, path: Path) -> Columns:
        """Maps a file that `ColumnWriter` wrote. Raises OSError, ValueError."""
        import pyarrow as pa

        return cls.from_buffer(pa.memory_map(str(path)))

    @classmethod
    def from_buffer(cls, written: Any) -> Columns:
        """Reads what `ColumnWriter` wrote, from bytes or an Arrow file. Raises ValueError."""
        import pyarrow as pa

        file = pa.ipc.open_file(written)
        if file.schema != column_schema():
            names, expected = ", ".join(file.schema.names), ", ".join(COLUMN_NAMES)
            raise ValueError(f"a columns file has the columns {names}, expected {expected}")
        return cls([file.get_batch(number) for number in range(file.num_record_batches)])

    def row(self, position: int, modality: str) -> tuple[Row, str | None]:
        """One row, and the hash of the content it belongs to, or None if unknown."""
        batch, offset = self._locate(position)
        return _row([array[offset].as_py() for array in self._arrays[batch]], modality)

    def id(self, position: int) -> str:
        batch, offset = self._locate(position)
        return str(self._arrays[batch][0][offset])

    def _locate(self, position: int) -> tuple[int, int]:
        """The batch that holds a row, and the row's offset in that batch."""
        batch = bisect.bisect_right(self._ends, position)
        return batch, position - (self._ends[batch - 1] if batch else 0)

    def rows(self) -> Iterator[list[Row]]:
        """All rows, batch by batch, with an empty modality."""
        for arrays in self._arrays:
            yield [_row(list(values), "")[0] for values in zip(*map(_to_list, arrays), strict=True)]

    def filter(self, mask: NDArray[np.bool_]) -> Columns:
        """The rows that a mask (n,) selects."""
        import numpy as np
        import pyarrow as pa

        masks = np.split(mask, self._ends[:-1])
        return Columns(
            [batch.filter(pa.array(selected)) for batch, selected in zip(self.batches, masks, strict=False)]
        )


class ColumnWriter:
    """Writes batches to a file that is open for writing."""

    def __init__(self, file: Any) -> None:
        import pyarrow as pa

        self._file = pa.ipc.new_file(file, column_schema())

    def write(self, batch: Any) -> None:
        self._file.write_batch(batch)

    def close(self) -> None:
        self._file.close()


def _to_list(array: Any) -> list[Any]:
    return array.to_pylist()  # type: ignore[no-any-return]


def _row(values: list[Any], modality: str) -> tuple[Row, str | None]:
    """A row from the values of COLUMN_NAMES."""
    id_, uri, text, metadata, *span, content = values
    return Row(id_, uri, modality, text, json.loads(metadata), *span), content
