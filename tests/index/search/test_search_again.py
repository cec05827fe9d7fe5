"""What a handle remembers between searches: its rows, and that nothing new was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.storage.snapshot import LatestVersion
from multimodal.index.storage.table import ItemTable
from tests.index.conftest import clusters, fill

DIM = 64


@pytest.fixture
def index(wide: Space, tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "i", wide)
    fill(index, clusters(200, DIM))
    return index


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
        assert hit.id not in [other_hit.id for other_hit in index.search(query, 3)], round_


def test_lancedb_is_requested_the_version_only_if_its_files_changed(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = LatestVersion(index.path, ItemTable.open(index.path).index_metadata)
    version = latest.version
    monkeypatch.setattr(latest, "_table", None)
    assert latest.version == version
    (index.path / "items.lance" / "_versions" / "new").touch()
    with pytest.raises(AttributeError):
        _ = latest.version


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
