"""Queries of several parts, near an item, pages, and hits that look alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import multimodal as mm
from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.core.items import Text
from multimodal.core.space import Space
from multimodal.index import Index, Query, SearchConfig
from multimodal.index.search.query import encode_queries
from multimodal.index.storage.schema import Provenance, Row
from multimodal.index.storage.table import ItemTable
from tests.index.conftest import clusters, fill

ROOT = Path(__file__).resolve().parents[3]
DIM = 64


# A few thousand rows are searched by binary codes, and not row by row.
CONFIG = SearchConfig(max_memory_rows=500, first_candidates=150, min_code_rows=150)


def ids(hits: Any) -> list[str]:
    return [hit.id for hit in hits]


@pytest.fixture
def corners(index: Index) -> Index:
    index.add(["1 0 0 0", "0 1 0 0", "0 0 1 0", "1 1 0 0", "1 0 1 0", "-1 0 0 0"], ids=list("abcdef"))
    return index


# --- parts ----------------------------------------------------------------------------------------


def test_parts_give_the_direction_of_their_weighted_sum(corners: Index) -> None:
    hits = corners.search([("1 0 0 0", 1.0), ("0 1 0 0", 0.5)], k=6)
    direction = np.array([1, 0.5, 0, 0]) / np.hypot(1, 0.5)
    assert hits == corners.search(direction, k=6) and ids(hits)[0] == "d"
    assert hits[0].score == pytest.approx(1.5 / np.sqrt(2.5), abs=1e-6)


def test_a_negative_weight_turns_away(corners: Index) -> None:
    plain, away = corners.search("1 0 0 0", k=6), corners.search([("1 0 0 0", 1.0), ("0 1 0 0", -0.7)], k=6)
    score = [{hit.id: hit.score for hit in hits} for hits in (plain, away)]
    assert score[1]["b"] < score[0]["b"] - 0.5 and score[1]["d"] < score[0]["d"]
    assert ids(away)[:2] == ["a", "e"]
    assert ids(corners.search([("1 0 0 0", -1)], k=1)) == ["f"]


def test_a_part_may_be_anything_that_can_be_searched_with(corners: Index) -> None:
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 0] = 255
    vector = np.array([0, 0, 3.0, 0])
    mixed = corners.search([(red, 1.0), (Text("0 1 0 0"), 2), (vector, np.float32(0.5))], k=6)
    image = np.array([1, 0, 0, 0.25]) / np.hypot(1, 0.25)
    by_hand = image + np.array([0, 2, 0, 0]) + np.array([0, 0, 0.5, 0])
    assert ids(mixed) == ids(corners.search(by_hand, k=6))
    assert [hit.score for hit in mixed] == pytest.approx(
        [h.score for h in corners.search(by_hand, k=6)], abs=1e-6
    )


def test_queries_of_parts_may_stand_in_a_list(corners: Index) -> None:
    parts = [("1 0 0 0", 1.0), ("0 1 0 0", 1.0)]
    alone = corners.search(parts, k=3)
    many = corners.search([Query(parts), "0 0 1 0", parts, np.array([1.0, 0, 0, 0])], k=3)
    assert many == [alone, corners.search("0 0 1 0", k=3), alone, corners.search("1 0 0 0", k=3)]
    assert corners.search(Query(parts), k=3) == alone
    assert corners.search(("1 0 0 0", "0 1 0 0"), k=3) == corners.search(["1 0 0 0", "0 1 0 0"], k=3)


weights = st.floats(-2, 2).filter(lambda w: abs(w) > 0.05)
vectors = st.lists(st.integers(-3, 3), min_size=4, max_size=4).filter(any)


@given(parts=st.lists(st.tuples(vectors, weights), min_size=1, max_size=5))
@settings(max_examples=20)
def test_the_order_and_the_scale_of_weights_do_not_matter(parts: list[tuple[list[int], float]]) -> None:
    given_ = [(np.array(vector, np.float64), weight) for vector, weight in parts]
    total = sum(weight * vector / np.linalg.norm(vector) for vector, weight in given_)
    if np.linalg.norm(total) < 0.05 * sum(abs(weight) for _, weight in given_):
        return
    for form in (given_, given_[::-1], [(vector, 10 * weight) for vector, weight in given_]):
        (results,) = encode_queries(_Sized(), [Query(form)])  # type: ignore[arg-type]
        assert results == pytest.approx(total / np.linalg.norm(total), abs=2e-5)


class _Sized:
    """A space of which only the size is asked."""

    dim = 4


@pytest.mark.parametrize(("query", "message"), [
    ([("1 0 0 0", 1.0), ("1 0 0 0", -1.0)],
     "the parts of the query cancel out ('1 0 0 0' +1, '1 0 0 0' -1); change a weight"),
    ([("1 0 0 0", 1), (np.array([-2.0, 0, 0, 0]), 1)],
     "the parts of the query cancel out ('1 0 0 0' +1, a vector of shape (4,) +1); change a weight"),
    ([("a", 0.0)],
     "the weight of 'a' is 0.0; it must be a finite number other than 0: leave out parts that should not count"),
    ([("a", float("nan")), ("b", 1)],
     "the weight of 'a' is nan; it must be a finite number other than 0: leave out parts that should not count"),
    ([("a" * 99, float("inf"))],
     f"the weight of '{'a' * 38}… is inf; it must be a finite number other than 0: leave out parts that should not "
     "count"),
])  # fmt: skip
def test_parts_that_cannot_be_are_refused(corners: Index, query: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        corners.search(query)
    assert str(caught.value) == message


@pytest.mark.parametrize("parts", [[], "beach", [("a", 1), "b"], [("a", True)], [("a",)]])
def test_a_query_of_something_else_is_refused(parts: Any) -> None:
    with pytest.raises(
        InvalidInput, match=r"^a Query takes a list of \(part, weight\) pairs, such as \[\('a beach', 1"
    ):
        Query(parts)


# --- near an item ---------------------------------------------------------------------------------


def test_near_an_item_is_a_search_with_its_vector_without_the_item(corners: Index) -> None:
    assert ids(corners.search(similar_to="a", k=9)) == [
        i for i in ids(corners.search("1 0 0 0", k=9)) if i != "a"
    ]
    assert ids(corners.search(similar_to=["a", "b"], k=9)) == [
        i for i in ids(corners.search([("1 0 0 0", 1), ("0 1 0 0", 1)], k=9)) if i not in "ab"
    ]
    more = corners.search("0 0 1 0", similar_to="a", k=9)
    assert ids(more) == [i for i in ids(corners.search([("1 0 0 0", 1), ("0 0 1 0", 1)], k=9)) if i != "a"]
    assert ids(corners.search(similar_to="a", k=1, offset=1)) == ids(corners.search(similar_to="a", k=2))[1:]
    assert ids(corners.search(similar_to="a", text="1 nothing", k=9))  # words count beside it
    assert "a" not in ids(corners.search(similar_to="a", text="1", k=9))


def test_near_a_long_item_is_near_the_mean_of_its_parts_and_leaves_all_out(corners: Index) -> None:
    rows = [Row(f"long#t={t}-{t + 10}", "/long.wav", "audio", None, {}, float(t), t + 10.0) for t in (0, 10)]
    vectors_ = np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32)
    ItemTable.open(corners.path).upsert(rows, [Provenance("long"), Provenance("long")], vectors_)
    assert ids(corners.search(similar_to="long", k=2)) == ["d", "a"]
    assert set(ids(corners.search(similar_to="long", k=99))) == set("abcdef")
    part = corners.search(similar_to="long#t=0-10", k=99)  # a part is an item too
    assert "long#t=10-20" in ids(part) and "long#t=0-10" not in ids(part) and ids(part)[0] == "a"
    (hit,) = corners.search(np.array([0, 1.0, 0, 0]), k=1, modality="audio")
    assert (hit.start_s, hit.end_s) == (10.0, 20.0)


@pytest.mark.parametrize(("options", "message"), [
    ({"similar_to": "nobody"}, "no item of the index has the id 'nobody'; index.rows() lists all items"),
    ({"similar_to": []}, "the list of ids is empty; give at least one"),
    ({"similar_to": [3]}, "an id must be a str with at least one character, got 3; pass a number as str(number)"),
    ({"query": ["a", "b"], "similar_to": "a"},
     "similar_to= goes with one query or none, and 2 were given; search one at a time"),
    ({"query": "a", "offset": -1}, "offset must be a whole number of at least 0, got -1"),
    ({"query": "a", "offset": 1.5}, "offset must be a whole number of at least 0, got 1.5"),
    ({"query": "a", "ids": []}, "the list of ids is empty; give at least one"),
    ({}, "there is nothing to search for; give a query, text= or similar_to="),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(corners: Index, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        corners.search(**options)
    assert str(caught.value) == message


# --- pages and doubles ----------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), size=st.integers(1, 40))
@settings(max_examples=20)
def test_pages_are_the_long_answer_cut_up(many: Index, seed: int, size: int) -> None:
    query = clusters(1, DIM, seed)[0]
    for exact, whole in ((True, 3 * size), (False, min(16, 3 * size))):
        everything = ids(many.search(query, whole, exact=exact))
        pages = [
            ids(many.search(query, min(size, whole - at), offset=at, exact=exact))
            for at in range(0, whole, size)
        ]
        assert [id_ for page in pages for id_ in page] == everything


@pytest.fixture(scope="module")
def many(wide: Space, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """5,000 rows found by codes; each vector twice, so that ties are everywhere."""
    index = Index.create(tmp_path_factory.mktemp("many") / "i", wide, search_config=CONFIG)
    half = clusters(2500, DIM)
    fill(index, np.concatenate([half, half]))
    return index


def test_deduplicate_leaves_out_hits_with_equal_vectors(many: Index) -> None:
    query = clusters(1, DIM, seed=3)[0]
    both = many.search(query, 20)
    unique = many.search(query, 10, deduplicate=True)
    assert ids(unique) == ids(both)[::2]
    assert [hit.score for hit in unique] == [hit.score for hit in both][::2]
    assert ids(many.search(query, 4, offset=6, deduplicate=True)) == ids(unique)[6:]
    assert len(many.search(query, 5000, deduplicate=True)) == 2500


def test_deduplicate_compares_content_where_vectors_differ(index: Index) -> None:
    """The chunks of a document have one content."""
    rows = [Row(name, None, "text", None, {}) for name in ("a#1", "a#2", "b", "c")]
    contents = ["same", "same", "other", None]
    origins = [
        Provenance(row.id.partition("#")[0], content=content)
        for row, content in zip(rows, contents, strict=True)
    ]
    ItemTable.open(index.path).upsert(rows, origins, np.eye(4, dtype=np.float32))
    assert ids(index.search(np.array([4.0, 3, 2, 1]), k=4)) == ["a#1", "a#2", "b", "c"]
    assert ids(index.search(np.array([4.0, 3, 2, 1]), k=4, deduplicate=True)) == ["a#1", "b", "c"]


def test_hits_tell_how_they_were_found(many: Index, corners: Index) -> None:
    query = clusters(1, DIM, seed=3)[0]
    assert many.search(query).method == "quantized" and many.search(query, exact=True).method == "exact"
    assert corners.search("1 0 0 0").method == "exact"
    assert many.search(query, ids=["000001", "000002"]).method == "exact"  # so few are compared one by one


def test_lancedbs_own_index_answers_only_after_it_was_requested(wide: Space, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i", wide)
    vectors_ = clusters(3000, DIM)
    fill(index, vectors_)
    queries = clusters(20, DIM, seed=1)
    exact = index.search(queries, 10, calibrated=False)
    assert {hits.method for hits in exact} == {"exact"}
    index.optimize()
    assert {hits.method for hits in index.search(queries, 10, calibrated=False)} == {"exact"}
    index.optimize(approximate=True)
    near = index.search(queries, 10, calibrated=False)
    assert {hits.method for hits in near} == {"approximate"}
    assert np.mean([len(set(ids(a)) & set(ids(b))) / 10 for a, b in zip(near, exact, strict=True)]) >= 0.95
    assert index.search(queries, 10, exact=True, calibrated=False) == exact
    filtered = index.search(queries[0], 3000, modality="image")
    assert filtered.method == "exact" and len(filtered) == 1500  # a filter never loses a hit
    fill(index, -vectors_[:5], [f"new {n}" for n in range(5)])
    assert ids(index.search(-vectors_[3], 1, calibrated=False)) == ["new 3"]
    index.optimize(approximate=False)
    assert index.search(queries[0], 3, calibrated=False).method == "exact"


def test_a_space_that_lancedb_cannot_index_is_reported(corners: Index) -> None:
    with pytest.raises(IndexStateError) as caught:
        corners.optimize(approximate=True)
    assert str(caught.value).startswith(f"LanceDB cannot index the vectors at '{corners.path}' (")
    assert str(caught.value).endswith("; leave out approximate=True")
    assert len(corners.search("1 0 0 0")) == 6


# --- real vectors ---------------------------------------------------------------------------------


def test_codes_find_99_of_100_among_the_starters_own_vectors(tmp_path: Path) -> None:
    """Texts and images of a shipped model, asked across modalities: the hard case, since cosines lie close."""
    space = mm.load("starter")
    colours = [
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
        "golden",
    ]
    items = [path.stem.replace("-", " ") for path in sorted((ROOT / "assets/gallery/pictures").iterdir())]
    texts = [f"a {colour} {item}" for colour in colours for item in items]
    texts += [f"a {item} with a {other}" for item in items for other in items[::3]]
    images = [mm.Image(path) for path in sorted((ROOT / "assets/gallery/pictures").iterdir())]
    rows, queries = space.encode(texts, batch_size=256), space.encode(images, batch_size=64)
    config = dataclasses.replace(CONFIG, matrix_elements=0)
    index = Index.create(tmp_path / "i", space, search_config=config)
    fill(index, rows)
    for batch in (queries, rows[:: len(rows) // 60]):
        near = index.search(batch, 10, calibrated=False)
        exact = index.search(batch, 10, exact=True, calibrated=False)
        assert "quantized" in {hits.method for hits in near}
        assert (
            np.mean([len(set(ids(a)) & set(ids(b))) / 10 for a, b in zip(near, exact, strict=True)]) >= 0.99
        )
