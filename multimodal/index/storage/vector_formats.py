"""How an index stores vectors: as float32, or in fewer bytes.

    float32      dim * 4 bytes a row
    int8         dim bytes: each vector times the number that makes its largest element 127, rounded
    pca128-int8  128 bytes: int8 of the vector in the basis of its 128 principal components; any other number too
    bits         float32 in the table, and nothing but the binary codes (codes.py) in the files that are searched

The files that are searched hold float32 vectors as int16, coded like int8. That keeps all ten nearest of 59,900 texts
in the starter. Their cosines are off by up to 1.5e-5; float16 takes as many bytes, is off by up to 1.4e-4, and converts
at a fifth of the speed.

int8 needs no scale beside the codes, because a vector has unit length. Decoding and encoding again gives the same
codes, so that rows can be rewritten without loss. The components are those of the second moment, without centring.
Scaling what they keep to unit length keeps more of the ten nearest than its plain length does: 98.3 against 97.6 % for
6,000 texts in the starter, of which int8 alone keeps 99.3 %.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import InvalidInput
from multimodal.index.storage.parallel import n_cores, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FLOAT32, INT8, BITS = "float32", "int8", "bits"
INT16 = "int16"  # only of the files that are searched
PCA = re.compile(r"pca([1-9]\d*)-int8")
LEVELS = {"int8": 127, "int16": 32767}  # by dtype
CHUNK_ROWS = 256  # rows decoded at a time; in the cache of a core, three times as fast as 4,096
READ_ROWS = 4096  # rows read from the table at a time
THREAD_ROWS = 32_768  # rows from which scoring all of them is worth another thread


def n_components(name: str) -> int | None:
    """The number of principal components that a format keeps; None for a format without them."""
    match = PCA.fullmatch(name)
    return int(match[1]) if match else None


def check_format(name: object, dim: int) -> str:
    """A valid name of a format for vectors of a size. Raises InvalidInput."""
    if not isinstance(name, str) or (name not in (FLOAT32, INT8, BITS) and n_components(name) is None):
        raise InvalidInput(
            f"vectors must be 'float32', 'int8', 'pca128-int8' (or another number of components) or 'bits', "
            f"got {name!r}"
        )
    components = n_components(name)
    if components is not None and components >= dim:
        raise InvalidInput(
            f"vectors={name!r} keeps {components} components, and the space has {dim} dimensions; keep fewer, or "
            "use 'int8'"
        )
    return name


@dataclass(frozen=True, eq=False)
class VectorFormat:
    """Conversion of unit vectors to and from codes.

    name: "float32", "int16", "int8", "pcaN-int8" or "bits". basis: (N, dim) orthonormal rows, of "pcaN-int8". read: of
    "bits", vectors (dim,) by row id.
    """

    name: str
    dim: int
    basis: NDArray[np.float32] | None = None
    read: Callable[[list[int]], dict[int, NDArray[np.float32]]] | None = None

    @property
    def width(self) -> int:
        """Stored numbers of a vector."""
        return self.dim if self.basis is None else len(self.basis)

    @property
    def dtype(self) -> str:
        if self.name in (FLOAT32, BITS):
            return "float32"
        return "int16" if self.name == INT16 else "int8"

    def array(self, codes: NDArray[Any] | None, row_ids: NDArray[np.uint64]) -> VectorArray:
        """Stored numbers as vectors; None with "bits", which stores none."""
        if self.read is not None:
            return RemoteVectors(row_ids, self)
        if codes is None:
            raise ValueError(f"the vectors are missing; {self.name} needs them")
        return VectorArray(codes.reshape(-1, self.width), self)

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[Any]:
        """Codes (n, width) of unit vectors (n, dim)."""
        import numpy as np

        if self.dtype == FLOAT32:
            return vectors
        rows = vectors if self.basis is None else vectors @ self.basis.T
        largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
        return np.rint(rows * (LEVELS[self.dtype] / np.where(largest > 0, largest, 1.0))).astype(self.dtype)

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """Unit vectors (n, dim) of codes (n, width); vectors of zeros stay zero."""
        import numpy as np

        if self.dtype == FLOAT32:
            return np.asarray(codes, np.float32)
        rows = _unit(codes)
        return rows if self.basis is None else rows @ self.basis

    def scores(self, codes: NDArray[Any], queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines (n, m) of codes (n, width) with unit queries (m, dim)."""
        import numpy as np

        if self.dtype == FLOAT32:
            return np.asarray(codes @ queries.T, np.float32)
        projected = queries if self.basis is None else queries @ self.basis.T
        out = np.empty((len(codes), len(queries)), np.float32)

        def score(part: slice) -> None:
            for start in range(part.start, part.stop, CHUNK_ROWS):
                chunk = slice(start, min(start + CHUNK_ROWS, part.stop))
                rows = codes[chunk].astype(np.float32)
                np.matmul(rows, projected.T, out=out[chunk])
                out[chunk] /= _lengths(rows)

        spread(score, len(codes), threads=n_cores(), least=THREAD_ROWS, multiple=CHUNK_ROWS)
        return out


def _unit(codes: NDArray[Any]) -> NDArray[np.float32]:
    import numpy as np

    rows = codes.astype(np.float32)
    return np.asarray(rows / _lengths(rows), np.float32)


def _lengths(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lengths (n, 1) of rows; 1 of a row of zeros."""
    import numpy as np

    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    return np.asarray(np.where(lengths > 0, lengths, np.float32(1.0)), np.float32)


def principal_components(vectors: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """The n directions (n, dim) with the largest second moment, orthonormal, largest first."""
    import numpy as np

    wide = vectors.astype(np.float64)
    _, directions = np.linalg.eigh(wide.T @ wide)
    return np.ascontiguousarray(directions[:, ::-1][:, :n].T, np.float32)


class VectorArray:
    """The vectors of a segment, in whatever form they are stored; read as float32.

    Indexing by positions, a mask or a slice gives unit vectors (n, dim), and by a number (dim,).
    """

    def __init__(self, codes: NDArray[Any], vector_format: VectorFormat) -> None:
        self.codes, self.format = codes, vector_format

    @classmethod
    def plain(cls, vectors: NDArray[np.float32]) -> VectorArray:
        """Vectors (n, dim) as they are."""
        return cls(vectors, VectorFormat(FLOAT32, vectors.shape[1]))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        chosen = self.codes[rows]
        return self.format.decode(chosen) if chosen.ndim == 2 else self.format.decode(chosen[None])[0]

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines (n, m) of all vectors with unit queries (m, dim)."""
        return self.format.scores(self.codes, queries)

    def scores_at(self, positions: NDArray[np.intp], queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cosines (p, m) of the vectors at positions (p,)."""
        return self.format.scores(self.codes[positions], queries)


class RemoteVectors(VectorArray):
    """The vectors of a segment that keeps none: they are read from the table, by row id."""

    def __init__(self, row_ids: NDArray[np.uint64], vector_format: VectorFormat) -> None:
        self.row_ids, self.format = row_ids, vector_format

    def __len__(self) -> int:
        return len(self.row_ids)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        import numpy as np

        chosen = self.row_ids[rows]
        wanted = np.atleast_1d(chosen)
        read = self.format.read
        stored = {} if read is None else read(np.unique(wanted).tolist())
        zeros = np.zeros(self.format.dim, np.float32)  # of rows that have been deleted meanwhile
        vectors = [stored.get(row_id, zeros) for row_id in wanted.tolist()]
        matrix = np.stack(vectors) if vectors else np.empty((0, self.format.dim), np.float32)
        return matrix if np.ndim(chosen) else matrix[0]

    def scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        out = np.empty((len(self), len(queries)), np.float32)
        for start in range(0, len(self), READ_ROWS):
            part = slice(start, start + READ_ROWS)
            out[part] = self[part] @ queries.T
        return out

    def scores_at(self, positions: NDArray[np.intp], queries: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        return np.asarray(self[positions] @ queries.T, np.float32)
