"""Deleting, updating, exporting, copying and re-indexing what an index holds."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal import Image, Text
from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.storage import lock
from tests.index.conftest import clusters, fill


@pytest.fixture
def filled(index: Index) -> Index:
    metadata = [{"album": "ab"[place % 2], "year": 2000 + place} for place in range(6)]
    texts = ["words" if place % 2 == 0 else None for place in range(6)]
    fill(index, clusters(6, index.space.dim), metadata=metadata, texts=texts)
    return index


def ids_of(index: Index) -> list[str]:
    return sorted(row["id"] for row in index.rows())


@pytest.mark.parametrize(
    ("selection", "kept"),
    [
        ({"ids": "000000"}, [1, 2, 3, 4, 5]),
        ({"where": {"album": "a"}}, [1, 3, 5]),
        ({"where": {"year": {">=": 2002, "<": 2005}}}, [0, 1, 5]),
        ({"modality": "image"}, [0, 2, 4]),
        ({"ids": ["000000", "000001", "none"], "where": {"album": "b"}}, [0, 2, 3, 4, 5]),
        ({"where": {"album": "none"}}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_delete_takes_what_meets_every_condition(
    filled: Index, selection: dict[str, Any], kept: list[int]
) -> None:
    assert len(filled.rows(**selection)) == 6 - len(kept)
    assert filled.delete(**selection) == 6 - len(kept)
    assert ids_of(filled) == [f"{place:06}" for place in kept]


@pytest.mark.parametrize("selection", [{}, {"where": {}}])
def test_delete_and_update_refuse_to_select_everything(filled: Index, selection: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="delete needs a selection: ids, modality or where"):
        filled.delete(**selection)
    with pytest.raises(InvalidInput, match="update needs a selection"):
        filled.update(metadata={"x": 1}, **selection)
    assert len(filled) == 6


def test_a_search_in_another_index_object_sees_a_deletion_and_an_update(filled: Index) -> None:
    other = Index.open(filled.path, filled.space)
    query = clusters(1, filled.space.dim)[0]
    assert len(other.search(query, k=10)) == 6
    filled.delete(where={"album": "b"})
    assert {hit.id for hit in other.search(query, k=10)} == {"000000", "000002", "000004"}
    filled.update("000002", {"album": "c"})
    assert [hit.id for hit in other.search(query, where={"album": "c"})] == ["000002"]


def test_update_merges_or_replaces_metadata_and_keeps_everything_else(filled: Index) -> None:
    before = {row["id"]: row for row in filled.rows(vectors=True)}
    assert filled.update(where={"album": "a"}, metadata={"album": "z", "new": True}) == 3
    assert filled.update("000001", {"only": 1}, replace=True) == 1
    assert filled.update("000001", {"only": 1}, replace=True) == 0  # nothing changes
    after = {row["id"]: row for row in filled.rows(vectors=True)}
    assert after["000000"]["metadata"] == {"album": "z", "year": 2000, "new": True}
    assert after["000001"]["metadata"] == {"only": 1}
    assert after["000003"]["metadata"] == {"album": "b", "year": 2003}
    for id_, row in before.items():
        assert {k: v for k, v in row.items() if k not in ("metadata", "vector")} == {
            k: v for k, v in after[id_].items() if k not in ("metadata", "vector")
        }
        np.testing.assert_array_equal(row["vector"], after[id_]["vector"])


def test_update_needs_valid_metadata(filled: Index) -> None:
    with pytest.raises(InvalidInput, match="update needs the metadata to set"):
        filled.update("000001")
    with pytest.raises(InvalidInput, match="must be str, int, float"):
        filled.update("000001", {"when": object()})


def test_updated_metadata_survives_adding_the_files_again(
    index: Index, tmp_path: Path, image: Callable[..., Path]
) -> None:
    path = image(tmp_path / "a.png")
    index.add(path)
    index.update(str(path), {"album": "x"})
    assert index.add(path).unchanged == 1
    image(path, (0, 255, 0))
    assert index.add(path).updated == 1
    assert index.rows()[0]["metadata"] == {"album": "x"}


def test_the_chunks_of_a_document_are_updated_and_deleted_together(index: Index, tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("one sentence of several words. " * 200, encoding="utf-8")
    index.add(note)
    n = len(index)
    assert n > 1
    assert index.update(str(note), {"a": 1}) == n
    assert {row["metadata"]["a"] for row in index.rows()} == {1}
    assert index.delete(str(note)) == n and len(index) == 0


def test_more_ids_than_fit_one_statement_are_taken_once_each(index: Index) -> None:
    fill(index, clusters(2500, index.space.dim))
    ids = [f"{place:06}" for place in range(2300)]
    assert len(index.rows(ids=[*ids, *ids])) == 2300
    assert index.update([*ids, *ids], {"x": 1}) == 2300
    assert index.delete(ids) == 2300 and len(index) == 200


def test_delete_waits_for_another_writer_no_longer_than_requested(filled: Index) -> None:
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.writing(filled.path):
            held.set()
            free.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    with pytest.raises(IndexStateError, match="is being written by process"):
        filled.delete("000000", wait=0)
    free.set()
    thread.join()
    assert filled.delete("000000") == 1


def test_an_export_holds_every_row_in_each_format(filled: Index, tmp_path: Path) -> None:
    rows = list(filled.rows(vectors=True))
    table = pq.read_table(tmp_path / "out.parquet") if filled.export(tmp_path / "out.parquet") else None
    assert table is not None and table.equals(filled.to_arrow(vectors=True))
    assert table["id"].to_pylist() == [row["id"] for row in rows]
    assert [json.loads(value) for value in table["metadata"].to_pylist()] == [row["metadata"] for row in rows]
    assert filled.export(tmp_path / "rows.jsonl") == 6
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]
    assert lines == [row | {"vector": row["vector"].tolist()} for row in rows]
    assert filled.export(tmp_path / "out.npy", where={"album": "a"}) == 3
    vectors = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(vectors, [row["vector"] for row in rows if row["metadata"]["album"] == "a"])
    beside = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [line["id"] for line in beside] == ["000000", "000002", "000004"] and "vector" not in beside[0]
    assert sorted(file.name for file in tmp_path.glob("*.*")) == [
        "index.lance", "out.jsonl", "out.npy", "out.parquet", "rows.jsonl"
    ]  # fmt: skip


def test_an_export_without_vectors_and_of_an_empty_index(filled: Index, space: Space, tmp_path: Path) -> None:
    filled.export(tmp_path / "out.parquet", vectors=False)
    assert "vector" not in pq.read_table(tmp_path / "out.parquet").column_names
    empty = Index.create(tmp_path / "empty.lance", space)
    for suffix in ("parquet", "jsonl", "npy"):
        assert empty.export(tmp_path / f"empty.{suffix}", overwrite=True) == 0
    assert pq.read_table(tmp_path / "empty.parquet").num_rows == 0
    assert np.load(tmp_path / "empty.npy").shape == (0, space.dim)


def test_an_export_replaces_a_file_only_on_request(filled: Index, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine")
    for name in ("out.jsonl", "out.npy"):  # the rows beside out.npy would replace it too
        with pytest.raises(InvalidInput, match="already exists: choose another name"):
            filled.export(tmp_path / name)
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    assert filled.export(tmp_path / "out.jsonl", overwrite=True) == 6
    with pytest.raises(InvalidInput, match=r"exported as \.parquet, \.jsonl, \.npy"):
        filled.export(tmp_path / "out.csv")
    with pytest.raises(InvalidInput, match="does not exist"):
        filled.export(tmp_path / "none" / "out.npy")


def test_the_index_as_a_data_frame_has_vectors_on_request(filled: Index) -> None:
    assert "vector" not in filled.to_pandas().columns
    frame = filled.to_pandas(vectors=True, where={"album": "a"})
    assert len(frame) == 3 and frame["vector"][0].shape == (filled.space.dim,)
    assert frame["metadata"][0] == {"album": "a", "year": 2000}


def test_a_copy_of_the_folder_is_a_backup(filled: Index, tmp_path: Path) -> None:
    query = clusters(1, filled.space.dim)[0]
    hits = filled.search(query, k=6)
    shutil.copytree(filled.path, tmp_path / "backup.lance")
    filled.delete(where={"album": "a"})
    backup = Index.open(tmp_path / "backup.lance", filled.space)
    assert [(hit.id, hit.score) for hit in backup.search(query, k=6)] == [(hit.id, hit.score) for hit in hits]
    backup.add(["more"])
    assert len(backup) == 7 and len(filled) == 3


def test_create_opens_an_index_of_the_same_space_only_if_requested(
    filled: Index, space: Space, wide: Space, tmp_path: Path
) -> None:
    assert len(Index.create(filled.path, space, exist_ok=True)) == 6
    with pytest.raises(IndexStateError, match=r"open it with Index\.open"):
        Index.create(filled.path, space)
    with pytest.raises(IndexStateError, match="their vectors cannot be compared"):
        Index.create(filled.path, wide, exist_ok=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    with pytest.raises(IndexStateError, match="a folder that is not empty"):
        Index.create(tmp_path / "other", space, exist_ok=True)


def test_threads_that_create_one_index_at_once_all_get_it(space: Space, tmp_path: Path) -> None:
    n, errors = 8, []
    barrier = threading.Barrier(n)

    def work(number: int) -> None:
        try:
            barrier.wait(30)
            Index.create(tmp_path / "new.lance", space, exist_ok=True).add([f"word {number}"])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(Index.open(tmp_path / "new.lance", space)) == n


@pytest.fixture
def sources(tmp_path: Path, image: Callable[..., Path]) -> Path:
    """Files, a table of paths, a table of texts."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in ("a", "b", "gone"):
        image(folder / f"{name}.png", (len(name) * 50, 0, 0))
    (folder / "long.txt").write_text("some words in a row. " * 200, encoding="utf-8")
    (tmp_path / "texts.csv").write_text("text,id,year\nfirst,t1,1\n,t2,2\nthird,t3,3\n", encoding="utf-8")
    return folder


def test_reindex_reads_the_same_documents_and_keeps_ids_and_metadata(
    index: Index, wide: Space, sources: Path, tmp_path: Path
) -> None:
    index.add(sources, metadata={"from": "folder"})
    index.add(tmp_path / "texts.csv")
    index.add(
        [Text("from memory", uri="note:1"), "no uri", Image(np.zeros((8, 8, 3), np.uint8))],
        ids=["n", "m", "i"],
    )
    before = {row["id"]: row for row in index.rows()}
    (sources / "gone.png").unlink()
    report = index.reindex(tmp_path / "new.lance", wide)
    assert sorted(Path(failure.uri).name for failure in report.failed) == ["gone.png", "i"]
    assert "given in memory" in next(failure.reason for failure in report.failed if failure.uri == "i")
    new = Index.open(tmp_path / "new.lance", wide)
    after = {row["id"]: row for row in new.rows()}
    lost = {str(sources / "gone.png"), "i"}
    assert after.keys() == before.keys() - lost
    assert all(after[id_] == before[id_] for id_ in after)
    assert {row["id"]: row for row in index.rows()} == before  # the old index is as it was
    vector = new.rows(ids="n", vectors=True)[0]["vector"]
    np.testing.assert_allclose(vector, wide.encode(["from memory"])[0], atol=1e-6)


def test_reindex_can_be_repeated(index: Index, wide: Space, sources: Path, tmp_path: Path) -> None:
    index.add(sources)
    first = index.reindex(tmp_path / "new.lance", wide)
    again = index.reindex(tmp_path / "new.lance", wide)
    assert (first.added, again.added, again.unchanged) == (4, 0, 4)
    assert Index.open(tmp_path / "new.lance", wide).sync(sources).unchanged == 4


def test_reindex_refuses_its_own_path_and_an_index_of_another_space(
    index: Index, wide: Space, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="cannot be added to itself"):
        index.reindex(index.path, wide)
    Index.create(tmp_path / "other.lance", index.space)
    with pytest.raises(IndexStateError, match="their vectors cannot be compared"):
        index.reindex(tmp_path / "other.lance", wide)


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400),
    st.integers(5, 60),
    st.integers(0, 4),
)
def test_a_text_is_put_together_again_from_overlapping_passages(text: str, step: int, overlap: int) -> None:
    from multimodal.index.ingest.reindex import joined_text
    from multimodal.index.storage.schema import Row

    rows = [
        Row(
            f"x#{start}",
            None,
            "text",
            text[start : start + step + overlap],
            {},
            None,
            None,
            start,
            start + step,
        )
        for start in range(0, len(text), step)
    ]
    assert joined_text(rows[::-1]) == text
