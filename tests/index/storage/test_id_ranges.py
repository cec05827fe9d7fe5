"""Documents are looked up by ranges of ids or by lists, with the same result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.index.ingest.config import IngestConfig
from multimodal.index.ingest.lookup import Lookup
from multimodal.index.ingest.sources.record import SourceRecord
from multimodal.index.storage import id_ranges, table
from multimodal.index.storage.id_ranges import IdRanges
from multimodal.index.storage.schema import IndexMetadata, Provenance, Row
from multimodal.index.storage.table import ItemTable

IDS = sorted(
    {f"{letter}{n}{rest}" for letter in "aÄz😀'" for n in range(8) for rest in ("", "/b", "#chunk=0")}
)
STORED = sorted({*IDS[::3], *IDS[1::7]})


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> ItemTable:
    """Documents with ids from STORED, most of them in a B-tree, every fifth with two rows."""
    items = ItemTable.create(tmp_path_factory.mktemp("ids") / "i", IndexMetadata("s", "s", "f", 2, ("text",)))
    sources = [id_ for n, id_ in enumerate(STORED) for _ in range(2 if n % 5 == 0 else 1)]
    rows = [Row(f"{source}#{n}", None, "text", None, {"n": n}) for n, source in enumerate(sources)]
    half = len(rows) // 2
    for part in (slice(half), slice(half, None)):
        write(items, rows[part], sources[part])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(table, "BTREE_ROWS", half)
            patch.setattr(table, "BTREE_REFRESH", 10**6)
            items.index_ids()
    return items


def write(items: ItemTable, rows: list[Row], sources: list[str], **options: bool) -> None:
    vectors = np.ones((len(rows), 2), np.float32)
    items.upsert(rows, [Provenance(source) for source in sources], vectors, **options)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.sampled_from(IDS), min_size=1, max_size=30), st.booleans())
def test_exactly_the_stored_documents_are_found(
    items: ItemTable, wanted: list[str], neighbours: bool
) -> None:
    if neighbours:
        start = IDS.index(wanted[0])
        wanted = IDS[start : start + len(wanted)]
    documents = items.documents(wanted)
    assert documents.keys() == set(wanted) & set(STORED)
    assert all(document.provenance.source == source for source, document in documents.items())
    assert all(
        document.n_rows == 1 + (STORED.index(source) % 5 == 0) for source, document in documents.items()
    )


def test_neighbours_are_looked_up_by_a_range_and_others_by_a_list() -> None:
    n_rows, counted = 8, []

    def count(condition: str) -> int:
        counted.append(condition)
        return n_rows

    ranges = IdRanges(count)
    assert ranges.condition("x", ["a", "it's"]) == "x >= 'a' AND x <= 'it''s'"
    n_rows = 0
    assert ranges.condition("x", ["a", "b"]) is None
    n_rows = id_ranges.WIDE * 2 + 1
    kinds = ["IN" if "IN" in (ranges.condition("x", ["a", "b"]) or "") else "range" for _ in range(12)]
    assert kinds == ["IN"] * 12 and ranges.are_scattered
    assert len(counted) == 2 + 3  # at the first, then after one and three by lists
    n_rows = 1
    assert any("IN" not in (ranges.condition("x", ["a", "b"]) or "") for _ in range(8))
    assert not ranges.are_scattered


@pytest.mark.parametrize(("is_scattered", "sizes"), [(False, [4, 8, 8, 8, 8, 8, 6]), (True, [4, 8, 16, 22])])
def test_lookups_are_longer_where_ids_are_scattered(
    items: ItemTable, monkeypatch: pytest.MonkeyPatch, is_scattered: bool, sizes: list[int]
) -> None:
    monkeypatch.setattr(ItemTable, "has_scattered_ids", is_scattered)
    records = (SourceRecord(id_, id_, id_) for id_ in (IDS * 2)[:50])
    lookup = Lookup(records, items, IngestConfig(lookup_first=4, lookup_max=8, lookup_scattered=32))
    assert [len(lookup.next().results) for _ in sizes] == sizes


def test_one_row_takes_the_place_of_one_whatever_its_id(tmp_path: Path) -> None:
    items = ItemTable.create(tmp_path / "i", IndexMetadata("s", "s", "f", 2, ("text",)))
    write(items, [Row(id_, None, "text", "old", {}) for id_ in ("a#page=1", "b", "c")], ["a", "b", "c"])
    assert items.documents(["a"])["a"].is_replaced_by(["a"])
    assert not items.documents(["b"])["b"].is_replaced_by(
        ["b#page=1"]
    )  # which another document may be called
    write(items, [Row(id_, None, "text", "new", {}) for id_ in ("a", "b")], ["a", "b"], one_row_each=True)
    assert sorted((row.id, row.text) for row, _ in items.rows()) == [("a", "new"), ("b", "new"), ("c", "old")]


def test_only_rows_that_are_gone_make_a_write_read_the_whole_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lancedb.merge import LanceMergeInsertBuilder

    deleting: list[str] = []
    delete = LanceMergeInsertBuilder.when_not_matched_by_source_delete
    monkeypatch.setattr(
        LanceMergeInsertBuilder,
        "when_not_matched_by_source_delete",
        lambda self, condition: [deleting.append(condition), delete(self, condition)][1],
    )
    items = ItemTable.create(tmp_path / "i", IndexMetadata("s", "s", "f", 2, ("text",)))
    for text, n in (("first", 2), ("second", 2), ("longer", 3), ("shorter", 1)):
        rows = [Row(f"a#{number}", None, "text", text, {}) for number in range(n)]
        items.upsert(rows, [Provenance("a")] * n, np.ones((n, 2), np.float32), replacing=["a"])
        assert sorted((row.id, row.text) for row, _ in items.rows()) == [(row.id, text) for row in rows]
    assert len(deleting) == 1
