"""Segments beside an index: they follow its rows, are shared by processes, and are verified before use."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.errors import IndexStateError
from multimodal.core.space import Space
from multimodal.index import Index, SearchConfig
from multimodal.index.storage import segment_store
from multimodal.index.storage.segment import Segment
from multimodal.index.storage.segment_store import MANIFEST_FILE, SegmentStore
from multimodal.index.storage.snapshot import LatestVersion
from multimodal.index.storage.table import ItemTable
from tests import plugins
from tests.index.conftest import clusters, fill

DIM = 64
HERE = Path(__file__).parents[1]


CONFIG = SearchConfig(max_memory_rows=500, first_candidates=150, min_code_rows=150)  # a few rows are many


@pytest.fixture
def wide_index(wide: Space, tmp_path: Path) -> Index:
    return Index.create(tmp_path / "i", wide, search_config=CONFIG)


def segment_folders(index: Index) -> list[str]:
    return sorted(path.name for path in (index.path / segment_store.FOLDER).glob("part-*"))


def segment_lengths(index: Index) -> list[int]:
    """Rows of each segment, the one in memory last."""
    table = ItemTable.open(index.path)
    segmented = SegmentStore(index.path, LatestVersion(index.path, table.index_metadata), CONFIG).load()
    return [len(segment) for segment in segmented.segments]


def named(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Vectors by the ids that `fill` gives them."""
    return {f"{position:06}": vector for position, vector in enumerate(vectors)}


def nearest(vectors: dict[str, np.ndarray], query: np.ndarray, k: int) -> list[str]:
    """Brute force over what should be there."""
    if not vectors:
        return []
    rows, wide = np.stack(list(vectors.values())).astype(np.float64), query.astype(np.float64)
    cosines = np.round((rows * wide).sum(axis=1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(wide), 9)
    scores = dict(zip(vectors, cosines.tolist(), strict=True))
    return sorted(scores, key=lambda id_: (-scores[id_], id_))[:k]


def agree(index: Index, rows: dict[str, np.ndarray], n: int = 5, **options: Any) -> None:
    """An exact search finds just what is there; one by codes nearly so."""
    assert len(index) == len(rows)
    queries = clusters(n, DIM, seed=77)
    hits = index.search(queries, 10, exact=True, calibrated=False, **options)
    for query, results in zip(queries, hits, strict=True):
        assert [hit.id for hit in results] == nearest(rows, query, 10)
    kept = [
        len({hit.id for hit in index.search(query, 10, calibrated=False)} & set(nearest(rows, query, 10)))
        / min(10, len(rows))
        for query in queries
    ]
    assert np.mean(kept) >= 0.98


def test_a_small_index_keeps_nothing_on_disk(wide_index: Index) -> None:
    fill(wide_index, clusters(500, DIM))
    assert wide_index.search(clusters(1, DIM)[0]).method == "exact"
    assert not (wide_index.path / segment_store.FOLDER).exists()


def test_what_is_kept_grows_with_the_index_part_by_part(wide_index: Index) -> None:
    rows: dict[str, np.ndarray] = {}
    expected = {
        3000: [3000, 0],
        3400: [3000, 400],
        3500: [3000, 500],
        3501: [3000, 501, 0],
        4600: [3000, 501, 1099, 0],
    }
    vectors = clusters(4600, DIM)
    for n, sizes in expected.items():
        new = range(len(rows), n)
        ids = [f"{place:05}" for place in new]
        fill(wide_index, vectors[new.start : n], ids)
        rows |= dict(zip(ids, vectors[new.start : n], strict=True))
        agree(wide_index, rows)
        assert segment_lengths(wide_index) == sizes
    assert len(segment_folders(wide_index)) == 3


def test_rows_that_are_deleted_or_replaced_are_not_found_as_they_were(wide_index: Index) -> None:
    vectors = clusters(3000, DIM)
    rows = named(vectors)
    fill(wide_index, vectors)
    agree(wide_index, rows)
    gone = [f"{place:06}" for place in range(0, 600, 2)]
    wide_index.delete(gone)
    for id_ in gone:
        del rows[id_]
    agree(wide_index, rows)
    moved = clusters(200, DIM, seed=5)
    ids = [f"{place:06}" for place in range(1, 401, 2)]
    fill(wide_index, moved, ids)
    rows |= dict(zip(ids, moved, strict=True))
    agree(wide_index, rows)
    assert segment_lengths(wide_index) == [3000, 200] and len(segment_folders(wide_index)) == 1
    wide_index.delete(ids)  # these are in memory only
    for id_ in ids:
        del rows[id_]
    agree(wide_index, rows)
    assert segment_lengths(wide_index) == [3000, 0]


def test_when_much_is_gone_all_is_written_anew(wide_index: Index) -> None:
    vectors = clusters(3000, DIM)
    fill(wide_index, vectors)
    wide_index.search(vectors[0])
    before = segment_folders(wide_index)
    wide_index.delete([f"{place:06}" for place in range(1000)])
    agree(wide_index, {f"{place:06}": vectors[place] for place in range(1000, 3000)})
    assert segment_lengths(wide_index) == [2000, 0]
    assert len(segment_folders(wide_index)) == 1 and segment_folders(wide_index) != before
    wide_index.delete([f"{place:06}" for place in range(1000, 2990)])
    agree(wide_index, {f"{place:06}": vectors[place] for place in range(2990, 3000)})
    assert segment_lengths(wide_index) == [10] and segment_folders(wide_index) == []
    wide_index.delete([f"{place:06}" for place in range(2990, 3000)])
    assert wide_index.search(vectors[0]) == []


def test_merging_the_files_of_the_index_changes_no_answer(wide_index: Index) -> None:
    vectors = clusters(3000, DIM)
    rows = {}
    for start in range(0, 3000, 600):
        ids = [f"{place:06}" for place in range(start, start + 600)]
        fill(wide_index, vectors[start : start + 600], ids)
        rows |= dict(zip(ids, vectors[start : start + 600], strict=True))
        wide_index.search(vectors[0])
    agree(wide_index, rows)
    wide_index.optimize()
    agree(wide_index, rows)
    assert segment_lengths(wide_index) == [3000, 0]


def test_vectors_that_are_not_of_length_one_are_searched_by_direction(wide_index: Index) -> None:
    """As an index might hold that something else wrote."""
    vectors = clusters(3000, DIM)
    fill(wide_index, vectors * np.linspace(0.1, 9, 3000)[:, None])
    agree(wide_index, named(vectors))


def test_another_handle_reads_what_was_kept_and_makes_nothing_again(
    wide_index: Index, wide: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clusters(3000, DIM)
    fill(wide_index, vectors)
    first = wide_index.search(vectors[:9])
    monkeypatch.setattr(Segment, "build", None)
    other = Index.open(wide_index.path, wide, search_config=CONFIG)
    assert other.search(vectors[:9]) == first
    fill(wide_index, clusters(20, DIM, seed=3), [f"new {n}" for n in range(20)])
    assert other.search(clusters(20, DIM, seed=3)[7], 1, calibrated=False)[0].id == "new 7"


def test_adding_prepares_what_searches_need(wide_index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clusters(3000, DIM)
    fill(wide_index, vectors)
    wide_index.add(["one more"])
    assert len(segment_folders(wide_index)) == 1
    monkeypatch.setattr(Segment, "build", None)
    assert wide_index.search("one more", 1, calibrated=False)[0].text == "one more"


# --- what is kept is only an aid ------------------------------------------------------------------


def test_what_belongs_to_other_rows_is_found_out_and_made_anew(
    wide_index: Index, wide: Space, tmp_path: Path
) -> None:
    """Such as a copy of the kept files that was put beside another table: the same numbers, other vectors."""
    fill(wide_index, clusters(3000, DIM, seed=1))
    other = Index.create(tmp_path / "other", wide, search_config=CONFIG)
    vectors = clusters(3000, DIM, seed=2)
    fill(other, vectors)
    wide_index.search(vectors[0])
    other.search(vectors[0])
    shutil.rmtree(other.path / segment_store.FOLDER)
    shutil.copytree(wide_index.path / segment_store.FOLDER, other.path / segment_store.FOLDER)
    before = segment_folders(other)
    agree(
        Index.open(other.path, wide, search_config=CONFIG),
        named(vectors),
    )
    assert segment_folders(other) != before


def test_an_index_that_was_put_back_and_written_to_is_not_answered_from_what_came_between(
    wide_index: Index, wide: Space, tmp_path: Path
) -> None:
    """A copy of the table replaces it, and rows are written that get the numbers of others."""
    vectors, later, others = (clusters(n, DIM, seed=n) for n in (3000, 600, 599))
    fill(wide_index, vectors)
    shutil.copytree(wide_index.path / "items.lance", tmp_path / "copy")
    fill(wide_index, later, [f"later {place:04}" for place in range(600)])
    wide_index.search(vectors[0])
    shutil.rmtree(wide_index.path / "items.lance")
    shutil.move(tmp_path / "copy", wide_index.path / "items.lance")
    names = [f"other {place:04}" for place in range(599)]
    fill(Index.open(wide_index.path, wide, search_config=CONFIG), others, names)
    rows = dict(zip([f"{place:06}" for place in range(3000)], vectors, strict=True))
    agree(
        Index.open(wide_index.path, wide, search_config=CONFIG), rows | dict(zip(names, others, strict=True))
    )


def test_an_index_that_never_fits_what_is_read_of_it_is_reported(
    wide_index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(wide_index, clusters(10, DIM))
    monkeypatch.setattr("multimodal.index.storage.snapshot.Snapshot.vectors", lambda snapshot, row_ids: {})
    with pytest.raises(IndexStateError) as caught:
        wide_index.search(clusters(1, DIM)[0], 3, calibrated=False)
    assert str(caught.value) == (
        f"the rows of the index at '{wide_index.path}' are inconsistent: the index is damaged; restore it "
        "from a copy, or create a new one"
    )


@pytest.mark.parametrize("damage", ["state is cut", "state is of another format", "a segment is cut",
                                    "a segment is gone", "the projection is empty", "a segment lacks a file",
                                    "records are cut", "records are gone"])  # fmt: skip
def test_kept_files_that_are_damaged_are_made_anew(wide_index: Index, wide: Space, damage: str) -> None:
    vectors = clusters(3000, DIM)
    fill(wide_index, vectors)
    wide_index.search(vectors[0])
    folder = wide_index.path / segment_store.FOLDER
    (segment,) = folder.glob("part-*")
    (projection,) = folder.glob("basis-*")
    if damage == "state is cut":
        (folder / MANIFEST_FILE).write_text((folder / MANIFEST_FILE).read_text()[:20])
    elif damage == "state is of another format":
        (folder / MANIFEST_FILE).write_text(
            json.dumps(json.loads((folder / MANIFEST_FILE).read_text()) | {"format": 99})
        )
    elif damage == "a segment is cut":
        os.truncate(segment / "coarse.bin", 4096)
    elif damage == "a segment is gone":
        shutil.rmtree(segment)
    elif damage == "the projection is empty":
        (projection / "mean.npy").write_bytes(b"")
    elif damage == "records are cut":
        os.truncate(segment / "records.arrow", 5000)
    elif damage == "records are gone":
        (segment / "records.arrow").unlink()
    else:
        (segment / "numbers.bin").unlink()
    agree(
        Index.open(wide_index.path, wide, search_config=CONFIG),
        named(vectors),
    )
    assert len(segment_folders(wide_index)) == 1
    assert damage.startswith("state") or segment_folders(wide_index) != [segment.name]


def test_where_nothing_can_be_kept_searches_still_work(wide_index: Index) -> None:
    """A file stands where the folder should be: as a disk without room or a folder without permission."""
    vectors = clusters(3000, DIM)
    fill(wide_index, vectors)
    (wide_index.path / segment_store.FOLDER).write_text("in the way")
    rows = named(vectors)
    agree(wide_index, rows)
    fill(wide_index, clusters(700, DIM, seed=4), [f"new {place:04}" for place in range(700)])
    agree(wide_index, rows | {f"new {place:04}": v for place, v in enumerate(clusters(700, DIM, seed=4))})
    assert wide_index.search(text="nothing has words") == []


def test_a_disk_that_fills_up_while_a_segment_is_written_leaves_nothing_half(
    wide_index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clusters(3000, DIM)
    fill(wide_index, vectors)
    real, fsync = os.fsync, []

    def full(file: int) -> None:
        if len(fsync) < 2:
            fsync.append(file)
            raise OSError(28, "No space left on device")
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    rows = named(vectors)
    agree(wide_index, rows)
    assert (
        segment_folders(wide_index) == []
        and not (wide_index.path / segment_store.FOLDER / MANIFEST_FILE).exists()
    )


# --- several processes ----------------------------------------------------------------------------

BEGIN = f"""
import sys, time, numpy as np
{plugins.registration("wide")}
from {plugins.WIDE} import load
from multimodal.index import Index
from multimodal.index import SearchConfig
from tests.index.conftest import clusters, fill
index = Index.open(sys.argv[1], load(), search_config=SearchConfig(max_memory_rows=500))
"""


def start(code: str, index: Index) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(HERE.parent.parent)}
    command = [sys.executable, "-c", BEGIN + code, str(index.path)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_process_reads_while_another_writes_and_each_answer_is_of_one_version(wide_index: Index) -> None:
    """The same rows are written again and again with a new batch number: a version holds one batch."""
    vectors = clusters(1200, DIM)
    ids = [f"{n:04}" for n in range(1200)]
    fill(wide_index, vectors, ids, metadata=[{"batch": 0}] * 1200)
    wide_index.search(vectors[0])
    reader = """
vectors = clusters(1200, 64)
seen, end = [index.search(vectors[5])[0].metadata["batch"]], time.monotonic() + 60
print("ready", flush=True)
while seen[-1] < 5 and time.monotonic() < end:
    hits = index.search(vectors[5], 50)
    batches = {hit.metadata["batch"] for hit in hits}
    assert len(hits) == 50 and hits[0].id == "0005" and len(batches) == 1, (len(hits), hits[0].id, batches)
    seen.append(batches.pop())
assert seen == sorted(seen) and seen[-1] == 5, seen
print(len(set(seen)))
"""
    process = start(reader, wide_index)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for batch in range(1, 6):
        fill(wide_index, vectors, ids, metadata=[{"batch": batch}] * 1200)
        if batch == 3:
            wide_index.optimize()
        time.sleep(0.1)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert int(out) >= 2


def test_a_process_that_is_killed_while_it_builds_a_segment_is_no_harm(wide_index: Index) -> None:
    vectors = clusters(3000, DIM)
    fill(wide_index, vectors)
    slow = """
from multimodal.index.storage.codes import Projection
def waits(projection, vectors):
    print("at it", flush=True)
    time.sleep(60)
Projection.encode_fast = waits
index.search(clusters(1, 64)[0])
"""
    process = start(slow, wide_index)
    assert process.stdout is not None and process.stdout.readline() == "at it\n"
    done: list[Any] = []
    waiting = threading.Thread(target=lambda: done.append(wide_index.search(vectors[3], 1, calibrated=False)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()  # one makes it, the others wait
    process.send_signal(signal.SIGKILL)
    process.communicate()
    waiting.join(30)
    assert done[0][0].id == "000003"
    agree(wide_index, named(vectors))
    assert len(segment_folders(wide_index)) == 1


def test_threads_may_search_one_handle_while_it_changes(wide_index: Index) -> None:
    vectors = clusters(2000, DIM)
    fill(wide_index, vectors)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            for n in range(20):
                hits = wide_index.search(vectors[n], 3, modality=("text", "image")[n % 2])
                assert hits[0].id == f"{n:06}"
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(5):
        fill(wide_index, clusters(150, DIM, seed=n) * -1, [f"new {n} {place}" for place in range(150)])
    for thread in threads:
        thread.join()
    assert errors == []


# --- filters --------------------------------------------------------------------------------------

ALBUMS = ["a", "b", "rare", None]


class Albums:
    """4,000 rows, so that filters leave all kinds of numbers; some were deleted and some came later."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.vectors = clusters(4000, DIM, spread=0.8)
        kinds = np.random.default_rng(0).choice(4, 4000, p=[0.6, 0.38, 0.01, 0.01])
        self.metadata: list[dict[str, Any]] = [
            {"n": n, "album": ALBUMS[kind]} for n, kind in enumerate(kinds)
        ]
        for start, end in ((0, 3000), (3000, 3700), (3700, 4000)):
            ids = [f"{n:04}" for n in range(start, end)]
            fill(index, self.vectors[start:end], ids, metadata=self.metadata[start:end])
            index.search(self.vectors[0])
        index.delete([f"{n:04}" for n in range(0, 4000, 40)])

    def matching(self, modality: Any, album: Any, least: int | None, third: bool) -> list[int]:
        wanted = album if isinstance(album, list) else [album]
        return [
            n for n in range(4000)
            if n % 40 and (least is None or n >= least) and (album is None or self.metadata[n]["album"] in wanted)
            and (modality is None or ("text", "image")[n % 2] in modality) and (not third or n % 3 == 0)
        ]  # fmt: skip


@pytest.fixture(scope="module")
def albums(wide: Space, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Albums]:
    yield Albums(Index.create(tmp_path_factory.mktemp("albums") / "i", wide, search_config=CONFIG))


@given(query=st.integers(0, 10**6), k=st.sampled_from([1, 7, 60, 5000]), offset=st.sampled_from([0, 3, 50]),
       modality=st.sampled_from([None, "text", ["image"], ["text", "image"]]),
       album=st.sampled_from([None, "a", "rare", ["rare", None], "nowhere"]),
       least=st.sampled_from([None, 0, 3500, 3999]), exact=st.booleans(), third=st.booleans())  # fmt: skip
@settings(max_examples=20)
def test_a_filter_never_costs_a_hit(
    albums: Albums, query: int, k: int, offset: int, modality: Any, album: Any, least: int | None, exact: bool,
    third: bool,
) -> None:  # fmt: skip
    """Whatever the filter: as many hits as there are matching rows, each of them matching, and the nearest of them."""
    where = ({} if album is None else {"album": album}) | ({} if least is None else {"n": {">=": least}})
    ids = [f"{n:04}" for n in range(0, 4000, 3)] if third else None
    rows = albums.matching(modality, album, least, third)
    direction = clusters(1, DIM, seed=query, spread=0.8)[0]
    hits = albums.index.search(
        direction,
        k,
        offset=offset,
        modality=modality,
        where=where or None,
        ids=ids,
        exact=exact,
        calibrated=False,
    )
    expected = nearest({f"{n:04}": albums.vectors[n] for n in rows}, direction, offset + k)[offset:]
    assert len(hits) == len(expected)
    assert {int(hit.id) for hit in hits} <= set(rows)
    if exact or hits.method == "exact":
        assert [hit.id for hit in hits] == expected
    elif expected:
        assert len({hit.id for hit in hits} & set(expected)) >= 0.8 * len(expected)
