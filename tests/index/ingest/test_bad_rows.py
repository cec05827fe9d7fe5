"""Whatever the source, a bad row is one failure, and every other row is added."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimodal.index import Index
from multimodal.index.ingest.sources import resolve
from multimodal.index.ingest.sources.record import SourceOptions, SourceRecord
from multimodal.index.storage.failures import FailureRecord


def by_id(index: Index) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in index.rows()}


def read(source: object, **options: Any) -> tuple[list[SourceRecord], list[FailureRecord]]:
    """The records of a source that can be looked up, and the failures to read."""
    from multimodal.index.ingest.document import Document, stat_document

    records, failures = [], []
    for output in resolve.records(source, None, SourceOptions(**options)):
        if isinstance(output, SourceRecord):
            document = stat_document(output)
            if isinstance(document, Document):
                records.append(output)
            else:
                failures.append(document)
        elif isinstance(output, FailureRecord):
            failures.append(output)
    return records, failures


def png(number: int) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (4, 4), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


# --- any source of n rows, m of them spoilt ---------------------------------------------------------

Spoil = dict[int, int]  # row -> the way in which it is spoilt


def csv_file(folder: Path, n: int, spoilt: Spoil) -> Path:
    ways = (
        lambda text: f'1,"{text}',  # a quote never closed
        lambda text: f'1,"{text}" and more"',
        lambda text: f"1,{text},too,many",
        lambda text: f"1,{text}\0",
        lambda text: f"1,{text}\udcff",  # a bad byte
        lambda text: "1,",  # no text
        lambda text: f'"1,{text}',
    )
    lines = ["n,text"]
    for number in range(n):
        text = f"héllo {number}"
        good = (f'{number},"{text}\nand ""more"""', f"{number},{text}", f'"{number}","{text}"')[number % 3]
        lines.append(ways[spoilt[number] % len(ways)](text) if number in spoilt else good)
    path = folder / "x.csv"
    path.write_bytes("\r\n".join(lines).encode("utf-8", errors="surrogateescape"))
    return path


def jsonl_file(folder: Path, n: int, spoilt: Spoil) -> Path:
    ways = (
        '{"text": "cut',
        "[1, 2]",
        '"words"',
        '{"text": null}',
        '{"text": "\udcff"}',
        '{"text": "x", "y": "\\ud83d"}',
        '{"text": NaN}',
        "\0\0\0",
        "9" * 5000,
        '{"other": 1}',
        '{"text": ["a", "b"]}',
        "[" * 100_000,
    )
    lines = [
        ways[spoilt[number] % len(ways)]
        if number in spoilt
        else json.dumps({"text": f"héllo {number}"}, ensure_ascii=False)
        for number in range(n)
    ]
    path = folder / "x.jsonl"
    path.write_bytes("\n".join(lines).encode("utf-8", errors="surrogateescape"))
    return path


def parquet_file(folder: Path, n: int, spoilt: Spoil) -> Path:
    """A row group for each row, with checksums; the pages of the spoilt ones are overwritten."""
    path = folder / "x.parquet"
    rows = pa.table({"text": [f"héllo {number}" for number in range(n)]})
    pq.write_table(rows, path, row_group_size=1, write_page_checksum=True, compression="snappy")
    content = bytearray(path.read_bytes())
    metadata = pq.read_metadata(path)
    for number in spoilt:
        column = metadata.row_group(number).column(0)
        start = column.dictionary_page_offset or column.data_page_offset
        content[start : start + column.total_compressed_size] = b"\xaa" * column.total_compressed_size
    path.write_bytes(content)
    return path


def arrow_table(folder: Path, n: int, spoilt: Spoil) -> pa.Table:
    """Rows of text, of which the spoilt ones are null or not valid UTF-8."""
    cells = [b"\xff" if number in spoilt else f"row {number}".encode() for number in range(n)]
    mask = [number in spoilt and spoilt[number] % 2 == 0 for number in range(n)]
    column = pa.array(
        [None if hidden else cell for cell, hidden in zip(cells, mask, strict=True)], pa.binary()
    )
    return pa.table({"text": column.view(pa.string())})


def list_of_rows(folder: Path, n: int, spoilt: Spoil) -> list[object]:
    ways: tuple[object, ...] = (
        {"text": None},
        {"text": float("nan")},
        {"other": 1},
        {"text": "\ud83d"},
        {},
        {"text": b"x"},
    )
    rows: list[object] = [
        ways[spoilt[number] % len(ways)] if number in spoilt else {"text": f"row {number}"}
        for number in range(n)
    ]
    return rows


def generator_of_rows(folder: Path, n: int, spoilt: Spoil) -> Iterator[object]:
    return iter(list_of_rows(folder, n, spoilt))


class _Stream:
    """A data set of which a row raises when it is read, and which can be read from a later position."""

    def __init__(self, n: int, spoilt: Spoil, start: int = 0) -> None:
        self.features = {"text": None}
        self.n, self.spoilt, self.start = n, spoilt, start

    def skip(self, n: int) -> _Stream:
        return _Stream(self.n, self.spoilt, self.start + n)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for number in range(self.start, self.n):
            if number in self.spoilt:
                raise RuntimeError(f"row {number} cannot be decoded")
            yield {"text": f"row {number}"}


class _Positions(_Stream):
    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: int) -> dict[str, Any]:
        if number in self.spoilt:
            raise KeyError("cannot be decoded")
        return {"text": f"row {number}"}


def stream(folder: Path, n: int, spoilt: Spoil) -> object:
    return _Stream(n, spoilt)


def dataset(folder: Path, n: int, spoilt: Spoil) -> object:
    return _Positions(n, spoilt)


SOURCES = (
    csv_file, jsonl_file, parquet_file, arrow_table, list_of_rows, generator_of_rows, stream, dataset,
)  # fmt: skip


@pytest.mark.parametrize("make", SOURCES)
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(data=st.data())
def test_of_n_rows_of_which_m_are_spoilt_n_minus_m_are_read(make: Callable[..., object], data: Any) -> None:
    n = data.draw(st.integers(2, 90))
    spoilt = data.draw(st.dictionaries(st.integers(0, n - 1), st.integers(0, 11), max_size=n - 1))
    with tempfile.TemporaryDirectory() as folder:
        records, failures = read(make(Path(folder), n, spoilt))
    assert (len(records), len(failures)) == (n - len(spoilt), len(spoilt))
    numbers = [int(record.value.source.split()[1]) for record in records]  # type: ignore[attr-defined]
    assert numbers == [number for number in range(n) if number not in spoilt]
    assert len({failure.key for failure in failures}) == len(failures)
