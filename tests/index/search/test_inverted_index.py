"""Search by words: BM25 over texts, captions and names, against the definition; and joined with vectors."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.errors import InvalidInput
from multimodal.core.space import Space
from multimodal.index import Index, SearchConfig
from multimodal.index.search.compounds import compound_parts
from multimodal.index.search.inverted_index import InvertedIndex, TextBatch, bm25, matching_terms
from multimodal.index.search.ranking import (
    CODE_VECTOR_WEIGHT,
    VECTOR_WEIGHT,
    ScoredRow,
    StoredRow,
    TextMatches,
    fuse,
)
from multimodal.index.search.terms import words_in
from multimodal.index.search.text_query import SYMBOL_WEIGHT, TextQuery, indexed_text, searchable_text
from multimodal.index.storage.schema import Row
from tests.index.conftest import clusters, fill

DIM = 64
VOCABULARY = ["red", "apple", "dog", "beach", "über", "東", "2024", "b", "rain", "img"]


def definition(texts: list[list[str]], query: list[str]) -> list[float]:
    """The definition, with k1 = 1.2 and b = 0.75."""
    mean = max(1.0, sum(map(len, texts)) / max(1, len(texts)))
    results = []
    for words in texts:
        total = 0.0
        for word in query:
            holding = sum(word in other for other in texts)
            count = words.count(word)
            rarity = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
            total += rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(words) / mean))
        results.append(total)
    return results


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A red Apple!", ["a", "red", "apple"]),
        ("IMG_0001-copy (2).jpg", ["img", "0001", "copy", "2", "jpg"]),
        ("Café ÜBER naïve", ["cafe", "uber", "naive"]),
        ("東京タワーの夜景2024", ["東", "京", "タ", "ワ", "ー", "の", "夜", "景", "2024"]),
        ("Привет, МИР", ["привет", "мир"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("йод ガイド", ["йод", "ガ", "イ", "ド"]),
        ("ﬁne ①", ["fine", "1"]),
        ("  … ☃ \n", []),
        ("", []),
        ("o'clock", ["o", "clock"]),
    ],
)
def test_words_are_letters_and_digits_without_case_and_accents(text: str, words: list[str]) -> None:
    assert words_in(text) == words


def test_the_words_of_a_row_are_those_of_its_text_its_name_and_its_metadata() -> None:
    row = Row(
        "i",
        "/home/u/Rome 2019/IMG_7.JPG",
        "image",
        None,
        {"caption": "a dog", "n": 3, "ok": True, "no": None},
    )
    assert words_in(searchable_text(row)) == ["img", "7", "rome", "2019", "a", "dog"]
    assert words_in(searchable_text(Row("i", None, "text", "two words", {}))) == ["two", "words"]


def test_the_name_of_a_function_counts_several_times_and_its_abbreviations_are_found() -> None:
    called = Row("i", None, "text", "scan()", {"symbol": "delete_dirs"})
    words = words_in(indexed_text(called))
    assert words.count("delete") == words.count("dirs") == SYMBOL_WEIGHT
    texts = [indexed_text(called), "delete the scan", "a directory of dogs", "string"]
    index = InvertedIndex.build([TextBatch(np.arange(4), texts)], 4)
    (scores,), _ = bm25([index], matching_terms([index], TextQuery.parse("delete directories")))
    assert scores.argmax() == 0 and scores[2] > 0 and scores[3] == 0


def test_a_function_whose_name_is_several_words_in_one_is_found_by_each_of_them() -> None:
    assert compound_parts("makedirs") == ("make", "dirs") and compound_parts("iskeyword") == ("is", "keyword")
    assert compound_parts("island") == compound_parts("filter") == compound_parts("boilerpressure") == ()
    code = Row("i", None, "text", "x()", {"symbol": "Tree.makedirs"})
    note = Row("n", None, "text", "makedirs", {})
    texts = [indexed_text(code), indexed_text(note)]
    index = InvertedIndex.build([TextBatch(np.arange(2), texts)], 2)
    (scores,), _ = bm25([index], matching_terms([index], TextQuery.parse("make")))
    assert scores[0] > 0 and scores[1] == 0


texts_of_words = st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=8), max_size=30)


@given(texts=texts_of_words,
       query=st.lists(st.sampled_from([*VOCABULARY, "unknown"]), min_size=1, max_size=4, unique=True),
       cut=st.integers(0, 30), size=st.integers(1, 9))  # fmt: skip
@settings(max_examples=12)
def test_scores_are_bm25_over_all_parts_together(
    texts: list[list[str]], query: list[str], cut: int, size: int
) -> None:
    def inverted(some: list[list[str]]) -> InvertedIndex:
        positions = np.arange(len(some))
        cuts = range(0, len(some), size)
        joined = [" ".join(text) for text in some]
        batches = (TextBatch(positions[at : at + size], joined[at : at + size]) for at in cuts)
        return InvertedIndex.build(batches, len(some))

    indexes = [inverted(texts[:cut]), inverted(texts[cut:])]
    normal = [words_in(" ".join(text)) for text in texts]
    asked = TextQuery.parse(" ".join(query))
    terms = asked.terms
    parts, bound = bm25(indexes, matching_terms(indexes, asked))
    scores = np.concatenate(parts)
    assert scores == pytest.approx(definition(normal, list(terms)), abs=1e-4)
    assert scores.max(initial=0) < bound
    contained = np.concatenate([index.contains_all(terms) for index in indexes])
    assert contained.tolist() == [set(terms) <= set(text) for text in normal]


def test_words_come_back_as_they_were_written(tmp_path: Path) -> None:
    made = InvertedIndex.build([TextBatch(np.array([2, 0]), ["red apple", "red"])], 4)
    made.write(tmp_path)
    again = InvertedIndex.read(tmp_path)
    assert [again.postings(word) for word in ("apple", "red", "blue")] == [
        slice(0, 1),
        slice(1, 3),
        slice(0, 0),
    ]
    assert again.lengths.tolist() == [1, 0, 2, 0]
    assert sorted(again.positions[again.postings("red")].tolist()) == [0, 2]


@pytest.mark.parametrize(("text", "message"), [
    ("", "text='' contains no search term; give at least one letter or digit"),
    ("?!", "text='?!' contains no search term; give at least one letter or digit"),
    (3, "text must be a str, got int"),
])  # fmt: skip
def test_a_text_without_words_is_refused(index: Index, text: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        index.search(text=text)
    assert str(caught.value) == message


# --- in an index ----------------------------------------------------------------------------------


@pytest.fixture
def notes(index: Index) -> Index:
    index.add([
        ("we walked the dog by the sea", {"album": "summer"}), ("the sea is blue", {"album": "winter"}),
        ("a dog, a cat and a dog", {}), (np.full((2, 2, 3), 9, np.uint8), {"caption": "A DOG on the beach"}),
        (np.full((2, 2, 3), 99, np.uint8), {"n": 1}),
    ], ids=["walk", "sea", "pets", "captioned", "bare"])  # fmt: skip
    return index


def ids(hits: Any) -> list[str]:
    return [hit.id for hit in hits]


def test_words_alone_find_what_holds_them_best_first(notes: Index) -> None:
    hits = notes.search(text="dogs dog")
    assert (
        hits.method == "text" and ids(hits)[0] == "pets" and set(ids(hits)) == {"walk", "pets", "captioned"}
    )
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(hit.score == hit.text_score for hit in hits)
    assert ids(notes.search(text="zebra")) == []
    assert ids(notes.search("blue sea", mode="text")) == ["sea", "walk"]
    assert [ids(results) for results in notes.search(["beach", "cat"], mode="text")] == [
        ["captioned"],
        ["pets"],
    ]


def test_words_in_quotes_are_found_only_as_they_stand(notes: Index) -> None:
    assert ids(notes.search(text='"the dog"')) == ["walk"]
    assert ids(notes.search(text='"dog the"')) == []
    assert ids(notes.search(text='"the sea" blue')) == ["sea", "walk"]
    assert ids(notes.search(text='"The Sea" "is blue"')) == ["sea"]


def test_a_phrase_does_not_run_from_one_source_into_the_next(index: Index) -> None:
    index.add([("red", {"a": "apple", "b": "pie"})], ids=["x"])
    assert ids(index.search(text='"red apple"')) == ids(index.search(text='"apple pie"')) == []
    assert ids(index.search(text="red apple pie")) == ["x"]


def test_filters_and_pages_hold_for_words_too(notes: Index) -> None:
    assert ids(notes.search(text="dog", modality="image")) == ["captioned"]
    assert ids(notes.search(text="sea", where={"album": "winter"})) == ["sea"]
    assert ids(notes.search(text="dog", ids=["walk", "sea"])) == ["walk"]
    everything = ids(notes.search(text="dog sea", k=9))
    assert [ids(notes.search(text="dog sea", k=1, offset=n)) for n in range(5)] == [
        [id_] for id_ in everything
    ] + [[]] * (5 - len(everything))


def test_equal_scores_are_ordered_by_id(index: Index) -> None:
    names = [f"{n:03}" for n in np.random.default_rng(0).permutation(300)]
    index.add([("1 0 0 0", {"n": f"same {n}"}) for n in range(300)], ids=names)
    assert ids(index.search(text="same", k=5)) == ["000", "001", "002", "003", "004"]
    assert ids(index.search(text="same", k=5, offset=290)) == ["290", "291", "292", "293", "294"]


def test_the_vectors_of_functions_count_less_in_hybrid_search() -> None:
    vector = np.array([1.0, 0.0], np.float32)
    rows = [
        Row(id_, None, "text", "x", metadata) for id_, metadata in (("note", {}), ("code", {"symbol": "f"}))
    ]
    near = [ScoredRow(StoredRow(row, vector, None), cosine=0.9) for row in rows]
    scores = {row.id: row.fused_score for row in fuse(near, TextMatches([], 1.0), vector)}
    assert (
        scores == {"note": VECTOR_WEIGHT, "code": CODE_VECTOR_WEIGHT / 2}
        and CODE_VECTOR_WEIGHT < VECTOR_WEIGHT
    )


def test_hybrid_scores_add_the_share_of_the_keywords_and_the_rank_among_the_nearest(notes: Index) -> None:
    query = np.array([0.1, 0.2, 0.9, 0.3])
    near, by_text = ids(notes.search(query, 9)), notes.search(text="dog", k=9)
    words = {hit.id: hit.score for hit in by_text}
    bound = 2.2 * math.log(1 + 2.5 / 3.5)  # three of the five rows hold the word
    expected = {id_: VECTOR_WEIGHT / (near.index(id_) + 1) + words.get(id_, 0.0) / bound for id_ in near}
    hits = notes.search(query, 9, text="dog")
    assert hits.method == "hybrid" and ids(hits) == sorted(expected, key=lambda id_: -expected[id_])
    assert {hit.id: hit.fused_score for hit in hits} == pytest.approx(expected, abs=1e-5)
    assert {hit.id: hit.score for hit in hits} == {hit.id: hit.score for hit in notes.search(query, 9)}
    assert {hit.id: hit.text_score for hit in hits if hit.text_score} == words
    assert ids(notes.search("a dog", 9, mode="hybrid")) == ids(notes.search("a dog", 9, text="a dog"))


def test_a_row_found_by_words_alone_has_its_cosine_too(wide: Space, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i", wide)
    vectors = clusters(400, DIM)
    query = vectors[0]
    far = int(np.argmin(vectors @ query))
    fill(index, vectors, texts=["special" if n == far else "plain" for n in range(400)])
    (hit,) = [hit for hit in index.search(query, 400, text="special") if hit.text_score]
    assert hit.id == f"{far:06}" and hit.score == pytest.approx(float(vectors[far] @ query), abs=1e-6)
    assert index.search(query, 2, text="special")[0].id in ("000000", hit.id)


FEW_IN_MEMORY = SearchConfig(max_memory_rows=500)


def test_words_follow_the_rows_in_files_and_in_memory(
    wide: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.create(tmp_path / "i", wide, search_config=FEW_IN_MEMORY)
    fill(
        index,
        clusters(1200, DIM),
        texts=[f"number {n} {'even' if n % 2 == 0 else 'odd'}" for n in range(1200)],
    )
    assert len(index.search(text="even", k=5000)) == 600
    fill(index, clusters(100, DIM), [f"new {n}" for n in range(100)], texts=["even newer"] * 100)
    assert len(index.search(text="even", k=5000)) == 700
    assert ids(index.search(text="newer", k=3)) == ["new 0", "new 1", "new 10"]
    index.delete([f"{n:06}" for n in range(0, 200, 2)])
    assert len(index.search(text="even", k=5000)) == 600
    fill(index, clusters(1, DIM), ["000201"], texts=["changed to even"])
    assert ids(index.search(text="201")) == [] and ids(index.search(text="changed")) == ["000201"]
    assert ids(index.search(text='"number 777"')) == ["000777"]
    (words,) = index.path.glob("search/part-*/words")
    assert InvertedIndex.read(words).lengths.tolist()[:2] == [3, 3]
    index.optimize()  # the changed rows move into files, so that no inverted index is built in memory
    monkeypatch.setattr(InvertedIndex, "build", None)
    other = Index.open(index.path, wide, search_config=FEW_IN_MEMORY)
    monkeypatch.undo()
    assert ids(other.search(text='"number 777"')) == ["000777"]


def test_words_whose_files_are_damaged_are_made_anew(wide: Space, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i", wide, search_config=FEW_IN_MEMORY)
    fill(index, clusters(800, DIM), texts=[f"number {n}" for n in range(800)])
    assert ids(index.search(text="777")) == ["000777"]
    (words,) = index.path.glob("search/part-*/words")
    (words / "starts.npy").write_bytes(b"")
    assert ids(Index.open(index.path, wide).search(text="777")) == ["000777"]
    assert InvertedIndex.read(words).lengths.tolist() == [2] * 800
    (words / "about.json").unlink()  # as version 1 wrote it
    assert ids(Index.open(index.path, wide).search(text="777")) == ["000777"]
    assert InvertedIndex.read(words).language_counts == {}
    assert sorted(path.name for path in words.parent.glob("words*")) == ["words"]


@pytest.mark.parametrize(("query", "options", "message"), [
    (None, {}, "there is nothing to search for; give a query, text= or similar_to="),
    ("a", {"mode": "words"}, "mode must be one of 'vector', 'text', 'hybrid', got 'words'"),
    ("a", {"mode": "vector", "text": "b"},
     "mode='vector' ignores keywords, but text= is given; leave out one of them"),
    ("a", {"mode": "text", "text": "b"},
     "mode='text' searches keywords only, but a query is given beside text=; leave out one of them"),
    (None, {"mode": "hybrid", "text": "b"}, "mode='hybrid' needs a query, or similar_to=, beside text="),
    (np.ones(4), {"mode": "text"},
     "a keyword search needs text, but the query is not a single text; give text="),
    ([("a", 1.0), ("b", 1.0)], {"mode": "hybrid"},
     "a keyword search needs text, but the query is not a single text; give text="),
])  # fmt: skip
def test_modes_and_words_that_do_not_go_together_are_refused(
    notes: Index, query: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        notes.search(query, **options)
    assert str(caught.value) == message
