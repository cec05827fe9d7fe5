"""Binary codes, segments and the search over them, without an index, against brute force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.index.config import SearchConfig
from multimodal.index.search.vector_search import Candidates, NearestRows, nearest
from multimodal.index.storage import codes
from multimodal.index.storage.codes import BITS, BLOCK, COARSE_WORDS, BlockBuilder, Projection
from multimodal.index.storage.columns import select_columns
from multimodal.index.storage.segment import RowBatch, Segment
from tests.index.conftest import clusters

DIM = 64


def batches(vectors: np.ndarray, size: int = 3000):  # type: ignore[no-untyped-def]
    for start in range(0, len(vectors), size):
        yield row_batch(start, vectors[start : start + size])


def row_batch(first: int, vectors: np.ndarray) -> RowBatch:
    """Rows with row ids from `first` on; each row's id is its row id."""
    row_ids = np.arange(first, first + len(vectors), dtype=np.uint64)
    table = pa.table({"id": row_ids.astype(str), "metadata": ["{}"] * len(vectors)})
    columns = select_columns(table.to_batches()[0])
    return RowBatch(row_ids, np.zeros(len(vectors), np.uint8), vectors, columns)


def coded(vectors: np.ndarray, folder: Path | None = None) -> tuple[Segment, Projection]:
    """A segment with codes."""
    projection = Projection.around(vectors.mean(axis=0))
    return Segment.build(batches(vectors), projection, folder), projection


def recall(near: NearestRows, scores: np.ndarray, k: int) -> float:
    """The share of the k truly nearest that are among the k best of the result."""
    true = np.sort(scores)[-k]
    best = np.sort(scores[near.row_ids.astype(int)])[-k:]
    return float((best >= true).mean())


# --- codes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_distances_count_the_bits_that_differ(n: int) -> None:
    rng = np.random.default_rng(n)
    bits = rng.integers(0, 2**64, (n, COARSE_WORDS), dtype=np.uint64)
    blocks = BlockBuilder()
    made = [block.copy() for start in range(0, n, 5000) for block in blocks.add(bits[start : start + 5000])]
    made += [block.copy() for block in blocks.finish()]
    expected = np.bitwise_count(bits ^ bits[0]).sum(axis=1)
    out = np.empty((len(made), BLOCK), np.uint8)
    codes.coarse_distances(np.array(made), bits[0], out)
    assert out.reshape(-1)[:n].tolist() == expected.tolist()
    assert codes.fine_distances(bits, bits[0]).tolist() == expected.tolist()


def test_angles_are_those_seen_from_the_mean() -> None:
    rng = np.random.default_rng(0)
    rows, query = clusters(200, DIM), clusters(1, DIM, seed=1)[0]
    mean = (0.3 * rng.standard_normal(DIM)).astype(np.float32)
    angles = Projection.around(mean).angles(query, rows @ query, rows @ mean)
    moved, moved_query = (rows - mean).astype(np.float64), (query - mean).astype(np.float64)
    cosines = moved @ moved_query / np.linalg.norm(moved, axis=1) / np.linalg.norm(moved_query)
    assert angles == pytest.approx(np.arccos(cosines) / np.pi, abs=1e-5)


def test_the_number_of_differing_bits_is_predicted_for_any_angle_and_distribution() -> None:
    """The assumption of the stopping rule: of rows at an angle, no more differ in over d bits than predicted."""
    rng = np.random.default_rng(0)
    for spread in (1.0, 1 / np.arange(1, 129)):  # all directions alike, and a few that count for most
        rows = rng.standard_normal((4000, 128)) * spread
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        projection = Projection.around(rows.mean(axis=0))
        bits = projection.encode(rows)[:, :COARSE_WORDS]
        first, second = rng.integers(0, 4000, (2, 3000))
        differing = np.bitwise_count(bits[first] ^ bits[second]).sum(axis=1)
        angles = np.array([
            projection.angles(rows[a], rows[b : b + 1] @ rows[a], rows[b : b + 1] @ projection.mean)[0]
            for a, b in zip(first, second, strict=True)
        ])  # fmt: skip
        predicted = np.array([codes.tail_probabilities(d, angles.tolist(), 256) for d in range(257)])
        for share in (0.5, 0.1, 0.02):
            limit = (predicted > share).sum(axis=0)  # the least distance that so few go beyond
            assert share / 10 <= (differing > limit).mean() <= share + 0.02


def test_the_share_of_differing_bits_is_the_angle_seen_from_the_mean() -> None:
    rng = np.random.default_rng(0)
    mean = 3 * rng.standard_normal(256).astype(np.float32)
    first, second = np.eye(256, dtype=np.float32)[:2]
    for degrees in (0, 30, 60, 90, 180):
        turned = np.cos(np.radians(degrees)) * first + np.sin(np.radians(degrees)) * second
        pair = Projection.around(mean).encode(np.stack([mean + first, mean + turned.astype(np.float32)]))
        differing = int(np.bitwise_count(pair[0] ^ pair[1]).sum())
        assert differing / BITS == pytest.approx(degrees / 180, abs=0.08)


def test_a_projection_comes_back_as_it_was_written(tmp_path: Path) -> None:
    projection = Projection.around(np.arange(5, dtype=np.float32))
    projection.write(tmp_path)
    again = Projection.read(tmp_path)
    assert (again.mean == projection.mean).all() and (again.planes == projection.planes).all()
    assert again.planes.shape == (5, BITS)


# --- segments ----------------------------------------------------------------------------------------


def test_a_segment_in_files_is_the_segment_in_memory(tmp_path: Path) -> None:
    vectors = clusters(20_000, DIM)
    inside, _ = coded(vectors)
    (tmp_path / "segment").mkdir()
    filed, _ = coded(vectors, tmp_path / "segment")
    for segment in (filed, Segment.read(tmp_path / "segment")):
        for name in ("row_ids", "modality_ids", "vectors", "coarse_codes", "fine_codes"):
            assert (getattr(segment, name)[:] == getattr(inside, name)[:]).all(), name
        assert [row.id for rows in segment.columns.rows() for row in rows] == list(map(str, range(20_000)))
    assert (inside.vectors == vectors).all()


def test_a_segment_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    coded(clusters(3000, DIM), tmp_path)
    with (tmp_path / "vectors.bin").open("r+b") as file:
        file.truncate(1000 * DIM * 4)
    with pytest.raises(ValueError, match=r"is incomplete$"):
        Segment.read(tmp_path)


def test_the_scores_of_a_segment_are_cosines_wherever_its_rows_stand() -> None:
    vectors = clusters(5000, DIM)
    queries = clusters(3, DIM, seed=1)
    segment, _ = coded(vectors)
    small = Segment.empty(DIM).append(batches(vectors))
    places = np.array([4999, 0, 17])
    assert segment.scores(queries) == pytest.approx(vectors @ queries.T, abs=1e-6)
    for either in (segment, small):
        assert either.scores(queries, places) == pytest.approx(vectors[places] @ queries.T, abs=1e-6)
    many = np.random.default_rng(0).integers(0, 5000, 10_000)
    assert segment.scores(queries, many) == pytest.approx(vectors[many] @ queries.T, abs=1e-6)


@given(st.lists(st.integers(0, 10**12), unique=True, max_size=40), st.lists(st.integers(0, 10**12), max_size=20),
       st.booleans())  # fmt: skip
def test_positions_are_found_by_row_id_in_any_order(
    numbers: list[int], others: list[int], ordered: bool
) -> None:
    numbers = sorted(numbers) if ordered else numbers
    segment = replace(Segment.empty(DIM), row_ids=np.array(numbers, np.uint64))
    wanted = [*others, *numbers[::3]]
    expected = [numbers.index(row_id) if row_id in numbers else -1 for row_id in wanted]
    assert segment.positions_of(np.array(wanted, np.uint64)).tolist() == expected
    assert segment.row_ids[segment.sorted_positions].tolist() == sorted(numbers)


# --- scanning -------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), k=st.integers(1, 400), kept=st.sampled_from([1.0, 0.5, 0.01, 0.0]),
       repeated=st.booleans())  # fmt: skip
@settings(max_examples=12)
def test_an_exact_scan_leaves_out_no_row_that_may_be_among_the_k_nearest(
    seed: int, k: int, kept: float, repeated: bool
) -> None:
    vectors = clusters(3000, DIM, seed)
    if repeated:
        vectors[1000:2000] = vectors[5]
    segment, projection = coded(vectors[:2500])
    tail = Segment.empty(DIM).append([row_batch(2500, vectors[2500:])])
    mask = np.random.default_rng(seed).random(3000) < kept
    queries = np.concatenate([clusters(2, DIM, seed + 1), vectors[5:6]])
    candidates = [Candidates(segment, mask[:2500]), Candidates(tail, mask[2500:])]
    for query, near in zip(queries, nearest(candidates, projection, queries, k, exact=True), strict=True):
        scores = np.where(mask, vectors @ query, -np.inf)
        least = np.sort(scores)[-min(k, int(mask.sum()))] if mask.any() else np.inf
        must = set(np.flatnonzero(scores >= least - 1e-6).tolist()) if mask.any() else set()
        result = near.row_ids.astype(int).tolist()
        assert near.method == "exact"
        assert must <= set(result) <= set(np.flatnonzero(mask).tolist()) and len(result) == len(set(result))
        assert near.scores == pytest.approx(scores[result], abs=1e-5)


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize("filtered", [False, True])
def test_codes_find_at_least_99_of_100_among_clusters(k: int, filtered: bool) -> None:
    vectors = clusters(40_000, DIM, spread=0.8)
    segment, projection = coded(vectors)
    mask = np.random.default_rng(3).random(len(vectors)) < 0.5 if filtered else None
    queries = clusters(60, DIM, seed=7, spread=0.8)
    results = [next(nearest([Candidates(segment, mask)], projection, query[None], k)) for query in queries]
    scores = queries @ vectors.T
    if mask is not None:
        scores[:, ~mask] = -1
        assert all(mask[near.row_ids.astype(int)].all() for near in results)
    assert {near.method for near in results} & {"quantized"}, "no search used codes"
    assert np.mean([recall(near, row, k) for near, row in zip(results, scores, strict=True)]) >= 0.99


def test_vectors_without_any_nearness_are_compared_one_by_one() -> None:
    """Of random directions in 512 dimensions no code identifies the nearest rows: all must be compared."""
    rows = np.random.default_rng(0).standard_normal((15_000, 512)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    segment, projection = coded(rows[5:])
    near = next(nearest([Candidates(segment)], projection, rows[:1], 10))
    assert recall(near, rows[5:] @ rows[0], 10) == 1 and near.method == "exact"


def test_what_is_opposite_to_everything_is_still_answered() -> None:
    vectors = clusters(30_000, DIM, spread=0.1, centres=1)
    segment, projection = coded(vectors)
    query = -vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))
    near = next(nearest([Candidates(segment)], projection, query[None], 10))
    assert recall(near, vectors @ query, 10) >= 0.9


def test_one_vector_many_times_is_found_as_many_times() -> None:
    vectors = clusters(30_000, DIM)
    vectors[::2] = vectors[0]
    segment, projection = coded(vectors)
    near = next(nearest([Candidates(segment)], projection, vectors[:1], 10))
    assert len(near.row_ids) == 15_000


def test_few_rows_left_by_a_filter_are_compared_without_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clusters(30_000, DIM)
    segment, projection = coded(vectors)
    mask = np.zeros(len(vectors), bool)
    mask[[7, 70, 20_000]] = True
    monkeypatch.setattr(codes, "coarse_distances", None)
    near = next(nearest([Candidates(segment, mask)], projection, vectors[:1], 10))
    assert near.row_ids.tolist() == [7, 70, 20_000] and near.method == "exact"


def test_many_queries_at_once_are_answered_as_each_alone() -> None:
    vectors, queries = clusters(30_000, DIM), clusters(20, DIM, seed=1)
    segment, projection = coded(vectors)
    in_three_steps = SearchConfig(max_scores=7 * len(vectors))
    candidates = [Candidates(segment)]
    together = list(nearest(candidates, projection, queries, 5, exact=True, config=in_three_steps))
    for query, near in zip(queries, together, strict=True):
        alone = next(nearest(candidates, projection, query[None], 5, exact=True))
        assert sorted(alone.row_ids) == sorted(near.row_ids)
    by_codes = SearchConfig(matrix_elements=0)  # although there are many queries
    for query, near in zip(
        queries, nearest(candidates, projection, queries, 5, config=by_codes), strict=True
    ):
        alone = next(nearest(candidates, projection, query[None], 5))
        assert sorted(alone.row_ids) == sorted(near.row_ids)


def test_nothing_to_search_in_finds_nothing() -> None:
    empty = Segment.empty(DIM)
    near = next(nearest([Candidates(empty)], None, clusters(1, DIM), 5))
    assert len(near.row_ids) == len(near.scores) == 0
