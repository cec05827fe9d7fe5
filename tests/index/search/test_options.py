"""Options of a search: unknown ones are refused, renamed ones still work, tuning is explicit."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multimodal.core.errors import IndexStateError
from multimodal.core.space import Space
from multimodal.index import Index, SearchConfig, SearchOptions
from multimodal.pipelines.retrieval import RetrievalPipeline
from tests.index.conftest import clusters, fill


@pytest.fixture
def corners(index: Index) -> Index:
    index.add([("1 0 0 0", {"n": 1}), ("0 1 0 0", {"n": 1}), ("0 0 1 0", {"n": 2})], ids=list("abc"))
    return index


@pytest.mark.parametrize(("option", "cure"), [
    ("modalities", "did you mean modality?"),
    ("min_probabilty", "did you mean min_probability?"),
    ("zzz", "the options are text, mode, similar_to, modality, where, ids, offset, exact, deduplicate, calibrated, "
            "min_probability, group_by, rerank"),
])  # fmt: skip
def test_an_unknown_option_is_refused_with_close_matches(corners: Index, option: str, cure: str) -> None:
    for search in (corners.search, RetrievalPipeline(corners)):
        with pytest.raises(TypeError) as caught:
            search("1 0 0 0", **{option: 1})  # type: ignore[operator]
        assert str(caught.value) == f"search() got an unexpected keyword argument {option!r}; {cure}"


@pytest.mark.parametrize(
    ("old", "new", "value"),
    [("near", "similar_to", "a"), ("distinct", "deduplicate", True), ("group", "group_by", "n")],
)
def test_the_old_name_of_an_option_works_and_warns(corners: Index, old: str, new: str, value: Any) -> None:
    query = None if new == "similar_to" else "1 1 0 0"
    expected = corners.search(query, **{new: value})  # type: ignore[call-overload]
    with pytest.warns(DeprecationWarning, match=rf"^search\({old}=…\) is deprecated; use {new}=$") as caught:
        assert corners.search(query, **{old: value}) == expected  # type: ignore[call-overload]
    assert caught[0].filename == __file__
    with pytest.raises(TypeError, match=rf"^search\(\) got both '{old}' and '{new}', its new name"):
        corners.search(query, **{old: value, new: value})  # type: ignore[call-overload]


def test_the_old_name_of_a_location_works_and_warns(corners: Index) -> None:
    hit = dataclasses.replace(corners.search("1 0 0 0", k=1)[0], start_s=8.0, end_s=18.0)
    assert hit.location == "8 to 18 s"
    with pytest.warns(DeprecationWarning, match=r"^Hit\.place is deprecated; use Hit\.location$"):
        assert hit.place == hit.location


def test_every_option_is_documented() -> None:
    assert SearchOptions.__doc__ is not None
    for name in SearchOptions.__annotations__:
        assert f"\n        {name}: " in SearchOptions.__doc__


def test_a_search_config_changes_the_method_and_not_the_exact_answer(wide: Space, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i", wide)
    fill(index, clusters(2000, 64))
    query = clusters(1, 64, seed=5)[0]
    assert index.search(query).method == "exact"
    tuned = Index.open(
        index.path,
        wide,
        search_config=SearchConfig(max_memory_rows=500, first_candidates=150, min_code_rows=150),
    )
    assert tuned.search(query).method == "quantized"
    assert tuned.search(query, exact=True) == index.search(query)


def test_an_index_pickles_as_the_path_and_space_it_was_opened_with(plain: Any, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i", "plain/2", search_config=SearchConfig(fusion_depth=64))
    index.add(["1 0 0 0"])
    again = pickle.loads(pickle.dumps(index))
    assert again.path == index.path and again.space.fingerprint == index.space.fingerprint
    assert again.search("1 0 0 0") == index.search("1 0 0 0")
    assert pickle.dumps(again) == pickle.dumps(index)


def test_an_index_of_a_space_without_an_address_says_so_when_it_is_unpickled(
    plain: Any, tmp_path: Path
) -> None:
    made_by_hand = Space(plain.load().encoders, name="by hand")
    pickled = pickle.dumps(Index.create(tmp_path / "i", made_by_hand))
    with pytest.raises(IndexStateError, match="which cannot be loaded as"):
        pickle.loads(pickled)


def test_rows_are_read_anew_and_by_position(corners: Index) -> None:
    rows = corners.rows(where={"n": 1})
    assert len(rows) == 2 and [row["id"] for row in rows] == ["a", "b"] == [row["id"] for row in rows]
    assert rows[0]["id"] == rows[-2]["id"] == "a" and [row["id"] for row in rows[1:]] == ["b"]
    assert [row["id"] for row in rows[::-1]] == ["b", "a"]
    with pytest.raises(IndexError, match=r"^row 2 of 2$"):
        rows[2]
    corners.delete("a")
    assert len(rows) == 1 and repr(rows) == "Rows(1 items)"


def test_hits_rows_and_failures_become_tables(corners: Index, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    corners.add(tmp_path / "broken.png")
    hits, rows, failures = corners.search("1 0 0 0"), corners.rows(vectors=True), corners.failures()
    assert hits.to_arrow()["id"].to_pylist() == [hit.id for hit in hits] == hits.to_pandas()["id"].tolist()
    assert hits.to_arrow()["metadata"][0].as_py() == '{"n": 1}' and hits.to_pandas()["metadata"][0] == {
        "n": 1
    }
    assert hits.to_dict()["hits"][0] == hits[0].to_dict() and hits.to_dict()["method"] == "exact"
    assert rows.to_arrow()["vector"].type.list_size == 4
    assert np.allclose(np.stack(rows.to_arrow()["vector"].to_pylist()), np.eye(4)[:3])
    assert rows.to_pandas()["id"].tolist() == ["a", "b", "c"]
    assert rows.to_dict()["rows"][0]["vector"] == [1.0, 0.0, 0.0, 0.0]
    assert failures.to_pandas()["stage"].tolist() == failures.to_arrow()["stage"].to_pylist() == ["decode"]
    assert failures.to_dict() == {"failures": [failure.to_dict() for failure in failures]}


def test_tables_of_nothing_have_their_columns(index: Index) -> None:
    hits, rows = index.search("1 0 0 0"), index.rows()
    assert hits.to_arrow().num_rows == rows.to_arrow().num_rows == index.failures().to_arrow().num_rows == 0
    assert (
        hits.to_arrow().column_names[:3] == ["id", "uri", "score"]
        and "start_s" in rows.to_arrow().column_names
    )
