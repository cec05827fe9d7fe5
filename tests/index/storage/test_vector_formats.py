"""Indexes that store vectors in fewer bytes find what these say is nearest, whatever is written or deleted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.errors import IndexStateError, InvalidInput
from multimodal.core.space import Space
from multimodal.index import Index, SearchConfig
from multimodal.index.search.vector_search import SUM_ERROR
from multimodal.index.storage import vector_columns
from multimodal.index.storage.table import ItemTable
from multimodal.index.storage.vector_formats import INT16, VectorFormat, principal_components
from tests.index.conftest import clusters, fill

DIM = 64
CONFIG = SearchConfig(max_memory_rows=200, first_candidates=100, min_code_rows=50, max_small_fragments=4)
FORMATS = ("int8", "pca32-int8", "bits")


@pytest.fixture(autouse=True)
def few_rows_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_columns, "FIT_ROWS", 300)
    monkeypatch.setattr(vector_columns, "SAMPLE_ROWS", 200)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 20), st.integers(0, 99), st.booleans())
def test_codes_are_close_to_their_vectors_and_stable(n: int, seed: int, reduced: bool) -> None:
    vectors = clusters(n, DIM, seed=seed)
    basis = principal_components(clusters(400, DIM), 32) if reduced else None
    stored = VectorFormat("pca32-int8" if reduced else "int8", DIM, basis)
    codes = stored.encode(vectors)
    decoded = stored.decode(codes)
    assert codes.dtype == np.int8 and codes.shape == (n, stored.width)
    assert np.allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-5)
    assert np.array_equal(stored.encode(decoded), codes)
    kept = vectors if basis is None else vectors @ basis.T @ basis
    kept = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    assert (decoded * kept).sum(axis=1).min(initial=1) > 0.9995
    queries = clusters(3, DIM, seed=seed + 1)
    assert np.allclose(stored.scores(codes, queries), decoded @ queries.T, atol=1e-5)


def test_a_vector_of_zeros_stays_one() -> None:
    stored = VectorFormat("int8", 4)
    assert not stored.decode(stored.encode(np.zeros((2, 4), np.float32))).any()


@pytest.mark.parametrize("name", FORMATS)
def test_an_index_finds_what_its_vectors_say_after_every_change(
    name: str, wide: Space, tmp_path: Path
) -> None:
    vectors = clusters(1100, DIM)
    index = Index.create(tmp_path / "i", wide, vectors=name, search_config=CONFIG)
    alive: set[str] = set()

    def check() -> None:
        opened = Index.open(tmp_path / "i", wide, search_config=CONFIG)
        rows = list(opened.rows(vectors=True))
        assert {row["id"] for row in rows} == alive
        matrix = np.stack([row["vector"] for row in rows]).astype(np.float64)
        for query in clusters(3, DIM, seed=5):
            for modality in (None, "image"):
                own = [place for place, row in enumerate(rows) if modality in (None, row["modality"])]
                scores = dict(zip([rows[place]["id"] for place in own], matrix[own] @ query, strict=True))
                right = sorted(scores, key=lambda id_: -scores[id_])[:10]
                for searched in (index, opened):
                    exact = searched.search(query, 10, exact=True, calibrated=False, modality=modality)
                    assert [hit.id for hit in exact] == right
                    quick = searched.search(query, 10, calibrated=False, modality=modality)
                    assert len({hit.id for hit in quick} & set(right)) >= 9

    def add(start: int, stop: int) -> None:
        ids = [f"{place:04}" for place in range(start, stop)]
        fill(index, vectors[start:stop], ids, [f"text {id_}" for id_ in ids])
        alive.update(ids)

    add(0, 250)  # in memory, and too few for components
    check()
    add(250, 700)  # in a file
    check()
    add(700, 900)
    add(600, 750)  # replaced
    gone = [f"{place:04}" for place in range(100, 180)]
    index.delete(gone)
    alive.difference_update(gone)
    index.update(["0500", "0501"], {"album": "x"})
    check()
    assert [hit.id for hit in index.search(vectors[500], 5, where={"album": "x"})] == ["0500", "0501"]
    index.optimize()
    check()
    add(900, 1100)
    check()
    stored = {row["id"]: row["vector"] for row in index.rows(vectors=True)}
    cosines = [float(stored[id_] @ vectors[int(id_)]) for id_ in alive]
    assert min(cosines) > {"bits": 0.99999, "int8": 0.999, "pca32-int8": 0.8}[name]


def test_components_are_computed_once_enough_rows_are_there(wide: Space, tmp_path: Path) -> None:
    vectors = clusters(400, DIM)
    index = Index.create(tmp_path / "i", wide, vectors="pca32-int8", search_config=CONFIG)
    other = ItemTable.open(index.path)  # another process, which opened the index before
    fill(index, vectors[:299], [f"{place:03}" for place in range(299)])
    assert other.vectors.is_unfitted
    assert np.allclose(next(iter(index.rows(ids="007", vectors=True)))["vector"], vectors[7], atol=1e-7)
    fill(index, vectors[299:], [f"{place:03}" for place in range(299, 400)])
    coded = ItemTable.open(index.path).columns(["code", "vector"])
    assert coded["code"].null_count == 0 and coded["vector"].null_count == 400
    (_, vector), *_ = other.rows("id = '007'", vectors=True)
    assert vector is not None and 0.8 < float(vector @ vectors[7]) < 0.9999


def test_unusable_formats_are_refused(wide: Space, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"'pca64-int8' keeps 64 components, and the space has 64 dimensions"
    ):
        Index.create(tmp_path / "i", wide, vectors="pca64-int8")
    with pytest.raises(InvalidInput, match=r"vectors must be 'float32', 'int8', .*got 'int4'"):
        Index.create(tmp_path / "i", wide, vectors="int4")
    index = Index.create(tmp_path / "i", wide, vectors="int8")
    with pytest.raises(IndexStateError, match=r"stores vectors as int8, got vectors='float32'"):
        Index.create(tmp_path / "i", wide, exist_ok=True, vectors="float32")
    with pytest.raises(IndexStateError, match=r"cannot index the vectors .* stored as int8"):
        index.optimize(approximate=True)


@pytest.mark.parametrize(
    ("name", "stored", "scanned"),
    [("float32", 256, 192), ("int8", 64, 128), ("pca32-int8", 32, 96), ("bits", 256, 64)],
)
def test_what_a_format_takes_and_loses_is_measured(
    name: str, stored: int, scanned: int, wide: Space, tmp_path: Path
) -> None:
    index = Index.create(tmp_path / "i", wide, vectors=name, search_config=CONFIG)
    fill(index, clusters(600, DIM))
    stats = index.stats()
    assert (stats.n_items, stats.counts) == (600, {"text": 300, "image": 300})
    assert (stats.vectors, stats.stored_bytes, stats.scanned_bytes) == (name, stored, scanned)
    if name in ("float32", "bits"):
        assert (stats.recall, stats.recall_rows) == (None, 0)  # nothing is lost
    else:
        assert 0.5 < (stats.recall or 0) < 1 and stats.recall_rows == 200


def test_int16_of_the_search_folder_is_ten_times_finer_than_float16() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((500, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stored = VectorFormat(INT16, 256)
    coded = stored.encode(vectors)
    assert coded.nbytes * 2 == vectors.nbytes
    right = vectors @ vectors[:9].T
    error = np.abs(stored.scores(coded, vectors[:9]) - right).max()
    half = np.abs(vectors.astype(np.float16).astype(np.float32) @ vectors[:9].T - right).max()
    assert error < SUM_ERROR and error * 4 < half
    assert np.abs(stored.decode(coded) - vectors).max() < 1e-5
