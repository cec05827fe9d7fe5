"""Whatever the source, a bad row is one failure, and every other row is added."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multimodal.core.errors import AssumedEncodingWarning, InvalidInput
from multimodal.index import Index, IngestReport
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


def tar_file(folder: Path, n: int, spoilt: Spoil) -> Path:
    """Samples of one text each, of which the spoilt ones are in no encoding."""
    path = folder / "x.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(n):
            data = b"\xff\x81" if number in spoilt else f"héllo {number}".encode()
            info = tarfile.TarInfo(f"{number:03}.txt")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
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
    csv_file, jsonl_file, parquet_file, tar_file, arrow_table, list_of_rows, generator_of_rows, stream, dataset,
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


class _Decoder:
    """Audio as `datasets` 4 decodes it."""

    def __init__(self, is_broken: bool) -> None:
        self.is_broken = is_broken

    def get_all_samples(self) -> Any:
        if self.is_broken:
            raise RuntimeError("Invalid data found when processing input")
        return SimpleNamespace(data=torch.full((1, 800), 0.5), sample_rate=8000)


class _Rows(list[dict[str, Any]]):
    """A data set that is a list."""

    features: dict[str, Any] | None = None


def test_a_decoder_that_raises_and_metadata_that_cannot_be_stored_are_failures(index: Index) -> None:
    audio = _Rows({"audio": _Decoder(number == 3)} for number in range(5))
    report = index.add(audio, columns={"path": "audio"})
    assert (report.added + report.unchanged + report.updated, len(report.failed)) == (4, 1)
    assert report.failed[0].reason == "row 3: RuntimeError: Invalid data found when processing input"
    notes = _Rows(
        {"text": f"a {number}", "note": "\ud83d" if number == 300 else "x"} for number in range(400)
    )
    report = index.add(notes)
    assert (report.added, [failure.uri for failure in report.failed]) == (399, ["row 300"])


# --- CSV and JSON lines ------------------------------------------------------------------------------


def texts(path: Path, **options: Any) -> list[str]:
    records, failures = read(path, **options)
    assert failures == []
    return [record.value.source for record in records]  # type: ignore[attr-defined]


def test_a_bad_line_is_named_and_can_be_retried_when_it_is_mended(
    index: Index, tmp_path: Path, image: Callable[..., Path]
) -> None:
    image(tmp_path / "a.png"), image(tmp_path / "b.png", (0, 9, 9))
    path = tmp_path / "x.jsonl"
    path.write_text('{"path": "a.png", "n": 1}\n\n{"path": "b.png", "n"\n[1]\n', encoding="utf-8")
    report = index.add(path, metadata={"album": "x"})
    assert report.added == 1
    assert [(failure.uri, failure.reason) for failure in report.failed] == [
        (f"{path}#row=2", f"{path}#row=2: line 3 is not valid JSON (Expecting ':' delimiter, at column 22)"),
        (f"{path}#row=3", f"{path}#row=3: line 4 is no JSON object such as {{'path': 'x.jpg'}}"),
    ]
    assert len(index.failures()) == 2
    path.write_text('{"path": "a.png", "n": 1}\n\n{"path": "b.png", "n": 2}\n', encoding="utf-8")
    assert index.retry_failed() == IngestReport(1, 0)
    assert by_id(index)[str(tmp_path / "b.png")]["metadata"] == {"album": "x", "n": 2}
    assert index.failures() == ()  # row 3 is gone


@pytest.mark.parametrize("good_first", [True, False])
def test_a_bad_first_row_does_not_decide_the_columns(tmp_path: Path, good_first: bool) -> None:
    good = [json.dumps({"path": f"{n}.png", "caption": "c"}) for n in range(3)]
    bad = '{"caption": "no path"}'
    (tmp_path / "x.jsonl").write_text(
        "\n".join([*good, bad] if good_first else [bad, *good]), encoding="utf-8"
    )
    records, failures = read(tmp_path / "x.jsonl")
    assert [record.value for record in records] == [tmp_path / f"{n}.png" for n in range(3)]
    assert [failure.reason.split(": ", 1)[1] for failure in failures] == [
        "the path is empty; there is nothing to index"
    ]


def test_a_cell_of_any_length_is_read_and_the_setting_of_the_module_stays(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    long = "word " * 200_000
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "n"], ["a", 1], [long, 2], [f"{long}\n\n{long}", 3], ["b", 4]])
    assert texts(tmp_path / "x.csv") == ["a", long, f"{long}\n\n{long}", "b"]
    assert csv.field_size_limit() == limit


def test_a_quote_that_is_never_closed_does_not_swallow_the_rows_after_it(tmp_path: Path) -> None:
    lines = [
        "text,n",
        '"a, with ""quotes""\nand lines",1',
        '"never closed,2',
        *(f"row {n},3" for n in range(100_000)),
    ]
    (tmp_path / "x.csv").write_text("\n".join(lines), encoding="utf-8")
    records, failures = read(tmp_path / "x.csv")
    assert len(records) == 100_001
    (failed,) = failures
    assert failed.reason == (
        f"{tmp_path}/x.csv#row=2: line 4 holds a quote that is not closed; close it, or double it"
    )


def test_a_row_of_more_cells_than_the_header_is_a_failure_and_loses_no_text_silently(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("n,text\n1,a, b\n2,c,\n3\n4,d\n", encoding="utf-8")
    records, failures = read(tmp_path / "x.csv")
    assert [record.value.source for record in records] == ["c", "d"]  # type: ignore[attr-defined]
    assert [failure.reason.split("#row=")[1] for failure in failures] == [
        "1: line 2 has 3 cells where the header has 2; put cells that hold ',' in quotes",
        "3: the column 'text' is empty; there is nothing to encode",
    ]


def test_text_after_a_closing_quote_is_kept(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('text,n\n"a" b,1\n', encoding="utf-8")
    assert texts(tmp_path / "x.csv") == ["a b"]


@pytest.mark.parametrize(("name", "content", "options", "wanted"), [
    ("x.tsv", "text\tn, m\na, b\t1\n", {}, "a, b"),
    ("x.csv", "sep=;\ntext, more;n\na, b;1\n", {"columns": {"text": "text, more"}}, "a, b"),
    ("x.csv", "sep=\t\ntext\tn\na, b\t1\n", {}, "a, b"),
    ("x.csv", '"SEP=|"\r\ntext|n\r\na, b|1\r\n', {}, "a, b"),
    ("x.csv", "text;price, EUR\na, b;1,50\n", {}, "a, b"),
    ("x.csv", '"a,b,c";text\n1;"x;y"\n', {}, "x;y"),
    ("x.csv", "text\na\n", {}, "a"),
    ("x.csv", "text^n\na, b^1\n", {"delimiter": "^"}, "a, b"),
    ("x.tsv", "text;n\na\tb;1\n", {"delimiter": ";"}, "a\tb"),
    ("x.csv", "sep=;\ntext,n\na;b,1\n", {"delimiter": ","}, "a;b"),
    ("x.csv", "text\rold Mac\r", {}, "old Mac"),
])  # fmt: skip
def test_the_delimiter_is_the_given_one_or_that_of_the_first_line_the_suffix_or_the_content(
    tmp_path: Path, name: str, content: str, options: dict[str, Any], wanted: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert texts(tmp_path / name, **options) == [wanted]


@pytest.mark.parametrize(("options", "message"), [
    ({"delimiter": ""}, "delimiter must be one character such as ';' or '\\t', got ''; leave it out to have it "
     "recognised"),
    ({"delimiter": "||"}, "delimiter must be one character such as ';' or '\\t', got '||'; leave it out"),
    ({"delimiter": '"'}, "delimiter must be one character"),
    ({"encoding": "nope"}, "encoding must be the name of a text encoding such as 'utf-16', 'cp1252' or 'shift_jis', "
     "got 'nope'"),
    ({"encoding": "base64"}, "encoding must be the name of a text encoding"),
])  # fmt: skip
def test_an_unknown_delimiter_or_encoding_is_refused(
    index: Index, options: dict[str, Any], message: str
) -> None:
    for method in (index.add, index.estimate):
        with pytest.raises(InvalidInput) as caught:
            method(["a"], **options)
        assert str(caught.value).startswith(message)


WORDS = "naïve façade — größer"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize(("encoding", "given"), [
    ("utf-8", None), ("utf-8-sig", None), ("utf-16", None), ("utf-16-le", None), ("utf-16-be", None), ("utf-32", None),
    ("utf-8-sig", "cp1252"), ("cp1252", "cp1252"), ("utf-16", "cp1252"), ("utf-8-sig", "utf-8"), ("cp437", "cp437"),
])  # fmt: skip
def test_tables_of_common_encodings_are_read(
    tmp_path: Path, kind: str, encoding: str, given: str | None
) -> None:
    words = WORDS.replace("—", "-") if encoding == "cp437" else WORDS
    rows = [words, "plain", words[::-1]]
    lines = ["text,n", *(f"{text},1" for text in rows)]
    if kind == "jsonl":
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in rows]
    (tmp_path / f"x.{kind}").write_bytes("\r\n".join(lines).encode(encoding))
    assert texts(tmp_path / f"x.{kind}", encoding=given) == rows


def test_latin_1_is_assumed_with_a_warning_and_only_where_nothing_speaks_for_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("text\nplain\ncafé “noir”\nthé\n".encode("cp1252"))
    with pytest.warns(AssumedEncodingWarning, match="x.csv: not valid UTF-8, so read as Latin-1") as caught:
        assert texts(path) == ["plain", "café “noir”", "thé"]
    assert len(caught) == 1
    for bad in (b"\xff", b"caf\xe9 \x81", "é".encode() + b" caf\xe9"):
        path.write_bytes(b"text\nplain\n" + bad + b"\nmore\n")
        records, failures = read(path)
        assert len(records) == 2 and failures[0].reason == (
            f"{path}#row=2: line 3 holds bytes that are not valid UTF-8; correct them, or name the encoding of the "
            "file with encoding='cp1252' or another"
        )


def test_a_bad_unit_of_utf_16_spoils_its_line_only(tmp_path: Path) -> None:
    content = "text\na\n".encode("utf-16") + b"\x00\xdc" + "b\nc\n".encode("utf-16-le")
    (tmp_path / "x.csv").write_bytes(content)
    records, failures = read(tmp_path / "x.csv")
    assert [record.value.source for record in records] == ["a", "c"]  # type: ignore[attr-defined]
    assert "line 3 holds bytes that are not valid UTF-16" in failures[0].reason


def test_delimiter_and_encoding_are_kept_for_a_retry(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("text^n\n^1\nthé^2\n".encode("cp437"))
    options = {"delimiter": "^", "encoding": "cp437"}
    assert index.add(path, **options).added == 1  # type: ignore[arg-type]
    path.write_bytes("text^n\ncafé^1\nthé^2\n".encode("cp437"))
    assert index.retry_failed() == IngestReport(1, 0)
    assert {row["text"] for row in index.rows()} == {"thé", "café"}


# --- Parquet -----------------------------------------------------------------------------------------


def test_a_bad_row_group_is_one_failure_with_its_rows_and_can_be_retried(
    index: Index, tmp_path: Path
) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(
        pa.table({"text": [f"a {n}" for n in range(100)]}), path, row_group_size=10, write_page_checksum=True
    )
    whole = path.read_bytes()
    column = pq.read_metadata(path).row_group(4).column(0)
    broken = bytearray(whole)
    start = column.dictionary_page_offset
    broken[start : start + column.total_compressed_size] = b"\xaa" * column.total_compressed_size
    path.write_bytes(broken)
    report = index.add(path, metadata={"album": "x"})
    (failed,) = report.failed
    assert report.added == 90 and failed.uri == f"{path}#rows=41-50"
    assert failed.reason.startswith(f"{path}#rows=41-50: row group 4 cannot be read (")
    assert failed.reason.endswith("), so 10 rows were not added")
    assert index.sync(path, metadata={"album": "x"}).deleted == 0 and len(index) == 90
    path.write_bytes(whole)
    assert index.retry_failed() == IngestReport(10, 0) and index.failures() == ()
    assert {row["id"] for row in index.rows()} == {f"{path}#row={n}" for n in range(1, 101)}
    assert all(row["metadata"] == {"album": "x"} for row in index.rows())


def test_sync_deletes_nothing_of_a_table_with_a_row_that_cannot_be_read(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a", "id": 1}\n{"text": "b", "id": 2}\n', encoding="utf-8")
    columns = {"id": "id", "text": "text"}
    assert index.sync(path, columns=columns).added == 2
    path.write_text('{"text": "a", "id": 1}\n{"text": "b", "id"\n', encoding="utf-8")
    report = index.sync(path, columns=columns)
    assert (report.deleted, report.unchanged, len(report.failed)) == (0, 1, 1)
    path.write_text('{"text": "a", "id": 1}\n', encoding="utf-8")
    assert index.sync(path, columns=columns).deleted == 1 and index.failures() == ()
