"""Tables in memory, and other containers of items: pandas, polars, Arrow, NumPy. None of these libraries is imported.

A data frame offers its rows itself, or its columns by Arrow's PyCapsule interface or the older interchange protocol.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from multimodal.core.errors import InvalidInput
from multimodal.core.media.inputs import describe_type
from multimodal.index.ingest.sources.arrow_rows import batch_rows
from multimodal.index.ingest.sources.delimited import BadRow, TableRow, unique_names

TABLE_SIGNS = (
    "columns",
    "dtypes",
    "keys",
    "schema",
)  # attributes of tables and mappings, which iterate over names


def is_frame(value: Any) -> bool:
    """Whether a value is a table in memory, or a stream of one."""
    if isinstance(value, Mapping | str | bytes):
        return False
    if _has(value, "__dataframe__") or _has(value, "itertuples", "columns"):
        return True
    if _has(value, "to_batches", "schema") or _has(value, "read_next_batch"):  # of Arrow
        return True
    has_columns = _has(value, "columns") or _has(value, "schema")
    return has_columns and (_has(value, "__arrow_c_stream__") or _has(value, "__arrow_c_array__"))


def _has(value: Any, *names: str) -> bool:
    """Whether the type has all these attributes. The value is not asked, since its properties may compute."""
    return all(hasattr(type(value), name) for name in names)


def frame_rows(frame: Any) -> Iterator[TableRow | BadRow]:
    """Yields the rows of a table in memory as dicts."""
    if _has(frame, "itertuples"):  # pandas; cells may be any Python objects
        names = unique_names(list(frame.columns))
        for cells in frame.itertuples(index=False, name=None):
            yield dict(zip(names, cells, strict=True))
    elif _has(frame, "iter_rows"):  # polars
        yield from frame.iter_rows(named=True)
    else:
        for batch in _batches(frame):
            yield from batch_rows(batch)


def n_rows(frame: Any) -> int | None:
    """How many rows a table in memory has; None for a stream."""
    n = getattr(frame, "num_rows", None)
    if isinstance(n, int):
        return n
    return len(frame) if _has(frame, "__len__") else None


def column_values(value: Any) -> list[Any] | None:
    """The cells of one column (a Series, an Arrow array, a NumPy array of objects or str); None for anything else.

    Raises InvalidInput for an array of objects with several axes.
    """
    import numpy as np

    if isinstance(value, np.ndarray):
        if value.dtype.names is not None and value.ndim == 1:
            return [dict(zip(value.dtype.names, row, strict=True)) for row in value.tolist()]
        if value.dtype.kind not in "OUT":
            return None
        if value.ndim != 1:
            raise InvalidInput(
                f"got an array of {value.dtype} with shape {value.shape}; pass one axis of items: array.ravel()"
            )
        return value.tolist()
    if _has(value, "to_pylist", "type"):
        return value.to_pylist()
    if _has(value, "to_list", "dtype"):
        return value.to_list()
    return None


def check_iterable(value: Any) -> None:
    """Raises InvalidInput for what iterates over something else than items: mappings, files, unknown tables."""
    if isinstance(value, Mapping):
        raise InvalidInput(
            f"got {describe_type(value)}, which may be a row, columns, or items by id: pass rows as a list of dicts "
            "[{'text': ...}], columns as pandas.DataFrame(...), and items by id as list(items.values()) with "
            "ids=list(items)"
        )
    if isinstance(value, io.IOBase):
        raise InvalidInput("got an open file, which yields lines; pass its path, or its content as an item")
    if not isinstance(value, Iterator) and (signs := [name for name in TABLE_SIGNS if _has(value, name)]):
        raise InvalidInput(
            f"got {describe_type(value)}, which has {signs[0]!r} as a table has, but neither rows nor Arrow data; pass "
            "a list of items, a list of dicts, or a pandas, polars or Arrow table"
        )


def _batches(frame: Any) -> Iterable[Any]:
    """Arrow's RecordBatches of a table."""
    import pyarrow as pa

    if _has(frame, "read_next_batch"):
        return frame
    if _has(frame, "to_batches"):
        return frame.to_batches()
    if _has(frame, "__arrow_c_stream__"):
        return pa.RecordBatchReader.from_stream(frame)
    if _has(frame, "__arrow_c_array__"):
        return [pa.record_batch(frame)]
    from pyarrow.interchange import from_dataframe

    return from_dataframe(frame).to_batches()
