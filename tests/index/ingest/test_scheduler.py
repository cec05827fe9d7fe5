"""The stages of a job overlap, are bounded in memory, and yield the vectors of `Space.encode`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import multimodal
from multimodal.core.errors import IndexStateError
from multimodal.core.items import Audio, Image, Item, Text
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index import Index, IngestConfig, Progress
from multimodal.index.ingest import batching
from multimodal.index.ingest.admission import Admission
from multimodal.index.ingest.batching import Batcher, cost
from multimodal.index.ingest.document import Chunk
from multimodal.index.ingest.progress import JobProgress
from multimodal.index.storage.schema import Row
from multimodal.index.storage.table import ItemTable

Write = Callable[..., Path]
WAIT_S = 20.0  # a timeout, for what takes milliseconds on an idle machine


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Forty images of different colours and three sizes."""
    root = tmp_path / "pictures"
    root.mkdir()
    for n in range(40):
        PIL.Image.new("RGB", (8 + n % 3, 8), (6 * n, 255 - 6 * n, n)).save(root / f"{n:02d}.png")
    return root


def prepared_by(
    space: Space, modality: Modality, wrap: Callable[[Callable[..., Any], Sequence[Item]], Any]
) -> None:
    """Wraps `prepare` of an encoder."""
    encoder = space.encoders[modality]
    prepare = encoder.prepare
    encoder.prepare = lambda items: wrap(prepare, items)  # type: ignore[method-assign]


# --- the same vectors -----------------------------------------------------------------------------


def test_vectors_equal_those_of_the_space_whatever_the_batch(tmp_path: Path) -> None:
    space = multimodal.load("starter")
    rng = np.random.default_rng(0)
    root = tmp_path / "mixed"
    root.mkdir()
    for n in range(20):
        size = (40 + 17 * n, 30 + 5 * (n % 4), 3)
        PIL.Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(root / f"{n}.jpg")
        (root / f"{n}.txt").write_text("a red apple " * (1 + n % 7), encoding="utf-8")
        soundfile.write(root / f"{n}.wav", rng.normal(0, 0.1, 4000 + 900 * n), 16_000)
    index = Index.create(tmp_path / "i", space)
    assert index.add(root, batch_size=6, threads=3).added == 60
    rows = {row["uri"]: row for row in index.rows(vectors=True)}
    kinds: dict[str, Callable[[str], Any]] = {
        ".jpg": Image,
        ".wav": Audio,
        ".txt": lambda uri: Path(uri).read_text(),
    }
    for uri, row in rows.items():
        alone = space.encode(kinds[Path(uri).suffix](uri))
        np.testing.assert_allclose(row["vector"], alone, atol=1e-5, err_msg=uri)


# --- stages that run at the same time -------------------------------------------------------------


def test_the_threads_prepare_while_the_model_runs(index: Index, space: Space, images: Path) -> None:
    encoder = space.encoders[Modality.IMAGE]
    forward, others = encoder.forward, threading.Semaphore(0)
    prepared_by(space, Modality.IMAGE, lambda prepare, items: (others.release(), prepare(items))[1])
    waited: list[bool] = []

    def model(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if not waited:
            for _ in range(3):  # its own batch, and two more that begin while it runs
                waited.append(others.acquire(timeout=WAIT_S))
        return forward(batch)

    encoder.forward = model  # type: ignore[method-assign]
    assert index.add(images, batch_size=4, threads=2).added == 40
    assert waited == [True] * 3


def test_the_model_runs_only_in_the_thread_of_the_caller(index: Index, space: Space, images: Path) -> None:
    encoder = space.encoders[Modality.IMAGE]
    forward, threads = encoder.forward, set()

    def model(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        threads.add(threading.get_ident())
        return forward(batch)

    encoder.forward = model  # type: ignore[method-assign]
    index.add(images, batch_size=4, threads=3)
    assert threads == {threading.get_ident()}


def test_a_slow_file_delays_no_other_file(index: Index, space: Space, images: Path) -> None:
    rest_is_done = threading.Event()

    def prepare(really: Callable[..., Any], items: Sequence[Item]) -> Any:
        if any(str(item.uri).endswith("03.png") for item in items):
            assert rest_is_done.wait(WAIT_S)
        return really(items)

    def watch(state: Progress) -> None:
        if state.done >= 39:
            rest_is_done.set()

    prepared_by(space, Modality.IMAGE, prepare)
    report = index.add(
        images, batch_size=1, threads=2, progress=watch, config=IngestConfig(progress_interval_s=0)
    )
    assert (report.added, report.failed) == (40, ())


def test_a_slow_source_does_not_delay_what_came_before(index: Index) -> None:
    config = IngestConfig(lookup_wait_s=0.05, commit_rows=1)

    def texts() -> Iterator[str]:
        yield "a"
        end = time.monotonic() + WAIT_S
        time.sleep(0.1)
        yield "b"
        while len(index) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        yield "c" if len(index) == 2 else "too late"

    assert index.add(texts(), config=config).added == 3
    assert {row["text"] for row in index.rows()} == {"a", "b", "c"}


def test_limits_apply_in_the_threads_too(index: Index, images: Path) -> None:
    with multimodal.limits(max_pixels=70):
        report = index.add(images)
    assert (report.added, len(report.failed)) == (14, 26)
    assert all("more than the limit of 70" in failure.reason for failure in report.failed)


# --- bounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_flight", [1, 3])
def test_no_more_bytes_are_decoded_at_once_than_configured(
    index: Index, space: Space, images: Path, in_flight: int
) -> None:
    largest_bytes, smallest_bytes = 3 * 8 * 10, 3 * 8 * 8  # of an image
    config = IngestConfig(batch_bytes=2 * largest_bytes, decoded_bytes=2 * in_flight * largest_bytes)
    lock, now, most, largest = threading.Lock(), 0, 0, 0

    def prepare(really: Callable[..., Any], items: Sequence[Item]) -> Any:
        nonlocal now, most, largest
        with lock:
            now += len(items)
            most, largest = max(most, now), max(largest, len(items))
        time.sleep(0.005)
        with lock:
            now -= len(items)
        return really(items)

    prepared_by(space, Modality.IMAGE, prepare)
    assert index.add(images, threads=8, config=config).added == 40
    assert largest <= config.batch_bytes // smallest_bytes
    assert most <= config.decoded_bytes // smallest_bytes
    assert most > 1


def test_an_image_larger_than_the_bound_is_a_batch_of_its_own(index: Index, images: Path) -> None:
    assert index.add(images, config=IngestConfig(batch_bytes=10, decoded_bytes=10)).added == 40


def test_items_in_memory_do_not_accumulate(index: Index) -> None:
    n_bytes = 3 * 100 * 100
    config = IngestConfig(held_bytes=10 * n_bytes, lookup_bytes=10 * n_bytes)
    alive, most, lock = 0, 0, threading.Lock()

    class Counted(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            nonlocal alive
            with lock:
                alive -= 1

    def images() -> Iterator[Image]:
        nonlocal alive, most
        for n in range(300):
            array = np.full((100, 100, 3), n % 256, np.uint8).view(Counted)
            array[0, 0] = divmod(n, 256)[0], 1, 2
            with lock:
                alive += 1
                most = max(most, alive)
            yield Image(array)
            del array

    assert index.add(images(), batch_size=4, threads=2, config=config).added == 300
    # held for the model, in the lookup being read, in the one that waits, and opened together with the last
    assert most <= 10 + 2 * 10 + 2 * (config.open_batch * 5) + 8


def test_long_audio_is_never_in_memory_as_a_whole(
    index: Index, space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(
        tmp_path / "long.wav", np.full(8000 * 600, 0.25, np.float32), 8000
    )  # ten minutes, 75 windows
    window = 8000 * 10 * 4
    config = IngestConfig(stream_bytes=4 * window, held_bytes=8 * window)
    most, seen = 0, 0
    accept_chunks = Admission.accept_chunks

    def watched(self: Admission, opened: Any) -> None:
        nonlocal most
        accept_chunks(self, opened)
        most = max(most, self.n_held_bytes)

    def prepare(really: Callable[..., Any], items: Sequence[Item]) -> Any:
        nonlocal seen
        seen += len(items)
        return really(items)

    monkeypatch.setattr(Admission, "accept_chunks", watched)
    prepared_by(space, Modality.AUDIO, prepare)
    assert index.add(tmp_path / "long.wav", batch_size=2, threads=2, config=config).added == 1
    assert len(index) == seen == 75
    assert most <= (8 + 4) * window


# --- batches of one cost --------------------------------------------------------------------------

MAX_BYTES = IngestConfig().batch_bytes
LENGTHS = st.lists(st.floats(0.01, 5000.0), min_size=1, max_size=400)


def chunk(modality: Modality, length: float, decoded_bytes: int = 0) -> Chunk:
    item: Item = {
        Modality.TEXT: Text("x"), Modality.IMAGE: Image(b"x"), Modality.AUDIO: Audio(b"x"),
    }[modality]  # fmt: skip
    return Chunk(None, item, Row("", None, "", None, {}), length, 0, decoded_bytes)  # type: ignore[arg-type]


@given(LENGTHS, st.sampled_from([Modality.TEXT, Modality.IMAGE, Modality.AUDIO]), st.integers(1, 40))
def test_every_chunk_is_in_one_batch_and_no_batch_costs_too_much(
    lengths: list[float], modality: Modality, size: int
) -> None:
    batcher = Batcher(modality, size, MAX_BYTES)
    chunks = [chunk(modality, length) for length in lengths]
    batches = [batch for pushed in chunks for batch in batcher.push(pushed)] + batcher.flush()
    assert sorted(map(id, chunks)) == sorted(id(batched) for batch in batches for batched in batch)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(map(cost, batch)) <= size + 1e-9
    assert len(batcher) == 0 and batcher.flush() == []


def test_an_image_waits_for_a_full_batch_and_no_longer() -> None:
    batcher = Batcher(Modality.IMAGE, 4, MAX_BYTES)
    complete = [batcher.push(chunk(Modality.IMAGE, 1.0)) for _ in range(8)]
    assert [len(batches) for batches in complete] == [0, 0, 0, 1, 0, 0, 0, 1]


def test_short_texts_form_large_batches_and_long_ones_small_ones() -> None:
    batcher = Batcher(Modality.TEXT, 32, MAX_BYTES)
    chunks = [chunk(Modality.TEXT, 20 if n % 10 else 2000) for n in range(2000)]
    sizes = {len(batch) for pushed in chunks for batch in batcher.push(pushed)}
    assert max(sizes) == 256 and min(sizes) == 4


@pytest.mark.parametrize(("modality", "most"), [(Modality.TEXT, 1.2), (Modality.AUDIO, 1.35)])
def test_little_of_a_batch_is_padding(modality: Modality, most: float) -> None:
    rng = np.random.default_rng(0)
    unit = batching.LENGTH_OF_IMAGE[modality]
    batcher = Batcher(modality, 32, MAX_BYTES)
    chunks = [chunk(modality, length) for length in rng.lognormal(np.log(unit / 2), 1.0, 3000)]
    batches = [batch for pushed in chunks for batch in batcher.push(pushed)] + batcher.flush()
    padded = sum(len(batch) * max(batched.length for batched in batch) for batch in batches)
    assert padded / sum(pushed.length for pushed in chunks) < most
    in_order = [chunks[start : start + 32] for start in range(0, len(chunks), 32)]
    assert sum(len(batch) * max(batched.length for batched in batch) for batch in in_order) > 3 * padded


def test_a_batch_decodes_to_no_more_bytes_than_its_bound() -> None:
    batcher = Batcher(Modality.IMAGE, 32, 100)
    chunks = [chunk(Modality.IMAGE, 1.0, n) for n in (30, 30, 30, 30, 250, 10, 90, 10)]
    batches = [batch for pushed in chunks for batch in batcher.push(pushed)] + batcher.flush()
    assert [[batched.decoded_bytes for batched in batch] for batch in batches] == [
        [30, 30, 30],
        [30],
        [250],
        [10, 90],
        [10],
    ]


# --- what cannot be prepared or encoded -----------------------------------------------------------


def test_a_bad_file_is_isolated_with_two_more_calls(index: Index, space: Space, images: Path) -> None:
    (images / "05.png").write_bytes((images / "06.png").read_bytes()[:50])
    calls: list[int] = []
    prepared_by(space, Modality.IMAGE, lambda prepare, items: (calls.append(len(items)), prepare(items))[1])
    report = index.add(images, batch_size=40, threads=1)
    assert (report.added, [Path(failure.uri).name for failure in report.failed]) == (39, ["05.png"])
    assert calls == [40, 1, 39]  # all, the one that the error names, and the others


def test_a_model_that_runs_out_of_memory_gets_smaller_batches(index: Index, space: Space) -> None:
    encoder = space.encoders[Modality.TEXT]
    forward = encoder.forward

    def small(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if len(batch["rows"]) > 10:
            raise torch.OutOfMemoryError("out of memory")
        return forward(batch)

    encoder.forward = small  # type: ignore[method-assign]
    report = index.add([f"{n} 1 0 0" for n in range(100)])
    assert (report.added, report.failed) == (100, ())


def test_a_window_that_cannot_be_encoded_fails_its_document(
    index: Index, space: Space, tmp_path: Path, sound: Write
) -> None:
    samples = np.full(8000 * 40, 0.25, np.float32)
    samples[8000 * 20 : 8000 * 22] = 0.9
    soundfile.write(tmp_path / "long.wav", samples, 8000)

    def prepare(really: Callable[..., Any], items: Sequence[Any]) -> Any:
        if any(item.load().samples.max() > 0.8 for item in items):
            raise ValueError("too loud")
        return really(items)

    prepared_by(space, Modality.AUDIO, prepare)
    report = index.add([tmp_path / "long.wav", sound(tmp_path / "short.wav")])
    assert report.added == 1 and len(index) == 1
    (failed,) = report.failed
    assert (failed.uri, failed.stage) == (str(tmp_path / "long.wav"), "decode")
    assert failed.reason in (
        "ValueError: too loud (at 16 s)",
        "ValueError: too loud (at 12.8 s)",
    )


def test_a_document_that_cannot_be_stored_is_isolated(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    upsert = ItemTable.upsert

    def picky(table: ItemTable, rows: Sequence[Row], *rest: Any, **options: Any) -> None:
        if any(row.text == "b" for row in rows):
            raise ValueError("not this one")
        upsert(table, rows, *rest, **options)

    monkeypatch.setattr(ItemTable, "upsert", picky)
    report = index.add(["a", ("b", {"n": 1}), "c"])
    assert {row["text"] for row in index.rows()} == {"a", "c"} and report.added == 2
    assert [(failure.uri, failure.stage, failure.reason) for failure in report.failed] == [
        ("item 1", "write", "ValueError: not this one")
    ]


def test_an_index_that_cannot_be_written_ends_the_job_with_a_cure(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = IngestConfig(commit_rows=8)
    written: list[int] = []
    upsert = ItemTable.upsert

    def full(table: ItemTable, rows: Sequence[Row], *rest: Any, **options: Any) -> None:
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        written.append(len(rows))
        upsert(table, rows, *rest, **options)

    monkeypatch.setattr(ItemTable, "upsert", full)
    texts = [f"{n} 1 0 0" for n in range(100)]
    with pytest.raises(IndexStateError) as caught:
        index.add(texts, batch_size=1, config=config)
    assert str(caught.value) == (
        f"cannot write to the index at {str(index.path)!r} ([Errno 28] No space left on device); earlier commits are "
        "kept: free space or repair the folder, then repeat the call to resume"
    )
    assert len(index) == sum(written) > 0
    monkeypatch.undo()
    report = index.add(texts)
    assert (report.added, report.unchanged) == (100 - sum(written), sum(written))


def test_an_error_of_the_source_ends_the_job_and_keeps_what_was_written(index: Index) -> None:
    config = IngestConfig(lookup_first=8, lookup_max=8, commit_rows=4)

    def texts() -> Iterator[str]:
        for n in range(32):
            yield f"{n} 1 0 0"
        end = time.monotonic() + WAIT_S
        while len(index) < 24 and time.monotonic() < end:
            time.sleep(0.01)
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError, match="the source broke"):
        index.add(texts(), batch_size=1, config=config)
    assert len(index) >= 24


# --- progress -------------------------------------------------------------------------------------


def test_the_rate_is_that_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from multimodal.index.storage.failures import FailureLog

    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    reports: list[Progress] = []
    job = JobProgress(FailureLog(tmp_path), reports.append)
    job.total = 1000
    for second in range(1, 61):
        now = float(second)
        job.advance(20 if second <= 30 else 2)
    assert reports[29].rate == pytest.approx(20) and reports[-1].rate == pytest.approx(2)
    assert reports[-1].done == 660 and reports[-1].eta_s == pytest.approx(340 / 2)
    assert sum(report.step for report in reports) == 660
