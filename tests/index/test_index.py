from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import lancedb
import pytest

import multimodal
from multimodal.core.errors import IndexStateError
from multimodal.core.space import Space
from multimodal.index import Index, SearchConfig
from multimodal.index.storage.table import ItemTable
from tests import plugins

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def python(code: str, *arguments: str) -> str:
    """What a new process prints that knows the family `plain`."""
    begin = plugins.registration("plain")
    command = [sys.executable, "-W", "error", "-c", begin + code, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_public_face_is_this_class() -> None:
    assert multimodal.Index is Index


def test_importing_the_room_loads_neither_lancedb_nor_torch() -> None:
    loaded = python("import sys, multimodal.index; print(*sorted({m.split('.')[0] for m in sys.modules}))")
    assert {"lancedb", "pyarrow", "torch", "PIL"} & set(loaded.split()) == set()


def test_an_index_is_found_again_by_a_new_process(index: Index) -> None:
    index.add([("a b", {"album": "x"}), "1 0 0 0", "☃ 'quoted'"])
    out = python(
        "import json, sys, multimodal\n"
        "index = multimodal.Index.open(sys.argv[1])\n"
        "(best,) = index.search('2 0 0 0', k=1)\n"
        "index.add(['from the other one'])\n"
        "print(json.dumps([len(index), best.to_dict(), sorted(row['text'] for row in index.rows())]))",
        str(index.path),
    )
    n, best, texts = json.loads(out)
    assert n == 4
    assert best == index.search("2 0 0 0", k=1)[0].to_dict()
    assert best["text"] == "1 0 0 0" and best["score"] == 1.0
    assert texts == sorted(["a b", "1 0 0 0", "☃ 'quoted'", "from the other one"])
    assert len(index) == 4  # the handle that was open sees it too


def test_a_space_loaded_from_a_folder_is_found_again(space: Space, tmp_path: Path) -> None:
    space.save_pretrained(tmp_path / "kept")
    Index.create(tmp_path / "of-a-space.lance", multimodal.load(tmp_path / "kept")).add([("red", {})])
    again = Index.open(tmp_path / "of-a-space.lance")
    assert again.space.address == str((tmp_path / "kept").resolve())
    assert len(again) == 1


def test_open_loads_the_space_by_the_name_it_was_made_with(plain: ModuleType, tmp_path: Path) -> None:
    made = Index.create(tmp_path / "i", "plain/2")
    assert made.space.name == "plain/2"
    opened = Index.open(str(tmp_path / "i"))
    assert opened.space.fingerprint == made.fingerprint == opened.fingerprint
    assert opened.fingerprint != plain.load().fingerprint


def test_a_space_in_a_folder_is_found_again_from_anywhere(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.save_pretrained(tmp_path / "my-space")
    monkeypatch.chdir(tmp_path)
    Index.create("a", "./my-space")
    Index.create("b", Path("my-space"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("a", "b"):
        assert Index.open(tmp_path / name).fingerprint == space.fingerprint


def test_create_makes_the_folders_above_and_takes_an_empty_one(space: Space, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "new" / "er", tmp_path / "empty", tmp_path / "a b%20#?é"):
        Index.create(path, space).add(["a"])
        assert Index.exists(path) and len(Index.open(path)) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a b%20#?é",
        "empty",
        "new",
    ]  # no scratch is left


def test_a_creation_that_fails_leaves_nothing(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def table_schema(index_metadata: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("multimodal.index.storage.schema.table_schema", table_schema)
    with pytest.raises(KeyboardInterrupt):
        Index.create(tmp_path / "i", space)
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_create_one_index_one_wins(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def slow(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        Index.create(tmp_path / "i", space).add(["a"])
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", slow)
    with pytest.raises(IndexStateError, match=r"there is an index at .* already"):
        Index.create(tmp_path / "i", space)
    assert len(Index.open(tmp_path / "i")) == 1


def test_delete_removes_the_ids_that_are_there_and_counts_them(index: Index) -> None:
    index.add(["a", "b", "c", "a b"], ids=["1", "o'clock", "3", "4"])
    assert index.delete(["o'clock", "3", "not there"]) == 2
    assert index.delete("1") == 1 and index.delete("1") == 0
    assert [row["id"] for row in index.rows()] == ["4"]
    assert index.delete(["' OR true --", "x') OR ('1'='1"]) == 0
    assert len(index) == 1


def test_many_ids_are_deleted_at_once(index: Index) -> None:
    ids = [f"{n}" for n in range(2500)]
    index.add([f"{n} 1 0 0" for n in range(2500)], ids=ids, batch_size=500)
    assert index.delete(ids[:2499]) == 2499
    assert [row["id"] for row in index.rows()] == ["2499"]


def test_rows_are_what_was_added_and_can_be_filtered(index: Index) -> None:
    index.add([("3 4 0 0", {"n": 1}), ("a", {"n": 2})], ids=["x", "y"])
    whole = dict.fromkeys(("start_s", "end_s", "start_char", "end_char"))
    assert sorted(index.rows(), key=lambda row: row["id"]) == [
        {"id": "x", "uri": None, "modality": "text", "text": "3 4 0 0", "metadata": {"n": 1}} | whole,
        {"id": "y", "uri": None, "modality": "text", "text": "a", "metadata": {"n": 2}} | whole,
    ]
    (row,) = index.rows(where={"n": 1}, vectors=True)
    assert row["vector"].dtype == "float32"
    assert row["vector"].tolist() == pytest.approx([0.6, 0.8, 0, 0])
    assert list(index.rows(modality="image")) == []


def test_an_empty_index_is_true_and_has_no_rows(index: Index) -> None:
    assert len(index) == 0 and index
    assert list(index.rows()) == [] and index.search("a") == []
    assert index.search(["a", "b"]) == [[], []]


def test_two_handles_write_at_once_and_lose_nothing(index: Index, space: Space, plain: ModuleType) -> None:
    other = Index.open(index.path, plain.load())
    errors: list[BaseException] = []

    def write(handle: Index, start: int) -> None:
        try:
            for n in range(start, start + 8):
                handle.add([f"{n} 1 0 0", "shared"])
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=write, args=(handle, 100 * k)) for k, handle in enumerate((index, other), 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    texts = sorted(row["text"] for row in index.rows())
    assert texts == sorted([f"{n} 1 0 0" for n in (*range(100, 108), *range(200, 208))] + ["shared"])


def test_many_small_adds_do_not_leave_as_many_files(space: Space, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i", space, search_config=SearchConfig(max_small_fragments=8))
    for n in range(30):
        index.add([f"{n} 1 0 0"], ids=f"{n}")
    assert lancedb.connect(index.path).open_table("items").stats()["fragment_stats"]["num_fragments"] <= 9
    assert sorted(row["id"] for row in index.rows()) == sorted(f"{n}" for n in range(30))
    assert index.add(["1 0 0 0"], ids="3").updated == 1 and index.search("1 0 0 0", k=1)[0].id == "3"


@pytest.mark.parametrize(
    ("reason", "raises"), [("Retryable commit conflict for version 3", False), ("disk", True)]
)
def test_tidying_gives_way_to_another_writer(
    space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, raises: bool
) -> None:
    def optimize(table: Any, **options: Any) -> None:
        raise RuntimeError(reason)

    index = Index.create(tmp_path / "i", space, search_config=SearchConfig(max_small_fragments=0))
    monkeypatch.setattr(lancedb.table.LanceTable, "optimize", optimize)
    with pytest.raises(RuntimeError, match="disk") if raises else contextlib.nullcontext():
        assert index.add(["a"]).added == 1
    assert len(index) == 1


def test_it_shows_itself(index: Index) -> None:
    index.add(["a", "b"])
    assert repr(index) == f"Index({str(index.path)!r}, 2 items, space='plain')"
    assert (
        "<td>text</td><td>2</td>" in index._repr_html_() and "<td>image</td><td>0</td>" in index._repr_html_()
    )


def test_what_the_index_is_lies_in_the_table_itself(index: Index) -> None:
    about = ItemTable.open(index.path).index_metadata
    assert (about.space, about.dim, about.modalities) == ("plain", 4, ("text", "image", "audio"))
    assert about.fingerprint == index.space.fingerprint
