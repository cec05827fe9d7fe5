"""Columns of an index: what a row holds, and its conversion to and from Arrow.

An index created before a column was introduced lacks it. Such a column reads as None and is added by the next write.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from multimodal.core.errors import IndexStateError
from multimodal.core.remote.path import AnyPath
from multimodal.index.results import Metadata
from multimodal.index.storage.vector_columns import VectorColumns, vector_fields
from multimodal.index.storage.vector_formats import FLOAT32

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METADATA_KEY = b"multimodal.index"
IDENTITY_KEY = b"multimodal.identity"
FORMAT = 2  # raised when an older reader could no longer understand the index
PLAIN_FORMAT = 1  # of an index with float32 vectors, which older versions read
# A primary key keeps two processes that add one id at the same time from storing it twice.
PRIMARY_KEY = {"lance-schema:unenforced-primary-key": "true"}


@dataclass(frozen=True)
class IndexMetadata:
    """The space an index belongs to. `address` and `options` are the arguments of `load` that load it again.

    vectors: how they are stored; see vector_formats.py.
    """

    space: str
    address: str
    fingerprint: str
    dim: int
    modalities: tuple[str, ...]
    format: int = PLAIN_FORMAT
    options: dict[str, Any] = field(default_factory=dict)
    vectors: str = FLOAT32

    def to_dict(self) -> dict[str, Any]:
        """What the schema of the table stores: without `vectors` if older versions read the index."""
        values = asdict(self)
        if self.vectors == FLOAT32:
            del values["vectors"]
        return values


class Row(NamedTuple):
    """A stored item without its vector. The last four fields locate a chunk in its document."""

    id: str
    uri: str | None
    modality: str
    text: str | None
    metadata: Metadata
    start_s: float | None = None
    end_s: float | None = None
    start_char: int | None = None
    end_char: int | None = None


class Provenance(NamedTuple):
    """Where a row came from; a change of these fields means that the document has changed.

    source: id of the document, equal to the row's id unless the row is a chunk. container: archive or table that holds
    the document. content: hash of the whole document. size (bytes) and mtime_ns: of the file, if it is a file.
    """

    source: str
    container: str | None = None
    content: str | None = None
    size: int | None = None
    mtime_ns: int | None = None


ROW_COLUMNS = list(Row._fields)
PROVENANCE_COLUMNS = list(Provenance._fields)


def table_schema(index_metadata: IndexMetadata) -> Any:
    """The Arrow schema of a new index. Columns after `vector` were introduced later; see `later_columns`."""
    import pyarrow as pa

    fields = [
        pa.field("id", pa.string(), nullable=False, metadata=PRIMARY_KEY),
        pa.field("uri", pa.string()),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("text", pa.string()),
        pa.field("metadata", pa.json_()),
        *vector_fields(index_metadata.vectors, index_metadata.dim),
        pa.field("source", pa.string(), nullable=False),
        *later_columns(),
    ]
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(index_metadata.to_dict()).encode()})


def later_columns() -> list[Any]:
    """The columns that the first format lacks, except `source`, which is a copy of `id` there."""
    import pyarrow as pa

    integer, real = pa.int64(), pa.float64()
    types = {
        "container": pa.string(), "content": pa.string(), "size": integer, "mtime_ns": integer,
        "start_s": real, "end_s": real, "start_char": integer, "end_char": integer,
    }  # fmt: skip
    return [pa.field(name, type_) for name, type_ in types.items()]


def with_identity(schema: Any, identity: str) -> Any:
    """A schema whose metadata names one index, so that what is cached of it is not taken for that of another."""
    return schema.with_metadata(schema.metadata | {IDENTITY_KEY: identity.encode()})


def read_identity(metadata: dict[bytes, bytes]) -> str:
    """What `with_identity` wrote; "" without it."""
    return metadata.get(IDENTITY_KEY, b"").decode()


def read_index_metadata(path: AnyPath, metadata: dict[bytes, bytes]) -> IndexMetadata:
    """Parses the metadata of a table's schema. Raises IndexStateError."""
    values = json.loads(metadata.get(METADATA_KEY, b"null"))
    if values is None:
        raise IndexStateError(f"{str(path)!r} holds a LanceDB table that multimodal did not create; "
                              "choose another folder for Index.create")  # fmt: skip
    if values["format"] > FORMAT:
        raise IndexStateError(f"the index at {str(path)!r} has format {values['format']}, this version reads up to "
                              f"{FORMAT}: upgrade multimodal")  # fmt: skip
    return IndexMetadata(**values | {"modalities": tuple(values["modalities"])})


def to_arrow(
    rows: Sequence[Row],
    provenances: Sequence[Provenance],
    vectors: NDArray[np.float32],
    index_metadata: IndexMetadata,
    vector_columns: VectorColumns,
) -> Any:
    """An Arrow table with the schema of `table_schema`, from n rows, n provenances and vectors (n, dim)."""
    import pyarrow as pa

    row_values = dict(zip(ROW_COLUMNS, zip(*rows, strict=True), strict=True))
    columns: dict[str, Any] = row_values | dict(
        zip(PROVENANCE_COLUMNS, zip(*provenances, strict=True), strict=True)
    )
    as_json = [json.dumps(metadata, ensure_ascii=False) for metadata in row_values["metadata"]]
    columns["metadata"] = pa.ExtensionArray.from_storage(pa.json_(), pa.array(as_json, pa.string()))
    columns |= vector_columns.arrays(vectors)
    schema = table_schema(index_metadata)
    return pa.table(
        {column.name: _array(columns[column.name], column.type) for column in schema}, schema=schema
    )


def _array(values: Any, type_: Any) -> Any:
    import pyarrow as pa

    return values if isinstance(values, pa.Array) else pa.array(values, type_)


def read_rows(table: Any) -> list[Row]:
    """Rows from an Arrow table or batch that may lack some columns."""
    names = set(table.schema.names)
    n_rows = table.num_rows
    columns = [table[name].to_pylist() if name in names else [None] * n_rows for name in ROW_COLUMNS]
    position = ROW_COLUMNS.index("metadata")
    columns[position] = map(json.loads, columns[position])
    return [Row(*values) for values in zip(*columns, strict=True)]


def read_provenances(table: Any) -> list[Provenance]:
    """Provenances from an Arrow table or batch."""
    columns = (table[name].to_pylist() for name in PROVENANCE_COLUMNS)
    return [Provenance(*values) for values in zip(*columns, strict=True)]


def check_distinct(ids: Sequence[str]) -> None:
    """Raises ValueError if two rows of one write have the same id."""
    if len(set(ids)) < len(ids):
        raise ValueError(f"two rows have the id {next(id_ for id_ in ids if ids.count(id_) > 1)!r}")
