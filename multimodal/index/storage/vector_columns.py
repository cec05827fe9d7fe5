"""The columns of the table that hold vectors, in the format of the index.

    float32, bits   `vector`, float32
    int8            `code`, int8
    pcaN-int8       `vector` until FIT_ROWS rows are there, from which the components are computed; then `code`

Two small tables beside the items belong to the formats with codes: the components, and the first SAMPLE_ROWS vectors
in float32, by which `recall` measures what the codes lose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multimodal.index.storage.vector_formats import (
    BITS,
    FLOAT32,
    INT8,
    VectorFormat,
    n_components,
    principal_components,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VECTOR, CODE = "vector", "code"
COMPONENTS_TABLE, SAMPLE_TABLE = "vector_components", "vector_sample"
FIT_ROWS = 4096  # rows from which principal components are computed
SAMPLE_ROWS = 2048
RECALL_QUERIES, RECALL_K = 256, 10


def vector_fields(name: str, dim: int) -> list[Any]:
    """The Arrow fields that hold vectors in a format."""
    import pyarrow as pa

    vector = pa.field(VECTOR, pa.list_(pa.float32(), dim))
    if name in (FLOAT32, BITS):
        return [vector]
    code = pa.field(CODE, pa.list_(pa.int8(), n_components(name) or dim))
    return [code] if name == INT8 else [vector, code]


class VectorColumns:
    """Reads and writes the vectors of one index. Sees the components that another process has fitted."""

    def __init__(self, name: str, dim: int, open_database: Callable[[], Any]) -> None:
        self.name, self.dim = name, dim
        self._open_database = open_database
        self._n_components = n_components(name)
        self._components: NDArray[np.float32] | None = None
        self._sample_rows: int | None = None

    @property
    def names(self) -> list[str]:
        """The columns to select."""
        return [field.name for field in vector_fields(self.name, self.dim)]

    @property
    def has_codes(self) -> bool:
        return CODE in self.names

    @property
    def is_unfitted(self) -> bool:
        """Whether principal components are still to be computed."""
        return self._n_components is not None and self._read_components() is None

    @property
    def format(self) -> VectorFormat:
        """How vectors are written now."""
        if self.is_unfitted or not self.has_codes:
            return VectorFormat(FLOAT32, self.dim)
        return VectorFormat(self.name, self.dim, self._components)

    def _read_components(self) -> NDArray[np.float32] | None:
        if self._components is None:
            self._components = self._read_table(COMPONENTS_TABLE)
        return self._components

    def arrays(self, vectors: NDArray[np.float32]) -> dict[str, Any]:
        """The Arrow arrays of unit vectors (n, dim), by column."""
        import numpy as np
        import pyarrow as pa

        stored = self.format
        codes = np.ascontiguousarray(stored.encode(vectors))
        filled = VECTOR if stored.name == FLOAT32 else CODE
        return {
            field.name: pa.FixedSizeListArray.from_arrays(pa.array(codes.reshape(-1)), stored.width)
            if field.name == filled
            else pa.nulls(len(vectors), field.type)
            for field in vector_fields(self.name, self.dim)
        }

    def read(self, table: Any) -> NDArray[np.float32]:
        """Vectors (n, dim) from an Arrow table or batch with the columns `names`."""
        import numpy as np

        if not self.has_codes:
            return _matrix(table[VECTOR], self.dim)
        out = np.empty((table.num_rows, self.dim), np.float32)
        coded = ~_nulls(table[CODE])
        if coded.any():
            stored = self.format  # fitted, if any row is
            out[coded] = stored.decode(_matrix(table[CODE].filter(_mask(coded)), stored.width))
        if not coded.all():
            out[~coded] = _matrix(table[VECTOR].filter(_mask(~coded)), self.dim)
        return out

    def fit(self, vectors: NDArray[np.float32]) -> None:
        """Computes and stores the principal components of unit vectors (n, dim). The caller holds the writer lock."""
        if self._n_components is None:
            raise ValueError(f"{self.name} has no principal components")
        if self._read_table(SAMPLE_TABLE) is None:  # not if an earlier process ended before the next line
            self._append(SAMPLE_TABLE, vectors[:SAMPLE_ROWS])
        self._append(COMPONENTS_TABLE, principal_components(vectors, self._n_components))
        self._components = self._read_table(COMPONENTS_TABLE)

    def keep_sample(self, vectors: NDArray[np.float32]) -> None:
        """Keeps the first vectors of an int8 index, by which `recall` measures. The caller holds the writer lock."""
        kept = vectors[: self.n_sample_rows_wanted]
        if len(kept):
            self._append(SAMPLE_TABLE, kept)
            self._sample_rows = (self._sample_rows or 0) + len(kept)

    @property
    def n_sample_rows_wanted(self) -> int:
        """How many more vectors keep_sample takes."""
        if self.name != INT8:
            return 0
        if self._sample_rows is None:
            sample = self._read_table(SAMPLE_TABLE)
            self._sample_rows = 0 if sample is None else len(sample)
        return SAMPLE_ROWS - self._sample_rows

    def recall(self) -> tuple[float, int] | None:
        """The share of the ten nearest in float32 that codes keep, and the number of sample rows it was measured on.

        None where vectors are float32, or too few.
        """
        import numpy as np

        sample = None if self.format.name == FLOAT32 else self._read_table(SAMPLE_TABLE)
        if sample is None or len(sample) <= 2 * RECALL_K:
            return None
        queries = np.arange(0, len(sample), max(1, len(sample) // RECALL_QUERIES))
        stored = self.format
        exact = sample[queries] @ sample.T
        coded = stored.scores(stored.encode(sample), sample[queries]).T
        for scores in (exact, coded):
            scores[np.arange(len(queries)), queries] = -2  # a vector is not its own neighbour
        pairs = zip(_first(exact), _first(coded), strict=True)
        kept = [len(np.intersect1d(right, found)) / RECALL_K for right, found in pairs]
        return float(np.mean(kept)), len(sample)

    def _read_table(self, name: str) -> NDArray[np.float32] | None:
        table = _opened(self._open_database(), name)
        return None if table is None else _matrix(table.to_arrow()[VECTOR], self.dim)

    def _append(self, name: str, vectors: NDArray[np.float32]) -> None:
        import numpy as np
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        rows = pa.table({VECTOR: pa.FixedSizeListArray.from_arrays(flat, self.dim)})
        database = self._open_database()
        table = _opened(database, name)
        if table is None:
            database.create_table(name, rows)
        else:
            table.add(rows)


def _opened(database: Any, name: str) -> Any:
    """A table; None if there is none."""
    try:
        return database.open_table(name)
    except (OSError, RuntimeError, ValueError) as error:
        if "not found" in str(error).lower():
            return None
        raise


def _first(scores: NDArray[np.float32]) -> NDArray[np.intp]:
    import numpy as np

    return np.argpartition(scores, -RECALL_K, axis=1)[:, -RECALL_K:]


def _matrix(column: Any, width: int) -> NDArray[Any]:
    """The values (n, width) of a column of lists without nulls."""
    import numpy as np
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    if not flat:
        return np.empty((0, width), column.type.value_type.to_pandas_dtype())
    return np.concatenate(flat).reshape(-1, width)


def _nulls(column: Any) -> NDArray[np.bool_]:
    return column.is_null().to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _mask(rows: NDArray[np.bool_]) -> Any:
    import pyarrow as pa

    return pa.array(rows)
