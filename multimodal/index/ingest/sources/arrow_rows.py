"""Rows of Arrow data, batch by batch. A cell that has no Python value spoils its row, not the batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multimodal.core.remote.opened import SEEK_BYTES, open_binary
from multimodal.core.remote.path import AnyPath
from multimodal.index.ingest.sources.delimited import BadRow, TableRow, unique_names

ROWS_PER_BATCH = 256


def batch_rows(batch: Any) -> Iterator[TableRow | BadRow]:
    """Yields the rows of a RecordBatch as dicts."""
    renamed = batch.rename_columns(unique_names(batch.schema.names))
    for start in range(0, renamed.num_rows, ROWS_PER_BATCH):
        part = renamed.slice(start, ROWS_PER_BATCH)
        try:
            rows = part.to_pylist()
        except Exception:  # text that is not UTF-8, a date out of range: find the rows
            for position in range(part.num_rows):
                yield _row(part.slice(position, 1))
        else:
            yield from rows


def read_parquet(path: AnyPath) -> Iterator[TableRow | BadRow]:
    """Yields the rows of a Parquet file. What cannot be read of a row group is one bad row.

    Raises OSError, ValueError if the file has no readable footer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    is_local = isinstance(path, Path)
    source = path if is_local else open_binary(path, SEEK_BYTES)
    # Of a file elsewhere, the columns of a row group are requested together.
    with pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=not is_local) as file:
        for group in range(file.num_row_groups):
            n_rows = file.metadata.row_group(group).num_rows
            n_read = 0
            batches = file.iter_batches(batch_size=ROWS_PER_BATCH, row_groups=[group])
            while n_read < n_rows:
                try:
                    batch = next(batches, None)
                except (OSError, ValueError, NotImplementedError, pa.ArrowException) as error:
                    yield BadRow(f"row group {group} cannot be read ({_first_line(error)})", n_rows - n_read)
                    break
                if batch is None:
                    yield BadRow(f"row group {group} is shorter than the file says", n_rows - n_read)
                    break
                yield from batch_rows(batch)
                n_read += batch.num_rows


def read_arrow(path: AnyPath) -> Iterator[TableRow | BadRow]:
    """Yields the rows of an Arrow file or stream, as Feather and Hugging Face `datasets` write them.

    Raises OSError, ValueError from where it cannot be read.
    """
    import pyarrow as pa

    with open_binary(path) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:  # a stream has no footer
            source.seek(0)
            reader = pa.ipc.open_stream(source)
        batches = (
            map(reader.get_batch, range(reader.num_record_batches))
            if hasattr(reader, "get_batch")
            else iter(reader)
        )
        for batch in batches:
            batch.validate(full=True)  # its buffers are used as they are
            yield from batch_rows(batch)


def _row(part: Any) -> TableRow | BadRow:
    try:
        row: TableRow = part.to_pylist()[0]
    except Exception as error:
        return BadRow(f"a cell cannot be read ({_first_line(error)})")
    return row


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
