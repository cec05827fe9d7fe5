"""Columns: rows come back from Arrow as they were written, from memory and from a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.index.storage.columns import (
    COLUMN_NAMES,
    Columns,
    ColumnWriter,
    column_schema,
    select_columns,
)
from multimodal.index.storage.schema import Row

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | texts
rows = st.builds(Row, texts, st.none() | texts, st.just("text"), st.none() | texts,
                 st.dictionaries(texts, scalars, max_size=2), st.none() | st.floats(0, 1e6), st.none(),
                 st.none() | st.integers(0, 2**40), st.none())  # fmt: skip
batches = st.lists(st.lists(st.tuples(rows, st.none() | texts), max_size=5), max_size=5)


def arrow(batch: list[tuple[Row, str | None]]) -> pa.RecordBatch:
    records = [
        row._asdict() | {"metadata": json.dumps(row.metadata), "content": content} for row, content in batch
    ]
    arrays = [
        pa.array([record[name] for record in records], column_schema().field(name).type)
        for name in COLUMN_NAMES
    ]
    return pa.record_batch(arrays, schema=column_schema())


@settings(deadline=None)
@given(batches)
def test_rows_come_back_from_memory_and_from_what_was_written(
    given: list[list[tuple[Row, str | None]]],
) -> None:
    sink = pa.BufferOutputStream()
    writer = ColumnWriter(sink)
    for batch in given:
        writer.write(arrow(batch))
    writer.close()
    every = [pair for batch in given for pair in batch]
    for records in (Columns(list(map(arrow, given))), Columns.from_buffer(sink.getvalue())):
        assert len(records) == len(every)
        assert [records.row(place, "text") for place in range(len(every))] == every
        assert [records.id(place) for place in range(len(every))] == [row.id for row, _ in every]
        bare = [row._replace(modality="") for row, _ in every]
        assert [row for some in records.rows() for row in some] == bare
        mask = np.arange(len(every)) % 3 == 0
        left = records.filter(mask)
        assert [left.row(place, "text") for place in range(len(left))] == every[::3]


def test_columns_that_an_older_index_lacks_are_empty() -> None:
    batch = select_columns(pa.record_batch({"id": ["a"], "metadata": pa.array(["{}"], pa.json_())}))
    assert Columns([batch]).row(0, "image") == (Row("a", None, "image", None, {}), None)


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    other = pa.table({"id": ["a"]})
    with pa.ipc.new_file(str(tmp_path / "r.arrow"), other.schema) as file:
        file.write_table(other)
    with pytest.raises(ValueError, match=r"^a columns file has the columns id, expected "):
        Columns.read(tmp_path / "r.arrow")
