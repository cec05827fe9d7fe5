"""Error messages of an index, word for word."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import PIL.Image
import pytest

from multimodal.core.errors import IndexStateError, InvalidInput, MediaNotFound, UnsupportedModality
from multimodal.core.space import Space
from multimodal.index import Index, IngestConfig, files_in
from tests import plugins


@pytest.fixture(scope="module")
def plain() -> Iterator[ModuleType]:
    with plugins.family("plain") as module:
        yield module


@pytest.fixture
def space(plain: ModuleType) -> Space:
    return plain.load()


@pytest.fixture
def index(space: Space, tmp_path: Path) -> Index:
    index = Index.create(tmp_path / "i", space)
    index.add([("a", {"n": 1}), "b"], ids=["1", "2"])
    return index


# --- making and opening ---------------------------------------------------------------------------


def test_another_space_is_refused_and_the_message_names_both(index: Index, plain: ModuleType) -> None:
    other = plain.load("2")
    for given in (other, "plain/2"):
        with pytest.raises(IndexStateError) as caught:
            Index.open(index.path, given)
        assert str(caught.value) == (
            f"the index at {str(index.path)!r} was created with the space 'plain' (text + image + audio, dim 4, "
            f"fingerprint {index.fingerprint[:12]}…), and is opened with 'plain/2' (text + image + audio, dim 4, "
            f"fingerprint {other.fingerprint[:12]}…): their vectors cannot be compared; open it with the first, or "
            "create a new index from the same files with the second"
        )
    assert len(Index.open(index.path)) == 2


def test_a_space_whose_weights_changed_under_its_name_is_refused(
    index: Index, plain: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = plain.load("2")
    monkeypatch.setattr(plain, "load", lambda rest, **options: changed)
    with pytest.raises(IndexStateError, match="their vectors cannot be compared"):
        Index.open(index.path)


def test_a_space_that_cannot_be_loaded_by_name_must_be_passed(space: Space, tmp_path: Path) -> None:
    space.name = "mine"
    Index.create(tmp_path / "i", space)
    with pytest.raises(IndexStateError) as caught:
        Index.open(tmp_path / "i")
    assert re.fullmatch(
        rf"the index at '{tmp_path}/i' was created with the space 'mine', which cannot be loaded as 'mine' \(.*\); "
        rf"pass it: Index\.open\('{tmp_path}/i', space\)",
        str(caught.value),
    )
    assert len(Index.open(tmp_path / "i", space)) == 0


def test_create_refuses_a_path_in_use(index: Index, space: Space, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "file").touch()
    for name, message in {
        "i": f"there is an index at '{tmp_path}/i' already: open it with Index.open('{tmp_path}/i'), or create it "
             "with exist_ok=True",
        "full": f"cannot create an index at '{tmp_path}/full': the path is a folder that is not empty; choose a new or "
                "empty folder",
        "file": f"cannot create an index at '{tmp_path}/file': the path is a file; choose a new or empty folder",
        "file/below": f"cannot create an index at '{tmp_path}/file/below': '{tmp_path}/file' is a file, not a folder; "
                      "choose another path",
    }.items():  # fmt: skip
        with pytest.raises(IndexStateError) as caught:
            Index.create(tmp_path / name, space)
        assert str(caught.value) == message
    assert len(index) == 2 and (tmp_path / "full" / "x").exists()


def test_open_refuses_a_path_without_index_and_creates_nothing(tmp_path: Path, space: Space) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name, results in {
        "nowhere": "the folder does not exist",
        "folder": "the path holds no index",
        "file": "the path holds no index",
    }.items():  # fmt: skip
        with pytest.raises(IndexStateError) as caught:
            Index.open(tmp_path / name, space)
        path = f"{tmp_path}/{name}"
        assert (
            str(caught.value)
            == f"no index at {path!r}: {results}; create one with Index.create({path!r}, space)"
        )
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("path", ["", "  ", "a\0b"])
def test_an_invalid_path_is_refused(path: str, space: Space) -> None:
    for make in (Index.create, Index.open):
        with pytest.raises(InvalidInput) as caught:
            make(path, space)
        assert (
            str(caught.value)
            == f"the path of an index must be a folder such as 'memories.lance', got {path!r}"
        )


def test_a_damaged_index_is_refused(index: Index, space: Space) -> None:
    shutil.rmtree(index.path / "items.lance" / "_versions")
    with pytest.raises(IndexStateError, match=r"^the index at '.*' is damaged or incomplete \("):
        Index.open(index.path, space)


def test_a_foreign_table_is_refused(tmp_path: Path, space: Space) -> None:
    import lancedb

    lancedb.connect(tmp_path / "theirs").create_table("items", [{"id": "x"}])
    with pytest.raises(IndexStateError, match="holds a LanceDB table that multimodal did not create"):
        Index.open(tmp_path / "theirs", space)


def test_an_index_of_a_later_format_is_refused(
    tmp_path: Path, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multimodal.index.storage import schema
    from multimodal.index.storage import table as store

    about = schema.IndexMetadata("plain", "plain", space.fingerprint, 4, ("text",), format=99)
    monkeypatch.setattr(schema, "read_index_metadata", lambda path, metadata: about)
    store.ItemTable.create(tmp_path / "late", about)
    monkeypatch.undo()
    with pytest.raises(
        IndexStateError, match="has format 99, this version reads up to 2: upgrade multimodal"
    ):
        Index.open(tmp_path / "late", space)


# --- adding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "options", "message"), [
    ([], {}, "the list of items to add is empty; give at least one"),
    (5, {}, "cannot tell whether a value of type int is text, image, audio or video: pass a str "
            "(text), a pathlib.Path, a PIL image or {'array': ..., 'sampling_rate': ...}, or make it explicit with "
            "Text(), Image(), Audio() or Video()"),
    (["a", "b"], {"ids": ["x"]}, "1 ids given for 2 items; give one for each"),
    (["a", "b"], {"ids": ["x", "x"]}, "the id 'x' is given twice; each item needs its own"),
    (["a"], {"ids": [""]}, "an id must be a str with at least one character, got ''; pass a number as str(number)"),
    (["a"], {"ids": [7]}, "an id must be a str with at least one character, got 7; pass a number as str(number)"),
    (["a"], {"ids": []}, "the list of ids is empty; give at least one"),
    (["a"], {"metadata": "x"}, "metadata must be a mapping such as {'album': 'x'}, got str"),
    (["a"], {"metadata": {"": 1}}, "a metadata key must be a str with at least one character, got ''"),
    (["a"], {"metadata": {1: 1}}, "a metadata key must be a str with at least one character, got 1"),
    (["a"], {"metadata": {"day": date(2020, 1, 2)}},
     "metadata 'day' is of type date; it must be str, int, float, bool or None: write a date as .isoformat(), "
     "anything else as json.dumps(...)"),
    (["a"], {"metadata": {"tags": ["x"]}},
     "metadata 'tags' is of type list; it must be str, int, float, bool or None: write a date as .isoformat(), "
     "anything else as json.dumps(...)"),
    (["a"], {"metadata": {"n": float("nan")}},
     "metadata 'n' is nan, which is not a finite number; use None for a value that is not known"),
    (["a"], {"metadata": {"n": 2**53 + 1}},
     "metadata 'n' is 9007199254740993, beyond 2**53, where numbers are no longer exact; store str(9007199254740993)"),
    (["a"], {"metadata": {"n": "\ud800"}},
     "metadata 'n' holds a lone surrogate at position 0, which is not valid Unicode"),
    (["a", ("b", {"n": {}})], {},
     "metadata 'n' is of type dict; it must be str, int, float, bool or None: write a date as .isoformat(), "
     "anything else as json.dumps(...)"),
    (["a"], {"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
    (["a"], {"threads": 0}, "threads must be a whole number of at least 1, got 0"),
    (["a"], {"threads": 1.5}, "threads must be a whole number of at least 1, got 1.5"),
    (["a"], {"wait": -1}, "wait must be a number of seconds of at least 0, or None for no limit, got -1"),
    (["a"], {"wait": "long"}, "wait must be a number of seconds of at least 0, or None for no limit, got 'long'"),
    (["a"], {"wait": float("nan")}, "wait must be a number of seconds of at least 0, or None for no limit, got nan"),
])  # fmt: skip
def test_invalid_arguments_raise_and_nothing_is_written(
    index: Index, source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        index.add(source, **options)
    assert str(caught.value) == message
    assert len(index) == 2


@pytest.mark.parametrize(("texts", "ids", "message"), [
    (["a", "b"], ["x"], "1 ids given for more items than that; give one for each"),
    (["a"], ["x", "y"], "2 ids given for 1 items; give one for each"),
])  # fmt: skip
def test_ids_that_do_not_fit_an_iterator_raise_after_the_items_before(
    index: Index, texts: list[str], ids: list[str], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        index.add(iter(texts), ids=ids)
    assert str(caught.value) == message
    assert {row["id"] for row in index.rows()} - set(ids[:1]) == {"1", "2"}


@pytest.mark.parametrize(("options", "message"), [
    ({"commit_rows": 0}, "commit_rows must be a whole number of at least 1, got 0"),
    ({"held_bytes": 1.5}, "held_bytes must be a whole number of at least 1, got 1.5"),
    ({"commit_interval_s": -1},
     "commit_interval_s must be a number of seconds of at least 0, got -1; leave it out for 10.0"),
    ({"progress_interval_s": float("nan")},
     "progress_interval_s must be a number of seconds of at least 0, got nan; leave it out for 0.1"),
    ({"lookup_wait_s": True},
     "lookup_wait_s must be a number of seconds of at least 0, got True; leave it out for 0.5"),
])  # fmt: skip
def test_an_ingest_config_refuses_invalid_bounds(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        IngestConfig(**options)
    assert str(caught.value) == message


def test_a_text_file_above_the_configured_size_is_a_failure(index: Index, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("a long text", encoding="utf-8")
    (failure,) = index.add(path, config=IngestConfig(max_text_bytes=10)).failed
    assert failure.reason == (
        f"{path}: text larger than 10 bytes; split it into several files, or raise max_text_bytes"
    )
    assert index.add(path, config=IngestConfig(max_text_bytes=11)).added == 1


def test_a_missing_path_raises(index: Index, tmp_path: Path) -> None:
    with pytest.raises(MediaNotFound) as caught:
        index.add(str(tmp_path / "none"))
    assert str(caught.value) == (
        f"{tmp_path}/none: no such folder or file; check the path (to add a text, put it in a list: "
        f"['{tmp_path}/none'])"
    )


def test_files_in_refuses_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFound, match=r"none: no such folder; check the path$"):
        files_in(tmp_path / "none")


def test_ids_for_a_folder_are_refused(index: Index, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        index.add(tmp_path, ids=["x"])
    assert (
        str(caught.value)
        == f"'{tmp_path}' is a folder, and files are identified by their paths: leave out ids"
    )


def test_sync_refuses_a_missing_folder_and_a_single_file(index: Index, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    for source, kind, message in (
        (tmp_path / "none", MediaNotFound, f"{tmp_path}/none: no such folder; check the path (nothing was changed)"),
        ([], InvalidInput, "the list of folders is empty; give at least one"),
        (tmp_path / "x.png", InvalidInput,
         f"{tmp_path}/x.png: sync takes folders, tables and archives, got a file; add it with Index.add"),
    ):  # fmt: skip
        with pytest.raises(kind) as caught:
            index.sync(source)  # type: ignore[arg-type]
        assert str(caught.value) == message
    assert len(index) == 2


def test_an_index_in_a_read_only_folder_raises(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(IndexStateError) as caught:
        index.delete("1")
    monkeypatch.undo()
    assert str(caught.value) == (
        f"cannot write to the index at {str(index.path)!r}: Permission denied; choose an index in a folder that can be "
        "written"
    )
    assert len(index) == 2


def test_bad_files_are_reported_with_reasons_and_good_ones_added(index: Index, tmp_path: Path) -> None:
    root = tmp_path / "mixed"
    root.mkdir()
    PIL.Image.new("RGB", (64, 64), (9, 99, 199)).save(root / "good.png")
    PIL.Image.effect_noise((64, 64), 90).convert("RGB").save(root / "noise.jpg")
    (root / "cut.jpg").write_bytes((root / "noise.jpg").read_bytes()[:900])
    (root / "header.png").write_bytes((root / "good.png").read_bytes()[:33] + b"garbage" * 9)
    (root / "empty.png").touch()
    (root / "words.jpg").write_text("these are words", encoding="utf-8")
    (root / "table.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (root / "blob").write_bytes(bytes(range(256)))
    (root / "cut.wav").write_bytes(b"RIFF\x24\0\0\0WAVE")
    report = index.add(root)
    assert (report.added, report.skipped) == (3, {"blob": 1})
    assert {Path(row["uri"]).name for row in index.rows(modality="image")} == {"good.png", "noise.jpg"}
    reasons = {Path(failure.uri).name: failure.reason for failure in report.failed}
    assert sorted(reasons) == [
        "cut.jpg",
        "cut.wav",
        "empty.png",
        "header.png",
        "words.jpg",
    ]
    assert all(reason.startswith(f"{root}/{name}: ") for name, reason in reasons.items()), reasons
    assert "0 bytes" in reasons["empty.png"]
    assert "holds text, not an image, audio or a video" in reasons["words.jpg"]
    assert json.loads(json.dumps(report.to_dict()))["failed"][0]["uri"] == f"{root}/cut.jpg"


# --- searching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "options", "message"), [
    ([], {}, "the list of queries is empty; give at least one"),
    ("", {}, "the text is empty (''); there is nothing to encode"),
    (np.zeros(3), {}, "vectors of shape (3,) given where (n, 4) or (4,) is due; were they made by another space?"),
    (np.zeros(4), {}, "vectors must have a direction: zero (or infinite) length in row 0"),
    (np.array([1.0, np.nan, 0, 0]), {}, "vectors must be finite: NaN or infinity in row 0"),
    (["a", np.ones((1, 4))], {}, "query 1 has shape (1, 4); in a list, a vector has shape (4,)"),
    ("a", {"k": 0}, "k must be a whole number of at least 1, got 0"),
    ("a", {"k": -3}, "k must be a whole number of at least 1, got -3"),
    ("a", {"k": 2.0}, "k must be a whole number of at least 1, got 2.0"),
    ("a", {"k": True}, "k must be a whole number of at least 1, got True"),
    ("a", {"modality": "picture"}, "'picture' is no modality; use one of text, image, audio"),
    ("a", {"modality": ["text", 3]}, "3 is no modality; use one of text, image, audio"),
    ("a", {"modality": []}, "the list for modality is empty, so nothing could match; leave it out to match all"),
    ("a", {"where": "album = 'x'"}, "where must be a mapping such as {'album': 'x'}, got str"),
    ("a", {"where": {"": 1}}, "a metadata key must be a str with at least one character, got ''"),
    ("a", {"where": {"n": []}}, "where['n'] is an empty list, so nothing could match; leave the key out to match all"),
    ("a", {"where": {"n": {}}}, "where['n'] must be a range such as {'>=': 2000, '<': 2010} with > >= < <=; got []"),
    ("a", {"where": {"n": {"$gt": 1}}},
     "where['n'] must be a range such as {'>=': 2000, '<': 2010} with > >= < <=; got ['$gt']"),
    ("a", {"where": {"n": {">": None}}}, "where['n']: a range needs a number or a text, got None"),
    ("a", {"where": {"n": {">": True}}}, "where['n']: a range needs a number or a text, got True"),
    ("a", {"where": {"n": {">": float("inf")}}},
     "where['n'] is inf, which is not a finite number; use None for a value that is not known"),
    ("a", {"where": {"n": date(2020, 1, 2)}},
     "where['n'] is of type date; it must be str, int, float, bool or None: write a date as .isoformat(), "
     "anything else as json.dumps(...)"),
])  # fmt: skip
def test_an_invalid_search_is_refused(
    index: Index, query: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        index.search(query, **options)
    assert str(caught.value) == message


def test_a_modality_that_the_space_lacks_is_refused(index: Index, plain: ModuleType, tmp_path: Path) -> None:
    assert len(index.search("a", modality="video")) == 0  # a space of images can hold videos, as their frames
    words = Index.create(tmp_path / "words", plain.load("words"))
    with pytest.raises(UnsupportedModality, match=r"^image given to a space with text"):
        words.search("a", modality="image")
    with pytest.raises(UnsupportedModality, match=r"^image given to a space with text"):
        words.search(np.zeros((2, 2, 3), np.uint8))


@pytest.mark.parametrize(("ids", "message"), [
    ([], "the list of ids is empty; give at least one"),
    ("", "an id must be a str with at least one character, got ''; pass a number as str(number)"),
    ([3], "an id must be a str with at least one character, got 3; pass a number as str(number)"),
])  # fmt: skip
def test_delete_refuses_invalid_ids(index: Index, ids: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        index.delete(ids)
    assert str(caught.value) == message
    assert len(index) == 2
