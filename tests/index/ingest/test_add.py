from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from multimodal.core.errors import EncoderError, PathLikeTextWarning
from multimodal.core.items import Audio, Image, Text
from multimodal.core.space import Space
from multimodal.index import Failure, Index, IngestConfig, IngestReport, Progress, files_in
from multimodal.index.storage.table import ItemTable

Write = Callable[..., Path]


def by_id(index: Index) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in index.rows()}


@pytest.fixture
def folder(tmp_path: Path, image: Write, sound: Write) -> Path:
    """Two images, an audio file, two texts; three files that are invalid; two hidden ones."""
    root = tmp_path / "files"
    image(root / "red.png")
    image(root / "deep" / "er" / "green", (0, 255, 0))  # no suffix: recognised by content
    sound(root / "deep" / "bell.txt.wav")
    (root / "note.txt").write_text("an apple", encoding="utf-8")
    (root / "README.MD").write_text("b c", encoding="utf-8")
    (root / "empty.txt").touch()
    (root / "fake.jpg").write_text("not a picture", encoding="utf-8")
    (root / "broken.png").write_bytes((root / "red.png").read_bytes()[:40])
    image(root / ".hidden.png")
    image(root / ".cache" / "x.png")
    return root


# --- folders and files ----------------------------------------------------------------------------


def test_adding_a_folder_indexes_good_files_and_reports_bad_ones(index: Index, folder: Path) -> None:
    report = index.add(folder)
    assert (report.added, report.updated) == (5, 0)
    good = {"red.png": "image", "deep/er/green": "image", "deep/bell.txt.wav": "audio", "note.txt": "text",
            "README.MD": "text"}  # fmt: skip
    rows = by_id(index)
    assert {id_: row["modality"] for id_, row in rows.items()} == {
        str(folder / name): modality for name, modality in good.items()
    }
    assert all(row["uri"] == id_ for id_, row in rows.items())
    assert rows[str(folder / "note.txt")]["text"] == "an apple"
    assert rows[str(folder / "red.png")]["text"] is None
    assert {(Path(failure.uri).name, failure.stage) for failure in report.failed} == {
        ("empty.txt", "read"), ("fake.jpg", "read"), ("broken.png", "decode"),
    }  # fmt: skip
    reasons = {Path(failure.uri).name: failure.reason for failure in report.failed}
    assert "is empty (0 bytes)" in reasons["empty.txt"]
    assert "holds text" in reasons["fake.jpg"]


def test_files_are_listed_in_order_of_name_without_hidden_ones(folder: Path) -> None:
    names = [str(path.relative_to(folder)) for path in files_in(folder)]
    assert names == ["README.MD", "broken.png", "deep/bell.txt.wav", "deep/er/green", "empty.txt", "fake.jpg",
                     "note.txt", "red.png"]  # fmt: skip


def test_adding_again_updates_changed_files_and_duplicates_none(
    index: Index, folder: Path, image: Write
) -> None:
    index.add(folder)
    image(folder / "red.png", (0, 0, 255))
    report = index.add(str(folder))
    assert (report.added, report.updated, report.unchanged, len(report.failed)) == (0, 1, 4, 3)
    assert len(index) == 5
    (best, *_) = index.search(Image(np.full((2, 2, 3), (0, 0, 255), np.uint8)), k=1)
    assert best.uri == str(folder / "red.png") and best.score == pytest.approx(1.0)


def test_a_file_has_one_id_however_its_path_is_written(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "deep")
    monkeypatch.setenv("HOME", str(folder))
    assert index.add("../red.png").added == 1
    for again in (
        Path("../red.png"),
        [Path("../red.png")],
        [Image("../red.png")],
        "~/red.png",
        [Path("~/red.png")],
    ):
        assert index.add(again) == IngestReport(0, 0, unchanged=1), again
    assert list(by_id(index)) == [str(folder / "red.png")]


def test_links_resolve_to_the_real_folder_and_a_loop_ends(index: Index, tmp_path: Path, image: Write) -> None:
    image(tmp_path / "elsewhere" / "blue.png", (0, 0, 255))
    root = tmp_path / "root"
    image(root / "a.png")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "dangling.png").symlink_to(tmp_path / "nowhere")
    report = index.add(root)
    assert set(by_id(index)) == {str(root / "a.png"), str(tmp_path / "elsewhere" / "blue.png")}
    (lost,) = report.failed
    assert lost.uri == str(root / "dangling.png") and "no such file" in lost.reason


def test_an_index_inside_the_folder_does_not_index_itself(space: Space, folder: Path) -> None:
    inside = Index.create(folder / "memories.lance", space)
    Index.create(folder / "another.lance", space).add(["a"])
    assert inside.add(folder).added == 5
    again = inside.add(folder)
    assert (again.added, again.unchanged, len(again.failed)) == (0, 5, 3)


def test_a_folder_that_cannot_be_listed_is_a_failure(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "deep":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    report = index.add(folder)
    assert report.added == 3
    where = str(folder / "deep")
    assert (
        Failure(where, "walk", f"{where}: cannot be listed (Permission denied); check its permissions")
        in report.failed
    )


def test_an_empty_folder_adds_nothing(index: Index, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert index.add(tmp_path / "empty") == IngestReport(0, 0, ())


def test_a_file_name_that_is_not_unicode_is_a_printable_failure(
    index: Index, tmp_path: Path, image: Write
) -> None:
    root = tmp_path / "odd"
    image(root / "fine.png")
    image(root / "x.png").rename(root / os.fsdecode(b"caf\xe9.png"))
    report = index.add(root)
    assert report.added == 1
    (odd,) = report.failed
    odd.uri.encode()
    assert odd.uri == f"{root}/caf\ufffd.png"
    assert "is not valid UTF-8, so it cannot be stored; rename it" in odd.reason


def test_a_named_pipe_is_a_failure_and_does_not_block(index: Index, tmp_path: Path) -> None:
    root = tmp_path / "pipes"
    root.mkdir()
    os.mkfifo(root / "p.txt")
    (failure,) = index.add(root).failed
    assert "is not a regular file" in failure.reason


# --- text files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [
    "a ☃ b".encode(), b"\xef\xbb\xbf" + "a ☃ b".encode(), "a ☃ b".encode("utf-16"),
])  # fmt: skip
def test_a_text_file_is_read_in_utf8_or_with_its_byte_order_mark(
    index: Index, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    assert index.add(tmp_path / "t.txt").added == 1
    assert index.rows()[0]["text"] == "a ☃ b"


def test_text_that_begins_like_audio_is_still_text(index: Index, tmp_path: Path) -> None:
    (tmp_path / "t.md").write_text("MAC addresses, and all that\n\tindented\n", encoding="utf-8")
    assert index.add(tmp_path / "t.md").added == 1
    assert index.rows()[0]["modality"] == "text"


def test_an_image_called_txt_is_an_image(index: Index, tmp_path: Path, image: Write) -> None:
    assert index.add(image(tmp_path / "p.txt")).added == 1
    assert index.rows()[0]["modality"] == "image"


NO_TEXT = "not text in UTF-8, UTF-16 or Latin-1, nor image, audio or video; save it as UTF-8"
MAX_TEXT_BYTES = IngestConfig().max_text_bytes
TOO_LARGE = "text larger than 8,388,608 bytes; split it into several files"


@pytest.mark.parametrize(("content", "reason"), [
    ("привет, мир".encode("koi8-r"), NO_TEXT),
    (b"a\0b", NO_TEXT),
    (b" \n", "the text is empty (' \\n'); there is nothing to encode"),
    (b"a " * (MAX_TEXT_BYTES // 2 + 1), TOO_LARGE),
    (b"a" + "é".encode() * (MAX_TEXT_BYTES // 2), TOO_LARGE),
])  # fmt: skip
def test_an_invalid_text_file_is_a_failure(index: Index, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "t.txt").write_bytes(content)
    (failure,) = index.add(tmp_path / "t.txt").failed
    assert failure.stage == "read" and reason in failure.reason


# --- items, pairs, ids ----------------------------------------------------------------------------


def test_in_a_list_a_str_is_text_even_if_a_file_has_that_name(
    index: Index, tmp_path: Path, image: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(tmp_path / "apple.png")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(PathLikeTextWarning, match=r"'apple.png' looks like a path and was taken as text"):
        index.add(["apple.png"])
    assert index.rows()[0] == {
        "id": index.rows()[0]["id"], "uri": None, "modality": "text", "text": "apple.png", "metadata": {},
        "start_s": None, "end_s": None, "start_char": None, "end_char": None,
    }  # fmt: skip


def test_a_single_item_is_added_without_a_list(index: Index) -> None:
    items: list[Any] = [
        Text("a"), (Text("b"), {"n": 1}), PIL.Image.new("RGB", (2, 2)), np.zeros((2, 2, 3), np.uint8) + 9,
        {"array": np.ones(80), "sampling_rate": 8000},
    ]  # fmt: skip
    for item in items:
        assert index.add(item) == IngestReport(1, 0, ())
    assert sorted(row["modality"] for row in index.rows()) == ["audio", "image", "image", "text", "text"]


def test_metadata_of_a_pair_takes_precedence(index: Index) -> None:
    index.add(
        [
            "a",
            ("b", {"album": "own"}),
            ("c", None),
            ({"array": np.ones(80), "sampling_rate": 8000}, {"x": True}),
        ],
        ids=["1", "2", "3", "4"],
        metadata={"album": "all", "n": np.int64(3), "half": np.float32(0.5)},
    )
    rest = {"n": 3, "half": 0.5}
    assert {id_: row["metadata"] for id_, row in by_id(index).items()} == {
        "1": {"album": "all", **rest}, "2": {"album": "own", **rest}, "3": {"album": "all", **rest},
        "4": {"album": "all", "x": True, **rest},
    }  # fmt: skip


def test_a_tuple_of_two_audio_mappings_is_two_items(index: Index) -> None:
    first, second = ({"array": np.full(80, level), "sampling_rate": 8000} for level in (0.5, 1.0))
    assert index.add((first, second)).added == 2


def test_an_item_without_uri_is_identified_by_its_content(index: Index) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    wave = {"array": np.linspace(0, 1, 80), "sampling_rate": 8000}
    for same in ("a b", Text("a b"), pixels, PIL.Image.fromarray(pixels), wave, Audio(wave)):
        index.add([same])
    assert len(index) == 3
    assert index.add([pixels.reshape(2, 8, 3)]).added == 1  # the same bytes, another picture
    assert index.add([{**wave, "sampling_rate": 16000}]).added == 1


def test_an_item_given_twice_is_stored_once_with_the_later_metadata(index: Index) -> None:
    report = index.add([("a", {"n": 1}), "b", ("a", {"n": 2})])
    assert report == IngestReport(2, 1, ())
    assert sorted((row["text"], row["metadata"].get("n", 0)) for row in index.rows()) == [("a", 2), ("b", 0)]


def test_ids_and_uris_of_the_caller_are_kept(index: Index) -> None:
    index.add([Text("a", uri="book:1"), Image(np.zeros((2, 2, 3), np.uint8) + 1, uri="s3://bucket/x.png")])
    assert set(by_id(index)) == {"book:1", "s3://bucket/x.png"}
    index.add(Text("b", uri="book:1"), ids="mine")
    assert by_id(index)["mine"]["uri"] == "book:1"


def test_an_iterator_is_read_no_further_than_needed(index: Index) -> None:
    config = IngestConfig(commit_rows=16, chunks_ahead=8, lookup_max=32, lookup_first=32)
    ahead = []

    def texts() -> Iterator[str]:
        for n in range(1000):
            if n % 50 == 0:
                ahead.append(n - len(index))
            yield f"{n} 1 0 0"

    assert index.add(texts(), batch_size=8, config=config).added == 1000
    opened = 64 + 8  # chunks that wait for the model, and documents opened by one thread
    looked_up = 3 * 32  # being read, being looked up, and waiting to be opened
    assert 0 < max(ahead) <= opened + looked_up + 4 * (16 + 8 * 8)  # the last term: being written


# --- a bad document never ends the job ------------------------------------------------------------


def test_bad_items_are_skipped_and_named_by_their_position(index: Index, tmp_path: Path) -> None:
    texts = [f"{n} 1 0 0" for n in range(50)]
    texts[7], texts[31] = "boom", "  "
    values: list[Any] = [
        *texts,
        None,
        Path(tmp_path / "none.png"),
        Image(b"junk"),
        np.zeros((2, 2), np.float32),
        Path("a\0b"),
    ]
    report = index.add(values, batch_size=16)
    assert report.added == 48 and len(index) == 48
    assert [(failure.uri, failure.stage) for failure in sorted(report.failed, key=lambda failure: failure.uri)] == [
        (str(tmp_path / "none.png"), "read"), ("a\0b", "read"), ("item 31", "read"), ("item 50", "read"),
        ("item 52", "decode"), ("item 53", "read"), ("item 7", "decode"),
    ]  # fmt: skip
    reasons = {failure.uri: failure.reason for failure in report.failed}
    assert reasons["item 7"] == "ZeroDivisionError: a bug far below"
    assert reasons["item 31"] == "the text is empty ('  '); there is nothing to encode"


def test_a_bad_item_does_not_change_the_vectors_of_its_batch(index: Index) -> None:
    index.add(["1 0 0 0", "boom", "0 1 0 0", "0 0 0 0", "0 0 1 0"])
    rows = {row["text"]: row["vector"].tolist() for row in index.rows(vectors=True)}
    assert rows == {"1 0 0 0": [1, 0, 0, 0], "0 1 0 0": [0, 1, 0, 0], "0 0 1 0": [0, 0, 1, 0]}


def test_a_vector_without_direction_is_a_failure(index: Index) -> None:
    (failure,) = index.add(["0 0 0 0"]).failed
    assert failure.stage == "encode" and "no finite direction" in failure.reason
    with pytest.raises(EncoderError):
        index.search("0 0 0 0")


def test_a_modality_that_the_space_lacks_is_a_failure(plain: Any, tmp_path: Path, folder: Path) -> None:
    words = Index.create(tmp_path / "words", plain.load("words"))
    report = words.add(folder)
    assert report.added == 2
    reasons = {Path(failure.uri).name: failure.reason for failure in report.failed}
    assert reasons["red.png"].startswith("image given to a space with text: 'plain/words' cannot encode it")


def test_progress_counts_each_document_once(index: Index, folder: Path) -> None:
    updates: list[Progress] = []
    index.add(folder, progress=updates.append)
    assert sum(update.step for update in updates) == updates[-1].done == len(files_in(folder)) == 8
    assert updates[-1].failed == 3 and updates[-1].rate > 0 and updates[-1].seconds > 0
    assert updates[-1].total in (8, None)  # counted in another thread, perhaps not yet


def test_progress_estimates_the_remaining_time() -> None:
    half = Progress(done=50, step=10, total=100, failed=1, seconds=5.0, rate=10.0)
    assert half.eta_s == 5.0 and half.to_dict()["eta_s"] == 5.0
    assert Progress(50, 10, None, 1, 5.0, 10.0).eta_s is None
    assert Progress(0, 0, 100, 0, 0.0, 0.0).eta_s is None


def test_an_interrupted_add_keeps_what_is_finished_and_resumes(index: Index) -> None:
    config = IngestConfig(commit_rows=10, progress_interval_s=0)

    def stop(state: Progress) -> None:
        if state.done > 25:
            raise KeyboardInterrupt

    texts = [f"{n} 1 0 0" for n in range(40)]
    with pytest.raises(KeyboardInterrupt):
        index.add(texts, batch_size=1, progress=stop, config=config)
    kept = [row["text"] for row in index.rows()]
    assert len(kept) == len(set(kept)) >= 25 and set(kept) < set(texts)
    assert index.add(texts) == IngestReport(40 - len(kept), 0, unchanged=len(kept))
    assert sorted(row["text"] for row in index.rows()) == sorted(texts)


def test_long_texts_fill_a_commit_too(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    upsert = ItemTable.upsert

    def counted(table: ItemTable, rows: Any, *rest: Any, **options: Any) -> None:
        written.append(len(rows))
        upsert(table, rows, *rest, **options)

    monkeypatch.setattr(ItemTable, "upsert", counted)
    texts = [f"a {n} " + "a " * 30 for n in range(6)]
    index.add(texts, batch_size=1, config=IngestConfig(commit_chars=100))
    assert written == [2, 2, 2]
