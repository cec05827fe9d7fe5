"""New documents are appended, and none is ever stored twice."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.items import Text
from multimodal.core.space import Space
from multimodal.index import Index, IngestConfig
from multimodal.index.ingest import commit
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import ItemTable
from multimodal.testing import FakeEncoder, fake_space
from tests.index.ingest import faults

MERGE, APPEND = "merge_insert", "add"


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of LanceDB's writes, in order."""
    names: list[str] = []

    def record(name: str) -> None:
        method = getattr(lancedb.table.LanceTable, name)

        def recorded(*arguments: Any, **options: Any) -> Any:
            names.append(name)
            return method(*arguments, **options)

        monkeypatch.setattr(lancedb.table.LanceTable, name, recorded)

    record(MERGE)
    record(APPEND)
    return names


def ids_of(index: Index) -> Counter[str]:
    return Counter(row["id"] for row in index.rows())


def test_new_documents_are_appended_and_known_ones_replaced(index: Index, writes: list[str]) -> None:
    index.add(["a", "b"], ids=["1", "2"])
    assert writes == [APPEND]
    index.add(["c", "d", "e"], ids=["2", "3", "4"])
    assert writes == [APPEND, APPEND, MERGE]
    assert ids_of(index) == Counter("1234") and {row["text"] for row in index.rows()} == {"a", "c", "d", "e"}


@pytest.fixture
def long_text(tmp_path: Path) -> Path:
    """A file of several chunks."""
    path = tmp_path / "long.txt"
    path.write_text(" ".join(["apple"] * 400), encoding="utf-8")
    return path


def test_a_document_named_like_the_chunk_of_another_replaces_it(
    index: Index, writes: list[str], long_text: Path
) -> None:
    index.add(long_text, ids=["a"])
    (chunk, *others) = sorted(ids_of(index), key=lambda id_: int(id_.partition("=")[2]))
    assert chunk == "a#chunk=0" and others
    index.add(["b"], ids=[chunk])
    assert ids_of(index) == Counter([chunk, *others])
    assert [row["text"] for row in index.rows() if row["id"] == chunk] == ["b"]
    assert writes == [APPEND, MERGE]


def test_chunks_replace_documents_that_have_their_names(
    index: Index, writes: list[str], long_text: Path
) -> None:
    index.add(["b", "c"], ids=["a#chunk=0", "x"])
    index.add([long_text, "d"], ids=["a", "y"])
    assert max(ids_of(index).values()) == 1 and writes == [APPEND, MERGE]
    assert len(index) > 4 and all(row["text"] != "b" for row in index.rows())
    index.add([long_text], ids=["z#1"])
    assert max(ids_of(index).values()) == 1 and writes == [APPEND, MERGE, APPEND]


def test_one_commit_with_both_stores_neither_twice(index: Index, long_text: Path) -> None:
    report = index.add([long_text, "b", "c"], ids=["a", "a#chunk=0", "d"])
    assert report.added == 3 and max(ids_of(index).values()) == 1 and ids_of(index)["d"] == 1


def test_an_id_that_occurs_twice_in_one_write_is_refused(index: Index) -> None:
    rows, vectors = [Row("a", None, "text", "x", {})] * 2, np.eye(2, 4, dtype=np.float32)
    with pytest.raises(ValueError, match="two rows have the id 'a'"):
        ItemTable.open(index.path).upsert(rows, [Provenance("a")] * 2, vectors, are_new=True)
    assert len(index) == 0


@settings(max_examples=10, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 30), min_size=1, max_size=150),
    lookup=st.sampled_from([1, 3, 64]),
    commit_rows=st.sampled_from([1, 4, 50]),
    batch_size=st.sampled_from([1, 8]),
    parts=st.integers(1, 3),
)
def test_ids_that_repeat_are_stored_once_with_their_last_text(
    numbers: list[int], lookup: int, commit_rows: int, batch_size: int, parts: int
) -> None:
    config = IngestConfig(lookup_first=lookup, lookup_max=lookup, commit_rows=commit_rows)
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "i", fake_space(("text",)))
        items = [Text(f"{place}", uri=f"{number}") for place, number in enumerate(numbers)]
        size = -(-len(items) // parts)
        for start in range(0, len(items), size):
            index.add(items[start : start + size], config=config, batch_size=batch_size)
        assert {row["id"]: row["text"] for row in index.rows()} == {item.uri: item.source for item in items}
        assert max(ids_of(index).values()) == 1


class SlowFirst(FakeEncoder):
    """Holds back the first item until `free` is set."""

    def __init__(self, free: threading.Event) -> None:
        super().__init__("text")
        self.free = free

    def prepare(self, items: Sequence[Any]) -> Any:
        if any(item.source == "first" for item in items):
            self.free.wait(20)
        return super().prepare(items)


def test_a_lookup_that_is_older_than_many_writes_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second "same" is looked up before the first is written, and begins after 5,000 others are."""
    free = threading.Event()
    space = Space([SlowFirst(free)], name="slow")
    index = Index.create(tmp_path / "i", space)
    n = 5000
    items: list[Text] = [Text("first", uri="same"), *(Text(f"{k}", uri=f"{k}") for k in range(n))]
    written = [0]
    release = commit.Committer._release

    def counted(self: Any, document: Any) -> None:
        release(self, document)
        written[0] += 1
        if written[0] == n - 500:
            free.set()

    monkeypatch.setattr(commit.Committer, "_release", counted)
    config = IngestConfig(lookup_first=2 * n, lookup_max=2 * n, commit_rows=500)
    report = index.add([*items, Text("last", uri="same")], config=config, batch_size=1, threads=2)
    assert report.added + report.updated == n + 2
    assert max(ids_of(index).values()) == 1 and len(index) == n + 1
    assert [row["text"] for row in index.rows() if row["id"] == "same"] == ["last"]


LANCE_TABLE = "lancedb.table:LanceTable"


def test_a_job_that_dies_around_an_append_stores_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    faults.make_files(folder, 60, 0)
    runner = faults.Runner(folder, slowness_s=0.0)
    runner.to_the_end(tmp_path / "undisturbed.lance")
    for call, after in ((1, True), (2, False)):
        assert runner.crashed(tmp_path / "killed.lance", faults.Crash(LANCE_TABLE, APPEND, call, after=after))
    runner.to_the_end(tmp_path / "killed.lance")
    assert faults.assert_same(tmp_path / "killed.lance", tmp_path / "undisturbed.lance") >= 60


def test_a_job_that_dies_between_append_and_replacement_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    faults.make_files(folder, 40, 0)
    runner = faults.Runner(folder, slowness_s=0.0, commit_rows=500)  # one commit
    for name in ("undisturbed.lance", "killed.lance"):
        runner.to_the_end(tmp_path / name)
    for place, path in enumerate(sorted(folder.rglob("*.txt"))):
        path.write_text(f"changed {place}", encoding="utf-8")
    faults.make_files(folder / "more", 20, 0, seed=1)
    runner.to_the_end(tmp_path / "undisturbed.lance")
    assert runner.crashed(tmp_path / "killed.lance", faults.Crash(LANCE_TABLE, MERGE, 1, after=False))
    held, _ = faults.state(tmp_path / "killed.lance")
    assert any("/more/" in id_ for id_ in held)  # appended before
    runner.to_the_end(tmp_path / "killed.lance")
    assert faults.assert_same(tmp_path / "killed.lance", tmp_path / "undisturbed.lance") >= 60


# --- the B-tree of ids ----------------------------------------------------------------------------


@pytest.fixture
def small_trees(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Index], list[str]]]:
    """A B-tree from 20 rows on. Gives the columns that an index has one of."""
    monkeypatch.setattr("multimodal.index.storage.table.BTREE_ROWS", 20)
    monkeypatch.setattr("multimodal.index.storage.table.BTREE_REFRESH", 4)
    monkeypatch.setattr(commit, "INDEX_EVERY", 2)

    def columns(index: Index) -> list[str]:
        table = lancedb.connect(index.path).open_table("items")
        return [name for listed in table.list_indices() for name in listed.columns]

    yield columns


def test_an_index_with_a_b_tree_answers_like_one_without(
    space: Space, tmp_path: Path, small_trees: Callable[[Index], list[str]]
) -> None:
    config = IngestConfig(commit_rows=8)
    index = Index.create(tmp_path / "i", space)
    index.add(["a"], ids='it\'s "0"')
    assert small_trees(index) == []
    texts = [f"{n} 1 0 0" for n in range(100)]
    names = [f"/ä {n}/'x'.txt" for n in range(100)]
    assert index.add(texts, ids=names, config=config).added == 100
    assert small_trees(index) == ["source"]
    assert index.add(texts, ids=names).unchanged == 100  # found through the tree and in the rows after it
    changed = [f"{n} 0 1 0" for n in range(50)]
    report = index.add([*changed, "new"], ids=[*names[:50], "new"], config=config)
    assert (report.added, report.updated) == (1, 50)
    assert max(ids_of(index).values()) == 1 and len(index) == 102
    assert index.delete(names[40:60]) == 20 and len(index) == 82
    assert {row["text"] for row in index.rows()} >= {"a", "new", "0 0 1 0", "99 1 0 0"}
    index.optimize()
    assert small_trees(index) == ["source"] and len(index.search("1 0 0 0", k=100)) == 82
    assert index.add(texts, ids=names).added == 20
    assert [hit.id for hit in index.search("1 0 0 0", ids=[names[3]])] == [names[3]]


def test_a_killed_job_resumes_with_a_b_tree(
    tmp_path: Path, space: Space, small_trees: Callable[[Index], list[str]]
) -> None:
    index = Index.create(tmp_path / "i", space)
    config = IngestConfig(commit_rows=10)

    def broken() -> Iterator[Text]:
        for n in range(80):
            yield Text(f"{n} 1 0 0", uri=f"{n}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add(broken(), config=config, batch_size=4)
    kept = len(index)
    report = index.add([Text(f"{n} 1 0 0", uri=f"{n}") for n in range(120)], config=config)
    assert (report.added, report.unchanged) == (120 - kept, kept) and max(ids_of(index).values()) == 1
    assert small_trees(index) == ["source"]
