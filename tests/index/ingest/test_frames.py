"""Tables in memory given to Index.add: pandas, polars, Arrow, NumPy, and iterables of rows."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from multimodal.core.errors import InvalidInput
from multimodal.core.items import Text
from multimodal.index import Index, IngestReport

pd = pytest.importorskip("pandas")

COLUMNS = {"text": ["a b", "b", "c c"], "lang": ["en", "de", None], "n": [1, 2, 3]}
ROWS = [dict(zip(COLUMNS, cells, strict=True)) for cells in zip(*COLUMNS.values(), strict=True)]
STORED = {"a b": {"lang": "en", "n": 1}, "b": {"lang": "de", "n": 2}, "c c": {"n": 3}}


def stored(index: Index) -> dict[str, dict[str, Any]]:
    return {row["text"]: row["metadata"] for row in index.rows()}


class _ByInterchange:
    """A table that offers the interchange protocol only."""

    def __dataframe__(self, *arguments: Any, **options: Any) -> Any:
        return pa.table(COLUMNS).__dataframe__(*arguments, **options)


class _ByCapsule:
    """A table that offers its columns as a stream of Arrow."""

    @property
    def columns(self) -> list[str]:
        return list(COLUMNS)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return pa.table(COLUMNS).__arrow_c_stream__(requested_schema)


def _batches() -> list[pa.RecordBatch]:
    return pa.table(COLUMNS).to_batches(max_chunksize=2)


TABLES = {
    "pandas": lambda: pd.DataFrame(COLUMNS),
    "pandas with an index": lambda: pd.DataFrame(COLUMNS, index=["x", "y", "z"]),
    "pandas with Arrow types": lambda: pd.DataFrame(COLUMNS).convert_dtypes(dtype_backend="pyarrow"),
    "pandas in chunks": lambda: pd.read_csv(io.StringIO(pd.DataFrame(COLUMNS).to_csv(index=False)), chunksize=2),
    "polars": lambda: pytest.importorskip("polars").DataFrame(COLUMNS),
    "Arrow": lambda: pa.table(COLUMNS),
    "RecordBatch": lambda: pa.RecordBatch.from_pydict(COLUMNS),
    "RecordBatchReader": lambda: pa.RecordBatchReader.from_batches(_batches()[0].schema, _batches()),
    "list of RecordBatches": _batches,
    "Arrow data set": lambda: pytest.importorskip("pyarrow.dataset").dataset(pa.table(COLUMNS)),
    "interchange": _ByInterchange,
    "capsule": _ByCapsule,
    "list of dicts": lambda: ROWS,
    "tuple of dicts": lambda: tuple(ROWS),
    "generator of dicts": lambda: (row for row in ROWS),
    "deque of dicts": lambda: deque(ROWS),
    "csv.DictReader": lambda: csv.DictReader(io.StringIO(pd.DataFrame(COLUMNS).to_csv(index=False))),
    "structured array": lambda: np.array(
        [(row["text"], row["lang"], row["n"]) for row in ROWS],
        dtype=[("text", object), ("lang", object), ("n", int)],
    ),
    "array of dicts": lambda: np.array(ROWS, dtype=object),
    "Series of dicts": lambda: pd.Series(ROWS),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_a_table_in_memory_adds_a_document_for_each_row(index: Index, name: str) -> None:
    assert index.add(TABLES[name](), metadata={"from": "memory"}) == IngestReport(3, 0)
    found = {
        text: {key: int(cell) if key == "n" else cell for key, cell in about.items() if cell != ""}
        for text, about in stored(index).items()
    }
    assert found == {text: about | {"from": "memory"} for text, about in STORED.items()}


@pytest.mark.parametrize("name", ["pandas", "polars", "Arrow", "generator of dicts"])
def test_columns_assign_roles_to_those_of_a_table_in_memory(index: Index, name: str) -> None:
    assert index.add(TABLES[name](), columns={"text": "text", "id": "n"}).added == 3
    assert sorted(row["id"] for row in index.rows()) == ["1", "2", "3"]
    for columns, message in (
        ({"text": "none"}, "the table: has no column 'none' for 'text'; it has 'text', 'lang', 'n'"),
        ({"words": "text"}, "columns must say which is the 'path' or 'text' or 'id', got 'words'"),
    ):
        with pytest.raises(InvalidInput) as caught:
            index.add(TABLES[name](), columns=columns)
        assert str(caught.value) == message


def test_paths_images_and_bytes_in_a_table_are_media(index: Index, tmp_path: Path, image: Any) -> None:
    red, blue = image(tmp_path / "red.png"), image(tmp_path / "blue.png", (0, 0, 255))
    assert index.add(pd.DataFrame({"path": [str(red), str(blue)], "year": [1, 2]})).added == 2
    assert {row["id"]: row["metadata"] for row in index.rows()} == {
        str(red): {"year": 1},
        str(blue): {"year": 2},
    }
    cells = [{"bytes": image(tmp_path / "x.png", (n, 9, 9)).read_bytes(), "path": None} for n in (1, 2)]
    assert index.add(pd.DataFrame({"image": cells, "n": [1, 2]})).added == 2  # as the hub stores images
    assert index.add(pa.table({"image": cells, "n": [1, 2]})) == IngestReport(0, 0, unchanged=2)
    assert index.add(cells, metadata={"n": 1}).failed == ()


def test_an_empty_text_is_a_failure_and_never_the_word_none(index: Index) -> None:
    frame = pd.DataFrame({"text": ["a", None, float("nan"), pd.NA, pd.NaT, "", "b"]}, dtype=object)
    report = index.add(frame)
    assert report.added == 2 and [failure.uri for failure in report.failed] == [
        f"row {n}" for n in range(1, 6)
    ]
    assert {failure.reason.split(": ", 1)[1] for failure in report.failed} == {
        "the column 'text' is empty; there is nothing to encode"
    }
    for column in (frame["text"], frame["text"].tolist()):
        assert len(index.add(column).failed) == 5
    assert stored(index).keys() == {"a", "b"}


def test_rows_without_an_id_get_one_each(index: Index) -> None:
    rows = {"text": ["a", "b", "c", "d"], "id": [7.0, None, float("nan"), 8.5]}
    assert index.add(pd.DataFrame(rows), columns={"text": "text", "id": "id"}).added == 4
    ids = {row["text"]: row["id"] for row in index.rows()}
    assert (ids["a"], ids["d"]) == ("7", "8.5") and ids["b"] != ids["c"]
    assert all(ids[text].startswith("text:") for text in "bc")


def test_empty_cells_are_no_metadata(index: Index) -> None:
    frame = pd.DataFrame(
        {"text": ["a"], "x": [pd.NaT], "y": [pd.NA], "z": [np.datetime64("NaT")], "w": [np.arange(3)]}
    )
    index.add(frame)
    assert stored(index) == {"a": {"w": "[0, 1, 2]"}}


@pytest.mark.parametrize("source", [
    pd.Series(["a", "b"]), pd.Index(["a", "b"]), pa.array(["a", "b"]), pa.chunked_array([["a"], ["b"]]),
    np.array(["a", "b"]), np.array(["a", "b"], dtype=object), {"a", "b"}, frozenset("ab"), {"a": 1, "b": 2}.keys(),
    {1: "a", 2: "b"}.values(), deque("ab"), pd.Series(["a", "b"], dtype="category"),
], ids=lambda source: type(source).__name__)  # fmt: skip
def test_one_column_or_a_set_is_its_items(index: Index, source: Any) -> None:
    assert index.add(source) == IngestReport(2, 0)
    assert stored(index) == {"a": {}, "b": {}}


def test_a_series_of_polars_and_a_tuple_of_samples_and_rate_are_items(index: Index) -> None:
    assert index.add((np.full(800, 0.5, np.float32), 8000)) == IngestReport(1, 0)
    assert index.add(pytest.importorskip("polars").Series(["a", None, "b"])).added == 2


class _Namespace:
    """Iterates over names, as tables of many libraries do."""

    columns = ("text",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


def test_what_is_not_understood_raises(index: Index, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text\na\n", encoding="utf-8")
    cure = (
        "pass rows as a list of dicts [{'text': ...}], columns as pandas.DataFrame(...), and items by id as "
    )
    with (tmp_path / "x.csv").open(encoding="utf-8") as file:
        for source, options, message in (
            ({"text": ["a"]}, {}, "got a mapping with keys ['text'], which may be a row, columns, or items by id: "
             f"{cure}list(items.values()) with ids=list(items)"),
            (file, {}, "got an open file, which yields lines; pass its path, or its content as an item"),
            (_Namespace(), {}, "got a value of type _Namespace, which has 'columns' as a table has, but "
             "neither rows nor Arrow data; pass a list of items, a list of dicts, or a pandas, polars or Arrow table"),
            (np.array([["a"]], dtype=object), {}, "got an array of object with shape (1, 1); pass one axis of items: "
             "array.ravel()"),
            ({"a"}, {"ids": ["x"]}, "ids are given for a set, which has no order; pass a list"),
            (pd.DataFrame({"text": ["a"]}), {"ids": ["x"]},
             "ids are given for a table: name the column that holds them, columns={'id': ...}"),
            ([{"text": "a"}], {"ids": ["x"]},
             "ids are given for rows: name the column that holds them, columns={'id': ...}"),
            (pd.DataFrame({"text": []}), {}, "the table has no rows; there is nothing to index"),
            ([], {}, "the list of items to add is empty; give at least one"),
            ([{"x": 1}], {}, "the table: no column is known to hold files or texts; it has 'x': name it with "
             "columns={'path': ...} or columns={'text': ...}"),
        ):  # fmt: skip
            with pytest.raises(InvalidInput) as caught:
                index.add(source, **options)  # type: ignore[arg-type]
            assert str(caught.value) == message
    with pytest.raises(InvalidInput, match="cannot tell whether a value of type object"):
        index.add(object())
    assert len(index) == 0


def test_a_lazy_frame_of_polars_is_read_or_refused(index: Index) -> None:
    frame = pytest.importorskip("polars").LazyFrame(COLUMNS)
    try:
        index.add(frame)
    except InvalidInput:
        assert len(index) == 0
    else:
        assert stored(index) == STORED


def test_an_error_of_a_generator_is_raised_when_the_rows_before_it_are_written(index: Index) -> None:
    def items() -> Iterator[Text]:
        for number in range(300):
            yield Text(f"a {number}", uri=f"n:{number}")
        raise ZeroDivisionError("of the caller")

    with pytest.raises(ZeroDivisionError, match="of the caller"):
        index.add(items())
    assert len(index) == 300


def test_two_columns_of_one_name_are_both_kept(index: Index, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,tag,tag\na,x,y\n", encoding="utf-8")
    frame = pd.DataFrame([["b", "x", "y"]], columns=["text", "tag", "tag"])
    batch = pa.RecordBatch.from_arrays([pa.array([cell]) for cell in "cxy"], names=["text", "tag", "tag"])
    for source in (tmp_path / "x.csv", frame, batch):
        assert index.add(source).added == 1
    assert list(stored(index).values()) == [{"tag": "x", "tag.1": "y"}] * 3
