"""The columns of an index, and rows as Arrow: what one row is, and how it is written down.

An index made before a column was added lacks it: such a column is read as None, and comes with the next write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.errors import IndexStateError
from multimodal.index.results import Metadata

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ABOUT_KEY = b"multimodal.index"
FORMAT = 1  # raised when an older reader could no longer understand the index
UNIQUE = {
    "lance-schema:unenforced-primary-key": "true"
}  # two processes that add one id at once do not double it


@dataclass(frozen=True)
class About:
    """What an index must know of the space its vectors come from. `address` and `options`: what `load` takes to load it
    again."""

    space: str
    address: str
    fingerprint: str
    dim: int
    modalities: tuple[str, ...]
    format: int = FORMAT
    options: dict[str, Any] = field(default_factory=dict)


class Row(NamedTuple):
    """One item as stored, without its vector. The last four say which part of a longer thing it is."""

    id: str
    uri: str | None
    modality: str
    text: str | None
    metadata: Metadata
    start_s: float | None = None
    end_s: float | None = None
    start_char: int | None = None
    end_char: int | None = None


class Origin(NamedTuple):
    """Where a row came from, by which it is known whether that has changed since.

    source: the id of the whole thing; that of the row too, unless the row is a part. container: the archive or table
    the thing was in. content: a hash of the whole. size (bytes) and mtime_ns: of the file, if it is one.
    """

    source: str
    container: str | None = None
    content: str | None = None
    size: int | None = None
    mtime_ns: int | None = None


SHOWN = list(Row._fields)
ORIGIN = list(Origin._fields)


def schema(about: About) -> Any:
    """Of a new index. Columns after `vector` were added later; see `added_later`."""
    import pyarrow as pa

    fields = [
        pa.field("id", pa.string(), nullable=False, metadata=UNIQUE),
        pa.field("uri", pa.string()),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("metadata", pa.json_()),
        pa.field("vector", pa.list_(pa.float32(), about.dim)),
        pa.field("source", pa.string(), nullable=False),
        *added_later(),
    ]
    return pa.schema(fields, metadata={ABOUT_KEY: json.dumps(asdict(about)).encode()})


def added_later() -> list[Any]:
    """The columns that a first index lacks, beside `source`, which is there the same as `id`."""
    import pyarrow as pa

    whole, real = pa.int64(), pa.float64()
    kinds = {
        "container": pa.string(), "content": pa.string(), "size": whole, "mtime_ns": whole,
        "start_s": real, "end_s": real, "start_char": whole, "end_char": whole,
    }  # fmt: skip
    return [pa.field(name, kind) for name, kind in kinds.items()]


def read_about(path: Path, metadata: dict[bytes, bytes]) -> About:
    """What the schema of a table says of its index. Raises IndexStateError."""
    values = json.loads(metadata.get(ABOUT_KEY, b"null"))
    if values is None:
        raise IndexStateError(f"{str(path)!r} holds a LanceDB table that multimodal did not make; "
                              "choose another folder for Index.create")  # fmt: skip
    if values["format"] > FORMAT:
        raise IndexStateError(f"the index at {str(path)!r} has format {values['format']}, this version reads up to "
                              f"{FORMAT}: upgrade multimodal")  # fmt: skip
    return About(**values | {"modalities": tuple(values["modalities"])})


def to_arrow(
    rows: Sequence[Row], origins: Sequence[Origin], vectors: NDArray[np.float32], about: About
) -> Any:
    """Rows, where they came from and their vectors (n, dim) -> a table as `schema` has it."""
    import pyarrow as pa

    shown = dict(zip(SHOWN, zip(*rows, strict=True), strict=True))
    columns: dict[str, Any] = shown | dict(zip(ORIGIN, zip(*origins, strict=True), strict=True))
    as_json = pa.array([json.dumps(one, ensure_ascii=False) for one in shown["metadata"]], pa.string())
    columns["metadata"] = pa.ExtensionArray.from_storage(pa.json_(), as_json)
    columns["vector"] = pa.FixedSizeListArray.from_arrays(
        pa.array(vectors.reshape(-1), pa.float32()), about.dim
    )
    made = schema(about)
    return pa.table({one.name: _column(columns[one.name], one.type) for one in made}, schema=made)


def _column(values: Any, kind: Any) -> Any:
    import pyarrow as pa

    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def read_rows(found: Any) -> list[Row]:
    """The rows in an Arrow table or batch that may lack some columns."""
    names = set(found.schema.names)
    n = found.num_rows
    columns = [found[name].to_pylist() if name in names else [None] * n for name in SHOWN]
    columns[SHOWN.index("metadata")] = map(json.loads, columns[SHOWN.index("metadata")])
    return [Row(*values) for values in zip(*columns, strict=True)]


def read_origins(found: Any) -> list[Origin]:
    """Where the rows in an Arrow table or batch came from."""
    return [Origin(*values) for values in zip(*(found[name].to_pylist() for name in ORIGIN), strict=True)]


def read_vectors(found: Any, dim: int) -> NDArray[np.float32]:
    """The vectors (n, dim) in an Arrow table or batch."""
    import numpy as np
    import pyarrow as pa

    column = found["vector"]
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in chunks]
    return np.concatenate([np.empty(0, np.float32), *flat]).reshape(-1, dim)
