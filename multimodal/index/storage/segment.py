"""Part: some rows of an index in the form in which they are searched, in memory or in files that are read in place.

A part never changes: new rows make another part, and rows that are gone are masked out beside it.
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
from multimodal.index.storage import columns as records
from multimodal.index.storage.codes import Basis
from multimodal.index.storage.columns import Records

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ABOUT, RECORDS = "about.json", "records.arrow"
KINDS = {
    "numbers": "uint64", "kinds": "uint8", "vectors": "float32", "coarse": "uint64", "fine": "uint64"
}  # a file each  # fmt: skip
SCORED_ROWS = 4096  # gathered at a time: 8 MiB at 512 numbers a row


class Batch(NamedTuple):
    """Some rows of a version, as they come. records: an Arrow batch with their columns."""

    numbers: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    records: Any


@dataclass(frozen=True, eq=False)
class Part:
    """numbers: (n,) those of the rows in a version. kinds: (n,) each row's modality, as a number. vectors: (n, dim),
    unit rows. records: all else. coarse: (blocks, COARSE_WORDS, BLOCK) and fine (n, words): the sketches; None in a
    part so small that it is compared row by row. folder: where it lies, if it does.
    """

    numbers: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    vectors: NDArray[np.float32]
    records: Records
    coarse: NDArray[np.uint64] | None = None
    fine: NDArray[np.uint64] | None = None
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def empty(cls, dim: int) -> Part:
        """Small: in memory and without sketches."""
        import numpy as np

        return cls(np.empty(0, np.uint64), np.empty(0, np.uint8), np.empty((0, dim), np.float32), Records([]))

    def with_more(self, batches: Iterable[Batch]) -> Part:
        """A small part with some rows after its own."""
        import numpy as np

        more = list(batches)
        numbers, kinds, vectors = (
            np.concatenate(column)
            for column in zip(
                (self.numbers, self.kinds, self.vectors), *(one[:3] for one in more), strict=True
            )
        )
        return Part(numbers, kinds, vectors, Records([*self.records.batches, *(one.records for one in more)]))

    @classmethod
    def large(cls, batches: Iterable[Batch], basis: Basis, folder: Path | None = None) -> Part:
        """With sketches; in a folder that is there and empty, or in memory.

        Memory holds one batch beside that. Raises OSError if it cannot be written.
        """
        import numpy as np

        n = 0
        with contextlib.ExitStack() as stack:
            into = {name: stack.enter_context(_sink(folder, f"{name}.bin")) for name in KINDS}
            told = stack.enter_context(_sink(folder, RECORDS))
            blocks, writer = codes.Blocks(), records.Writer(told)
            for batch in batches:
                n += len(batch.numbers)
                coarse, fine = np.split(basis.bits_of_many(batch.vectors), [codes.COARSE_WORDS], axis=1)
                written = {
                    "numbers": batch.numbers,
                    "kinds": batch.kinds,
                    "vectors": batch.vectors,
                    "fine": fine,
                }
                for name, array in written.items():
                    into[name].write(np.ascontiguousarray(array).data)
                for block in blocks.add(coarse):
                    into["coarse"].write(block.data)
                writer.write(batch.records)
            for block in blocks.rest():
                into["coarse"].write(block.data)
            writer.close()
            if folder is None:
                buffers = {name: sink.getbuffer() for name, sink in into.items()}
                return cls._over(buffers, Records.of(told.getvalue()), len(basis.mean))
            for sink in (*into.values(), told):
                sink.flush()
                os.fsync(sink.fileno())
        (folder / ABOUT).write_text(json.dumps({"n": n, "dim": len(basis.mean)}))
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Part:
        """What `large` wrote; read in place, so that it takes no memory of its own. Raises OSError, ValueError."""
        import numpy as np

        about = json.loads((folder / ABOUT).read_text())
        # "c": nothing is ever written, but torch wants arrays that could be.
        files = {name: np.memmap(folder / f"{name}.bin", kind, "c") for name, kind in KINDS.items()}
        found = replace(cls._over(files, Records.read(folder / RECORDS), about["dim"]), folder=folder)
        columns = (found.numbers, found.kinds, found.vectors, found.fine, found.records)
        lengths = [-1 if column is None else len(column) for column in (*columns, found.coarse)]
        if lengths != [about["n"]] * len(columns) + [codes.n_blocks(about["n"])]:
            raise ValueError(f"{folder} is not whole")
        return found

    @classmethod
    def _over(cls, buffers: Mapping[str, Any], told: Records, dim: int) -> Part:
        import numpy as np

        flat = {name: np.frombuffer(buffers[name], kind) for name, kind in KINDS.items()}
        return cls(flat["numbers"], flat["kinds"], flat["vectors"].reshape(-1, dim), told,
                   flat["coarse"].reshape(-1, codes.COARSE_WORDS, codes.BLOCK),
                   flat["fine"].reshape(-1, codes.BITS // 64 - codes.COARSE_WORDS))  # fmt: skip

    def scores(
        self, queries: NDArray[np.float32], places: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Cosines (n, m) of all rows, or of those at some places, with unit queries (m, dim)."""
        import numpy as np

        if places is None:
            return np.asarray(self.vectors @ queries.T, np.float32)
        out = np.empty((len(places), len(queries)), np.float32)
        for start in range(0, len(places), SCORED_ROWS):
            some = slice(start, start + SCORED_ROWS)
            np.matmul(self.vectors[places[some]], queries.T, out=out[some])
        return out

    def find(self, numbers: NDArray[np.uint64]) -> NDArray[np.intp]:
        """At which places rows with these numbers stand, (m,); -1 for those that are elsewhere."""
        import numpy as np

        if not len(self):
            return np.full(len(numbers), -1, np.intp)
        at = np.searchsorted(self.numbers, numbers, sorter=None if self._is_in_order else self.in_order)
        at = np.minimum(at, len(self) - 1)
        places = at if self._is_in_order else self.in_order[at]
        return np.where(self.numbers[places] == numbers, places, -1)

    @functools.cached_property
    def _is_in_order(self) -> bool:
        return bool((self.numbers[1:] > self.numbers[:-1]).all())

    @functools.cached_property
    def in_order(self) -> NDArray[np.intp]:
        """The places of rows by their numbers, (n,): as they stand, mostly."""
        import numpy as np

        return np.arange(len(self)) if self._is_in_order else np.argsort(self.numbers)

    def only(self, mask: NDArray[np.bool_]) -> Part:
        """The rows of a small part that a mask (n,) keeps."""
        return Part(self.numbers[mask], self.kinds[mask], self.vectors[mask], self.records.only(mask))

    def mask(self, numbers: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which rows have one of these numbers, (n,)."""
        import numpy as np

        if not len(numbers):
            return np.zeros(len(self), bool)
        wanted = np.sort(numbers)
        found = np.searchsorted(wanted, self.numbers)
        found[found == len(wanted)] = 0
        return np.asarray(wanted[found] == self.numbers)


def _sink(folder: Path | None, name: str) -> Any:
    """Something to write to, in memory or in a folder."""
    return contextlib.nullcontext(io.BytesIO()) if folder is None else (folder / name).open("xb")
