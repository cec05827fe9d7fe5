"""Segment: rows of an index in the form in which they are searched, in memory or memory-mapped.

A segment never changes. New rows make another segment; deleted rows are masked out beside it.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.index.storage import codes
from multimodal.index.storage.codes import Projection
from multimodal.index.storage.columns import Columns, ColumnWriter
from multimodal.index.storage.vector_formats import BITS, FLOAT32, VectorArray, VectorFormat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUMMARY_FILE, COLUMNS_FILE = "about.json", "records.arrow"
# Attribute of a segment -> (file name, dtype, or None for that of the vectors' format). The file names are those of
# the first format.
ARRAYS = {
    "row_ids": ("numbers.bin", "uint64"), "modality_ids": ("kinds.bin", "uint8"), "vectors": ("vectors.bin", None),
    "coarse_codes": ("coarse.bin", "uint64"), "fine_codes": ("fine.bin", "uint64"),
}  # fmt: skip
SCORED_ROWS = 4096  # rows gathered at a time: 8 MiB at 512 dimensions


class RowBatch(NamedTuple):
    """Consecutive rows of a snapshot: row_ids (n,), modality_ids (n,), unit vectors (n, dim), other columns (Arrow)."""

    row_ids: NDArray[np.uint64]
    modality_ids: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    columns: Any


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows and their search structures.

    row_ids: (n,) LanceDB's number of each row. modality_ids: (n,) index of each row's modality in the index metadata.
    vectors: (n, dim) unit rows, as the index stores them. columns: everything else of a row. coarse_codes: (blocks,
    COARSE_WORDS, BLOCK) and fine_codes: (n, words), or None in a segment small enough to be compared row by row.
    folder: where the segment is stored, or None if it is in memory.
    """

    row_ids: NDArray[np.uint64]
    modality_ids: NDArray[np.uint8]
    vectors: VectorArray
    columns: Columns
    coarse_codes: NDArray[np.uint64] | None = None
    fine_codes: NDArray[np.uint64] | None = None
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.row_ids)

    @classmethod
    def empty(cls, dim: int) -> Segment:
        """An empty segment in memory, without codes."""
        import numpy as np

        vectors = VectorArray.plain(np.empty((0, dim), np.float32))
        return cls(np.empty(0, np.uint64), np.empty(0, np.uint8), vectors, Columns([]))

    def append(self, batches: Iterable[RowBatch]) -> Segment:
        """A new segment without codes: the rows of this one, then those of the batches."""
        import numpy as np

        more = list(batches)
        row_ids, modality_ids, vectors = (
            np.concatenate(arrays)
            for arrays in zip(
                (self.row_ids, self.modality_ids, self.vectors[:]),
                *(batch[:3] for batch in more),
                strict=True,
            )
        )
        columns = Columns([*self.columns.batches, *(batch.columns for batch in more)])
        return Segment(row_ids, modality_ids, VectorArray.plain(vectors), columns)

    @classmethod
    def build(
        cls,
        batches: Iterable[RowBatch],
        projection: Projection,
        folder: Path | None = None,
        vector_format: VectorFormat | None = None,
    ) -> Segment:
        """A segment with codes, written to an existing empty folder, or in memory without one.

        vector_format: how the vectors are stored; default: as float32.
        At most one batch is held in memory beside the result. Raises OSError if the folder cannot be written.
        """
        import numpy as np

        n_rows, stored = 0, vector_format or VectorFormat(FLOAT32, len(projection.mean))
        with contextlib.ExitStack() as stack:
            sinks = {
                name: stack.enter_context(_sink(folder, file)) for name, (file, _) in _arrays(stored).items()
            }
            column_sink = stack.enter_context(_sink(folder, COLUMNS_FILE))
            blocks, writer = codes.BlockBuilder(), ColumnWriter(column_sink)
            for batch in batches:
                n_rows += len(batch.row_ids)
                encoded = projection.encode_fast(batch.vectors)
                coarse, fine = np.split(encoded, [codes.COARSE_WORDS], axis=1)
                arrays = {
                    "row_ids": batch.row_ids,
                    "modality_ids": batch.modality_ids,
                    "vectors": stored.encode(batch.vectors),
                    "fine_codes": fine,
                }
                for name in sinks.keys() & arrays.keys():
                    sinks[name].write(np.ascontiguousarray(arrays[name]).data)
                for block in blocks.add(coarse):
                    sinks["coarse_codes"].write(block.data)
                writer.write(batch.columns)
            for block in blocks.finish():
                sinks["coarse_codes"].write(block.data)
            writer.close()
            if folder is None:
                buffers = {name: sink.getbuffer() for name, sink in sinks.items()}
                return cls._over(buffers, Columns.from_buffer(column_sink.getvalue()), stored)
            for sink in (*sinks.values(), column_sink):
                sink.flush()
                os.fsync(sink.fileno())
        summary = {"n": n_rows, "dim": stored.dim, "vectors": stored.name}
        (folder / SUMMARY_FILE).write_text(json.dumps(summary))
        return cls.read(folder, stored)

    @classmethod
    def read(cls, folder: Path, vector_format: VectorFormat | None = None) -> Segment:
        """Maps what `build` wrote, without loading it into memory. vector_format: of the index, by default float32.

        Raises OSError, or ValueError if the files do not belong together, or are of another format.
        """
        import numpy as np

        summary = json.loads((folder / SUMMARY_FILE).read_text())
        name, stored = summary.get("vectors", FLOAT32), vector_format
        if stored is None or name == FLOAT32 != stored.name:  # before the components were fitted
            stored = VectorFormat(FLOAT32, summary["dim"])
        if stored.name != name:
            raise ValueError(f"the segment in {folder} holds vectors as {name}, expected {stored.name}")
        # "c": nothing is ever written, but torch requires writable arrays.
        files = {
            array: np.memmap(folder / file, dtype, "c") for array, (file, dtype) in _arrays(stored).items()
        }
        segment = replace(cls._over(files, Columns.read(folder / COLUMNS_FILE), stored), folder=folder)
        per_row = (
            segment.row_ids,
            segment.modality_ids,
            segment.vectors,
            segment.fine_codes,
            segment.columns,
        )
        lengths = [-1 if array is None else len(array) for array in (*per_row, segment.coarse_codes)]
        if lengths != [summary["n"]] * len(per_row) + [codes.n_blocks(summary["n"])]:
            raise ValueError(f"the segment in {folder} is incomplete")
        return segment

    @classmethod
    def _over(cls, buffers: Mapping[str, Any], columns: Columns, stored: VectorFormat) -> Segment:
        import numpy as np

        flat = {name: np.frombuffer(buffers[name], dtype) for name, (_, dtype) in _arrays(stored).items()}
        vectors = stored.array(flat.get("vectors"), flat["row_ids"])
        return cls(flat["row_ids"], flat["modality_ids"], vectors, columns,
                   flat["coarse_codes"].reshape(-1, codes.COARSE_WORDS, codes.BLOCK),
                   flat["fine_codes"].reshape(-1, codes.BITS // 64 - codes.COARSE_WORDS))  # fmt: skip

    def scores(
        self, queries: NDArray[np.float32], positions: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Cosines (n, m) of all rows, or of those at some positions (n,), with unit queries (m, dim)."""
        import numpy as np

        if positions is None:
            return self.vectors.scores(queries)
        out = np.empty((len(positions), len(queries)), np.float32)
        for start in range(0, len(positions), SCORED_ROWS):
            chunk = slice(start, start + SCORED_ROWS)
            out[chunk] = self.vectors.scores_at(positions[chunk], queries)
        return out

    def positions_of(self, row_ids: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Positions (m,) of rows in this segment; -1 for rows of other segments."""
        import numpy as np

        if not len(self):
            return np.full(len(row_ids), -1, np.intp)
        at = np.searchsorted(self.row_ids, row_ids, sorter=None if self._is_sorted else self.sorted_positions)
        at = np.minimum(at, len(self) - 1)
        positions = at if self._is_sorted else self.sorted_positions[at]
        return np.where(self.row_ids[positions] == row_ids, positions, -1)

    @functools.cached_property
    def _is_sorted(self) -> bool:
        return bool((self.row_ids[1:] > self.row_ids[:-1]).all())

    @functools.cached_property
    def sorted_positions(self) -> NDArray[np.intp]:
        """Positions (n,) in the order of row ids; mostly that is the stored order."""
        import numpy as np

        return np.arange(len(self)) if self._is_sorted else np.argsort(self.row_ids)

    def filter(self, mask: NDArray[np.bool_]) -> Segment:
        """A segment without codes, of the rows that a mask (n,) selects."""
        return Segment(
            self.row_ids[mask],
            self.modality_ids[mask],
            VectorArray.plain(self.vectors[mask]),
            self.columns.filter(mask),
        )

    def mask(self, row_ids: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which rows (n,) have one of these row ids (m,)."""
        import numpy as np

        if not len(row_ids):
            return np.zeros(len(self), bool)
        wanted = np.sort(row_ids)
        at = np.searchsorted(wanted, self.row_ids)
        at[at == len(wanted)] = 0
        return np.asarray(wanted[at] == self.row_ids)


def _arrays(stored: VectorFormat) -> dict[str, tuple[str, str]]:
    """ARRAYS of a segment whose vectors are stored in this format."""
    return {
        name: (file, dtype or stored.dtype)
        for name, (file, dtype) in ARRAYS.items()
        if name != "vectors" or stored.name != BITS
    }


def _sink(folder: Path | None, name: str) -> Any:
    """A writable binary file in the folder, or a memory buffer without one."""
    return contextlib.nullcontext(io.BytesIO()) if folder is None else (folder / name).open("xb")
