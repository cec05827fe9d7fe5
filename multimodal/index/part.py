"""Part: some rows of an index in the form in which they are searched, in memory or in files that are read in place.

A part never changes: new rows make another part, and rows that are gone are masked out beside it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.index import sketch
from multimodal.index.sketch import Basis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Batch = tuple[NDArray[np.uint64], NDArray[np.uint8], NDArray[np.float32]]  # numbers, kinds, vectors

SCAN_ROWS = 2048  # of half precision made single at a time: 4 MiB at 512 numbers a row
ABOUT = "about.json"
KINDS = {
    "numbers": "uint64", "kinds": "uint8", "vectors": "float16", "coarse": "uint64", "fine": "uint64"
}  # a file each  # fmt: skip


@dataclass(frozen=True, eq=False)
class Part:
    """numbers: (n,) those of the rows in a version. kinds: (n,) each row's modality, as a number. vectors: (n, dim),
    unit rows, float32 or float16. rounding: how far, at most, a vector is from the one it stands for. coarse:
    (blocks, COARSE_WORDS, BLOCK) and fine (n, words): the sketches; None in a part so small that it is compared row by
    row. folder: where it lies, if it does.
    """

    numbers: NDArray[np.uint64]
    kinds: NDArray[np.uint8]
    vectors: NDArray[Any]
    rounding: float = 0.0
    coarse: NDArray[np.uint64] | None = None
    fine: NDArray[np.uint64] | None = None
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def small(cls, batches: Iterable[Batch], dim: int) -> Part:
        """In memory and in full precision, without sketches."""
        import numpy as np

        empty = (np.empty(0, np.uint64), np.empty(0, np.uint8), np.empty((0, dim), np.float32))
        numbers, kinds, vectors = (np.concatenate(column) for column in zip(empty, *batches, strict=True))
        return cls(numbers, kinds, vectors)

    @classmethod
    def large(cls, batches: Iterable[Batch], basis: Basis, folder: Path | None = None) -> Part:
        """With sketches, vectors in half precision; in a folder that is there and empty, or in memory.

        Memory holds one batch beside that. Raises OSError if it cannot be written.
        """
        import numpy as np
        import torch

        rounding, n = 0.0, 0
        with contextlib.ExitStack() as stack:
            into = {name: stack.enter_context(_sink(folder, name)) for name in KINDS}
            blocks = sketch.Blocks()
            for numbers, kinds, vectors in batches:
                half = torch.from_numpy(vectors).half()
                rounding = max(rounding, float((half.float() - torch.from_numpy(vectors)).norm(dim=1).max()))
                n += len(numbers)
                coarse, fine = np.split(basis.bits_of_many(vectors), [sketch.COARSE_WORDS], axis=1)
                written = {"numbers": numbers, "kinds": kinds, "vectors": half.numpy(), "fine": fine}
                for name, array in written.items():
                    into[name].write(np.ascontiguousarray(array).data)
                for block in blocks.add(coarse):
                    into["coarse"].write(block.data)
            for block in blocks.rest():
                into["coarse"].write(block.data)
            if folder is None:
                return cls._over(
                    {name: sink.getbuffer() for name, sink in into.items()}, len(basis.mean), rounding
                )
            for sink in into.values():
                sink.flush()
                os.fsync(sink.fileno())
        (folder / ABOUT).write_text(json.dumps({"n": n, "dim": len(basis.mean), "rounding": rounding}))
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> Part:
        """What `large` wrote; read in place, so that it takes no memory of its own. Raises OSError, ValueError."""
        import numpy as np

        about = json.loads((folder / ABOUT).read_text())
        # "c": nothing is ever written, but torch wants arrays that could be.
        files = {name: np.memmap(folder / f"{name}.bin", kind, "c") for name, kind in KINDS.items()}
        found = replace(cls._over(files, about["dim"], about["rounding"]), folder=folder)
        columns = (found.numbers, found.kinds, found.vectors, found.fine)
        lengths = [-1 if column is None else len(column) for column in (*columns, found.coarse)]
        if lengths != [about["n"]] * len(columns) + [sketch.n_blocks(about["n"])]:
            raise ValueError(f"{folder} is not whole")
        return found

    @classmethod
    def _over(cls, buffers: Mapping[str, Any], dim: int, rounding: float) -> Part:
        import numpy as np

        flat = {name: np.frombuffer(buffers[name], kind) for name, kind in KINDS.items()}
        return cls(flat["numbers"], flat["kinds"], flat["vectors"].reshape(-1, dim), rounding,
                   flat["coarse"].reshape(-1, sketch.COARSE_WORDS, sketch.BLOCK),
                   flat["fine"].reshape(-1, sketch.BITS // 64 - sketch.COARSE_WORDS))  # fmt: skip

    def scores(
        self, queries: NDArray[np.float32], places: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Cosines (n, m) of all rows, or of those at some places, with unit queries (m, dim)."""
        import numpy as np

        if self.vectors.dtype == np.float32:
            rows = self.vectors if places is None else self.vectors[places]
            return np.asarray(rows @ queries.T, np.float32)
        import torch

        n = len(self) if places is None else len(places)
        out = torch.empty((n, len(queries)))
        wanted = torch.from_numpy(np.ascontiguousarray(queries.T))
        for start in range(0, n, SCAN_ROWS):
            end = min(n, start + SCAN_ROWS)
            half = self.vectors[start:end] if places is None else self.vectors[places[start:end]]
            torch.mm(torch.from_numpy(half).float(), wanted, out=out[start:end])
        return out.numpy()

    def only(self, mask: NDArray[np.bool_]) -> Part:
        """The rows of a small part that a mask (n,) keeps."""
        return Part(self.numbers[mask], self.kinds[mask], self.vectors[mask])

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
    return contextlib.nullcontext(io.BytesIO()) if folder is None else (folder / f"{name}.bin").open("xb")
