"""What a handle remembers between searches: rows that it read, and that nothing new was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.kept import ROW_BYTES, KeptRows
from multimodal.index.table import Row
from multimodal.index.version import Stored, Version
from tests.index.conftest import clusters, fill

DIM = 64


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were read from the files, at each time."""
    found: list[int] = []
    take = Version.take

    def counted(self: Version, numbers: list[int]) -> dict[int, Stored]:
        if numbers:
            found.append(len(numbers))
        return take(self, numbers)

    monkeypatch.setattr(Version, "take", counted)
    return found


@pytest.fixture
def index(wide: Space, tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "i", wide)
    fill(index, clusters(200, DIM))
    return index


def stored(number: int, text: str | None = None) -> Stored:
    return Stored(Row(str(number), None, "text", text, {}), np.zeros(8, np.float32), None)


def test_rows_are_read_once_while_nothing_changes(index: Index, reads: list[int]) -> None:
    query = clusters(1, DIM, seed=5)[0]
    first = index.search(query, 10)
    n_reads = len(reads)
    assert n_reads and index.search(query, 10) == first
    assert len(reads) == n_reads
    index.search(query, 20)
    assert sum(reads[n_reads:]) < 20 + 10  # those it has are not read again


def test_what_is_done_to_a_hit_does_not_change_the_next_one(index: Index) -> None:
    query = clusters(1, DIM, seed=5)[0]
    before = index.search(query, 3)
    wanted = [dict(hit.metadata) for hit in before]
    for hit in before:
        hit.metadata["mine"] = 1
    assert [hit.metadata for hit in index.search(query, 3)] == wanted


def test_what_another_handle_writes_is_seen_at_once(index: Index, wide: Space) -> None:
    """However quickly one write follows another: a handle that searched looks again."""
    other = Index.open(index.path, wide)
    query = clusters(1, DIM, seed=5)[0]
    for round_ in range(5):
        hit = index.search(query, 1)[0]
        other.delete([hit.id])
        assert hit.id not in [one.id for one in index.search(query, 3)], round_


def test_lancedb_is_asked_for_the_version_only_if_its_files_changed(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = index._searcher._cache.newest
    number = newest.number
    monkeypatch.setattr(newest, "_table", None)
    assert newest.number == number
    (index.path / "items.lance" / "_versions" / "new").touch()
    with pytest.raises(AttributeError):
        _ = newest.number


def test_an_index_made_anew_at_the_same_place_is_not_taken_for_the_old_one(
    index: Index, wide: Space, tmp_path: Path
) -> None:
    query = clusters(1, DIM, seed=5)[0]
    assert len(index.search(query, 10)) == 10
    other = Index.create(tmp_path / "other", wide)
    fill(other, clusters(3, DIM, seed=9))
    index.path.rename(tmp_path / "gone")
    other.path.rename(tmp_path / "i")
    assert len(Index.open(tmp_path / "i", wide).search(query, 10)) == 3


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=6), max_size=30), st.integers(0, 12))
def test_kept_rows_are_those_used_last_and_never_more_than_fit(asked: list[list[int]], fit: int) -> None:
    size = 8 * 4 + ROW_BYTES
    kept, used = KeptRows(fit * size), list[int]()
    for numbers in asked:
        wanted = list(dict.fromkeys(numbers))
        found = kept.of(wanted)
        assert set(found) == set(wanted) & set(used)
        assert all(row.row.id == str(number) for number, row in found.items())
        missing = [number for number in wanted if number not in found]
        kept.keep({number: stored(number) for number in missing})
        for number in [*(n for n in wanted if n in found), *missing]:
            used = [one for one in used if one != number] + [number]
        used = used[-fit:] if fit else []
        assert kept.size == len(used) * size


def test_a_long_text_counts_by_its_length() -> None:
    kept = KeptRows(100_000)
    kept.keep({1: stored(1), 2: stored(2, "x" * 20_000)})
    assert set(kept.of([1, 2])) == {1, 2} and kept.size > 80_000
    kept.keep({3: stored(3, "x" * 10_000)})
    assert set(kept.of([1, 2, 3])) == {3}
    kept.keep({4: stored(4, "x" * 30_000)})  # more than all that may be kept
    assert not kept.of([1, 2, 3, 4]) and kept.size == 0
