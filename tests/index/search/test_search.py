from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.items import Audio, Image
from multimodal.core.modality import Modality
from multimodal.core.vectors import unit_rows
from multimodal.index import Hits, Index
from multimodal.index.storage.columns import Columns

ODD_TEXTS = ["x", "X", "", " ", "o'clock", "''", "' OR true --", '"', "\\", "\\'", "%", "_", "é☃😀", "e\u0301",
             "a\nb\t", "\0", "true", "null", "1", "1.0", "$", "{}", "x;--", "\u2028", "NULL", "2021-03-04",
             "2021-03-05"]  # fmt: skip
ODD_NUMBERS = [0, -0.0, 1, 1.0, 1.5, -3, 2**53, -(2**53), 1e300, 5e-324, 0.1, 2021]
ODD_VALUES: list[Any] = [*ODD_TEXTS, *ODD_NUMBERS, True, False, None]
ODD_KEYS = ["k", "a.b", "a b", "$", "$.k", "'", '"', "\\", "[0]", "0", "*", "é", "k'] OR true --", "k\n"]


@pytest.fixture(scope="module")
def filled(plain: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Index:
    """600 items on a small grid, so that many are equally far from anything; every odd value under every odd key."""
    index = Index.create(tmp_path_factory.mktemp("filled") / "i", plain.load())
    grid = [vector for vector in itertools.product((-1, 0, 1, 2), repeat=4) if any(vector)]
    values = itertools.cycle(ODD_VALUES)
    items: list[Any] = []
    for n in range(600):
        metadata = {ODD_KEYS[n % len(ODD_KEYS)]: next(values), "n": n}
        if n % 3:
            item: Any = " ".join(map(str, grid[n % len(grid)]))
        elif n % 2:
            item = np.full((2, 2, 3), n % 7 * 40, np.uint8)
        else:
            item = {"array": np.full(80, (n % 5 + 1) / 8), "sampling_rate": 8000}
        items.append((item, metadata))
    order = np.random.default_rng(0).permutation(len(items))
    index.add([items[n] for n in order], ids=[f"id-{n:03}" for n in order])
    return index


@pytest.fixture(scope="module")
def rows(filled: Index) -> list[dict[str, Any]]:
    return [row | {"vector": row["vector"].tolist()} for row in filled.rows(vectors=True)]


def brute_force(rows: list[dict[str, Any]], query: np.ndarray, k: int, keep: Any) -> list[tuple[str, float]]:
    """The definition, one row at a time, in plain Python."""
    q = query.tolist()
    results = []
    for row in rows:
        if keep(row):
            v = row["vector"]
            dot = math.fsum(a * b for a, b in zip(v, q, strict=True))
            cosine = dot / math.sqrt(math.fsum(a * a for a in v) * math.fsum(b * b for b in q))
            results.append((-round(cosine, 9), row["id"]))
    return [(id_, -score) for score, id_ in sorted(results)[:k]]


def ids(hits: Hits) -> list[str]:
    return [hit.id for hit in hits]


# --- nearest --------------------------------------------------------------------------------------

numbers = st.integers(-3, 3).map(float) | st.floats(-2, 2, width=16)
queries = st.lists(numbers, min_size=4, max_size=4).filter(lambda q: sum(x * x for x in q) > 1e-3)


@given(query=queries, k=st.integers(1, 60) | st.sampled_from([599, 600, 601, 5000]), modality=st.none() | st.sets(
    st.sampled_from(["text", "image", "audio"]), min_size=1))  # fmt: skip
@settings(max_examples=15)
def test_search_is_brute_force_with_ties_by_id(
    filled: Index, rows: list[dict[str, Any]], query: list[float], k: int, modality: set[str] | None
) -> None:
    hits = filled.search(np.array(query), k, modality=modality, calibrated=False)
    unit = unit_rows(np.array(query), 4)[0]
    expected = brute_force(rows, unit, k, lambda row: modality is None or row["modality"] in modality)
    assert ids(hits) == [id_ for id_, _ in expected]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=2e-9)


def test_hits_carry_what_was_stored(index: Index) -> None:
    index.add(
        [("3 4 0 0", {"album": "x"}), Image(np.full((2, 2, 3), 255, np.uint8), uri="u")], ids=["a", "b"]
    )
    first, second = index.search("3 4 0 0")
    assert (first.id, first.uri, first.modality, first.metadata, first.text) == (
        "a",
        None,
        "text",
        {"album": "x"},
        "3 4 0 0",
    )
    assert first.score == 1.0
    assert (second.id, second.uri, second.modality, second.metadata, second.text) == (
        "b",
        "u",
        "image",
        {},
        None,
    )
    assert second.modality is Modality.IMAGE
    assert second.score == pytest.approx(7 / 5 / math.sqrt(3 + 1 / 16), abs=1e-6)


def test_any_modality_finds_any_other(index: Index) -> None:
    red, loud = np.zeros((2, 2, 3), np.uint8), {"array": np.ones(80), "sampling_rate": 8000}
    red[..., 0] = 255
    index.add(["4 0 0 1", red, loud, "0 4 4 1"], ids=["red text", "red", "loud", "loud text"])
    assert ids(index.search(red, k=2)) == ["red", "red text"]
    assert ids(index.search("4 0 0 1", k=1, modality="image")) == ["red"]
    assert ids(index.search(Audio(loud), k=2)) == ["loud", "loud text"]
    assert ids(index.search("0 4 4 1", k=1, modality=Modality.AUDIO)) == ["loud"]
    assert ids(index.search(loud, modality=["text", "image"]))[0] == "loud text"


def test_a_list_of_queries_gives_a_list_and_each_is_as_alone(filled: Index) -> None:
    vector = np.array([0, 1, 1, 0], np.float32)
    many: list[Any] = ["1 2 0 0", vector, np.full((2, 2, 3), 9, np.uint8), "a b"]
    together = filled.search(many, k=7)
    assert together == [filled.search(query, k=7) for query in many]
    assert filled.search(tuple(many), k=7) == together
    assert filled.search([many[0]], k=3) == [filled.search(many[0], k=3)]
    stacked = np.array([[1, 2, 0, 0], [0, 3, 3, 0]])
    assert filled.search(stacked.astype(np.float64), k=7) == [together[0], together[1]]
    assert filled.search([*stacked.astype(np.float16)], k=7) == [together[0], together[1]]


def test_ties_at_the_border_are_settled_by_id_however_many_there_are(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{n:04}" for n in np.random.default_rng(1).permutation(500)]
    index.add([f"{2 ** (n % 9)} 0 0 0" for n in range(500)], ids=names, batch_size=100)
    index.add(["1 1 0 0", "9 1 0 0"], ids=["far", "near"])
    hits = index.search("1 0 0 0", k=5)
    assert ids(hits) == ["0000", "0001", "0002", "0003", "0004"]
    assert {hit.score for hit in hits} == {1.0}
    assert ids(index.search("1 0 0 0", k=502))[-2:] == ["near", "far"]


def test_what_the_store_rounds_away_is_still_distinguished(index: Index) -> None:
    """Angles this small differ in cosine by less than float32 shows: the store sees ties, the answer must not."""
    steps = np.arange(1, 60) * 2e-5
    index.add([f"1 {step:.9f} 0 0" for step in steps], ids=[f"{n:02}" for n in range(59, 0, -1)])
    assert len({round(hit.score, 9) for hit in index.search("1 0 0 0", k=59)}) > 30
    assert ids(index.search("1 0 0 0", k=3)) == ["59", "58", "57"]


def test_fewer_than_k_are_all_there_is(index: Index) -> None:
    index.add(["a", "b"])
    assert len(index.search("a", k=10**15)) == 2


def test_k_may_be_a_numpy_number(index: Index) -> None:
    index.add(["a", "b"])
    assert len(index.search("a", np.int64(1))) == 1


# --- filters --------------------------------------------------------------------------------------


def equal(stored: Any, wanted: Any) -> bool:
    if isinstance(stored, bool) or isinstance(wanted, bool) or stored is None or wanted is None:
        return stored is wanted
    return isinstance(stored, str) == isinstance(wanted, str) and stored == wanted


def fits(metadata: dict[str, Any], where: dict[str, Any]) -> bool:
    """What filters.py says in words, said in Python."""
    compare = {
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
    }
    for key, wanted in where.items():
        stored = metadata.get(key)
        if isinstance(wanted, dict):
            for sign, limit in wanted.items():
                kind = str if isinstance(limit, str) else int | float
                if (
                    isinstance(stored, bool)
                    or not isinstance(stored, kind)
                    or not compare[sign](stored, limit)
                ):
                    return False
        elif not any(equal(stored, value) for value in (wanted if isinstance(wanted, list) else [wanted])):
            return False
    return True


scalars = (
    st.sampled_from(ODD_VALUES)
    | st.text(max_size=5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-5, 5)
)
orderable = st.sampled_from([*ODD_TEXTS, *ODD_NUMBERS]) | st.integers(0, 600)
ranges = st.dictionaries(st.sampled_from([">", ">=", "<", "<="]), orderable, min_size=1, max_size=2)
wheres = st.dictionaries(
    st.sampled_from([*ODD_KEYS, "n", "nowhere"]), scalars | st.lists(scalars, min_size=1, max_size=4) | ranges,
    min_size=1, max_size=2,
)  # fmt: skip


@given(where=wheres)
@settings(max_examples=30)
def test_where_keeps_exactly_what_its_rules_say(
    filled: Index, rows: list[dict[str, Any]], where: dict[str, Any]
) -> None:
    expected = {row["id"] for row in rows if fits(row["metadata"], where)}
    assert {row["id"] for row in filled.rows(where=where)} == expected
    hits = filled.search("1 0 0 0", k=1000, where=where)
    assert {hit.id for hit in hits} == expected


def test_each_odd_value_is_found_under_each_odd_key(index: Index) -> None:
    index.add(
        [
            (f"{n} 1 0 0", {key: value})
            for n, (key, value) in enumerate(itertools.product(ODD_KEYS, ODD_VALUES))
        ]
    )
    for n, value in enumerate(ODD_VALUES):
        for key in (ODD_KEYS[n % len(ODD_KEYS)], ODD_KEYS[(5 * n + 3) % len(ODD_KEYS)]):
            results = [row["metadata"] for row in index.rows(where={key: value}) if key in row["metadata"]]
            expected = [candidate for candidate in ODD_VALUES if equal(candidate, value)]
            assert sorted(map(repr, (metadata[key] for metadata in results))) == sorted(
                map(repr, expected)
            ), (
                key,
                value,
            )


keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
plain_values = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.booleans() | st.none() | st.integers(
    -(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)  # fmt: skip


@pytest.fixture(scope="module")
def single(plain: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    yield Index.create(tmp_path_factory.mktemp("single") / "i", plain.load())


@given(metadata=st.dictionaries(keys, plain_values, max_size=3), id_=keys)
@settings(max_examples=20)
def test_any_metadata_comes_back_and_is_found(single: Index, metadata: dict[str, Any], id_: str) -> None:
    single.delete([row["id"] for row in single.rows()] or "none")
    single.add(["1 0 0 0"], ids=[id_], metadata=metadata)
    (row,) = single.rows()
    assert row["id"] == id_
    assert json.dumps(row["metadata"], sort_keys=True) == json.dumps(metadata, sort_keys=True)
    assert ids(single.search("1 0 0 0", where=metadata)) == [id_]
    assert single.delete(id_) == 1


def test_a_filter_never_costs_results(index: Index) -> None:
    """The three that match are the farthest of all: filtering after the search would lose them."""
    index.add([f"1 0.{n:03} 0 0" for n in range(300)], batch_size=300)
    index.add(
        [("-1 0 0 0.1", {"album": "x"}), ("-1 0 0 0.2", {"album": "x"}), ("-1 0 0 0.3", {"album": "y"})],
        ids=["1", "2", "3"],
    )
    assert ids(index.search("1 0 0 0", k=3, where={"album": ["x", "y"]})) == ["3", "2", "1"]
    assert ids(index.search("1 0 0 0", k=1, where={"album": "x"})) == ["2"]
    assert index.search("1 0 0 0", where={"album": "z"}) == []


def test_dates_as_iso_text_are_a_range(index: Index) -> None:
    days = ["2019-12-31", "2020-01-01", "2020-06-15", "2021-01-01"]
    index.add([(f"{n} 1 0 0", {"day": day}) for n, day in enumerate(days)], ids=days)
    assert (
        sorted(ids(index.search("1 0 0 0", where={"day": {">=": "2020-01-01", "<": "2021-01-01"}})))
        == days[1:3]
    )


def test_modality_and_where_hold_together(index: Index) -> None:
    index.add(
        [("a", {"n": 1}), ("b", {"n": 2}), (np.zeros((2, 2, 3), np.uint8), {"n": 1})], ids=["1", "2", "3"]
    )
    assert ids(index.search("a", modality="text", where={"n": 1})) == ["1"]
    assert ids(index.search("a", where={"n": 1}, modality=["image"])) == ["3"]
    assert ids(index.search("a", where={})) == ids(index.search("a"))


def test_a_search_reads_only_rows_that_may_be_among_its_hits(
    filled: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    row = Columns.row

    def counted(columns: Columns, position: int, modality: str) -> Any:
        read.append(position)
        return row(columns, position, modality)

    monkeypatch.setattr(Columns, "row", counted)
    filled.search(np.array([0.3, 0.7, 0.11, -0.5]), k=2, calibrated=False)
    assert 2 <= len(read) <= 3  # the grid has three of each vector
