"""`multimodal delete`, `export-index` and `reindex`, and two processes that create one index at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from multimodal.cli.indexes import delete as delete_command
from multimodal.cli.indexes.reindex import default_output
from multimodal.index import Index
from tests import plugins
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]


def test_delete_takes_paths_and_conditions(
    cli: Cli, media: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(media)
    outcome = cli("delete", index, "red.png", media / "green.png")
    assert (outcome.code, outcome.stdout) == (0, f"2 deleted; {index} now holds 3\n")
    cli("index", "blue.png", "--index", index, "--metadata", "place=Rome")
    assert cli("delete", index, "--where", "place=Rome", "--json").json() == {
        "index": str(index), "deleted": 1, "total": 2, "dry_run": False,
    }  # fmt: skip
    assert cli("delete", index, "--modality", "audio", "--json").json()["deleted"] == 1
    assert (media / "red.png").is_file()
    outcome = cli("delete", index, "none")
    assert (outcome.code, outcome.stderr) == (0, "note: no item matched\n")


def test_a_dry_run_of_delete_shows_what_it_would_delete_and_deletes_nothing(
    cli: Cli, media: Path, index: Path
) -> None:
    outcome = cli("delete", index, "--modality", "image", "--dry-run")
    assert outcome.code == 0 and "3 of 5 items would be deleted; nothing was written" in outcome.stdout
    assert str(media / "red.png") in outcome.stdout
    output = cli("delete", index, "--modality", "image", "--dry-run", "--json").json()
    assert output["would_delete"] == sorted(str(media / f"{name}.png") for name in ("blue", "green", "red"))
    assert output["total"] == len(Index.open(index)) == 5


@pytest.mark.parametrize(("answer", "code", "left"), [(True, 0, 2), (False, 1, 5)])
def test_delete_asks_in_a_terminal(
    cli: Cli, index: Path, monkeypatch: pytest.MonkeyPatch, answer: bool, code: int, left: int
) -> None:
    requests: list[str] = []

    def confirm(text: str, **options: Any) -> bool:
        requests.append(text)
        if not answer:
            raise typer.Abort
        return True

    monkeypatch.setattr(delete_command.typer, "confirm", confirm)
    monkeypatch.setattr(delete_command, "_is_interactive", lambda: True)
    outcome = cli("delete", index, "--modality", "image")
    assert (outcome.code, requests, len(Index.open(index))) == (code, ["delete 3 of 5 items?"], left)
    cli("delete", index, "--modality", "text", "--yes")
    assert requests == ["delete 3 of 5 items?"]


def test_delete_without_a_selection_is_wrong_usage(cli: Cli, index: Path) -> None:
    outcome = cli("delete", index)
    assert outcome.code == 2 and "select them with --where or --modality" in " ".join(outcome.stderr.split())
    outcome = cli("delete", index.with_name("none"), "x")
    assert outcome.code == 1 and outcome.stderr.startswith("error: no index at ")


def test_delete_and_export_load_no_model(cli: Cli, media: Path, index: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from multimodal.cli.main import app\n"
        "index, out, file = sys.argv[1:]\n"
        "app(['export-index', index, out], standalone_mode=False)\n"
        "app(['delete', index, file], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", code, str(index), str(tmp_path / "out.parquet"), str(media / "red.png")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Index.open(index)) == 4


def test_export_index_writes_rows_and_vectors(cli: Cli, index: Path, tmp_path: Path) -> None:
    output = cli("export-index", index, tmp_path / "out.npy", "--modality", "image", "--json").json()
    assert (output["items"], output["output"]) == (3, str(tmp_path / "out.npy"))
    vectors = np.load(tmp_path / "out.npy")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    stored = {row["id"]: row["vector"] for row in Index.open(index).rows(vectors=True)}
    for row, vector in zip(rows, vectors, strict=True):
        np.testing.assert_array_equal(vector, stored[row["id"]])
    outcome = cli("export-index", index, tmp_path / "out.npy")
    assert outcome.code == 1
    assert "already exists: choose another name, or replace it with --force" in outcome.stderr
    assert cli("export-index", index, tmp_path / "out.npy", "--force").code == 0
    outcome = cli("export-index", index, tmp_path / "out.csv")
    assert outcome.code == 1 and "exported as .parquet, .jsonl, .npy" in outcome.stderr


def test_reindex_reports_what_is_gone_and_keeps_the_old_index(cli: Cli, media: Path, index: Path) -> None:
    (media / "red.png").unlink()
    with plugins.family("plain"):
        outcome = cli("reindex", index, "--space", "plain", "--json")
        target = index.with_name("memories-plain.lance")
        report = outcome.json()
        assert outcome.code == 3
        assert (report["index"], report["space"], report["added"]) == (str(target), "plain", 4)
        assert [Path(failure["uri"]).name for failure in report["failed"]] == ["red.png"]
        assert len(Index.open(target)) == 4
        assert cli("reindex", index, "--space", "plain", "--json").json()["unchanged"] == 4
    assert len(Index.open(index)) == 5
    outcome = cli("reindex", index, "--space", "toy", "-o", index)
    assert outcome.code == 2 and "cannot take the place of the old one" in " ".join(outcome.stderr.split())


def test_the_new_index_is_named_after_its_model() -> None:
    index = Path("a/memories.lance")
    assert default_output(index, "openclip/ViT-B-32:laion2b") == Path(
        "a/memories-openclip-vit-b-32-laion2b.lance"
    )
    assert default_output(index, "./my-space/") == Path("a/memories-my-space.lance")


def test_two_processes_that_create_one_index_at_once_both_succeed(media: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.lance"
    code = (
        f"{plugins.registration('toy')}"
        "import sys, time\n"
        "from pathlib import Path\n"
        "from multimodal.index.storage.table import ItemTable\n"
        "create = ItemTable.create\n"
        "def late(*arguments):\n"  # both have found no index by now
        "    Path(sys.argv.pop()).touch()\n"
        f"    while len(list(Path({str(tmp_path)!r}).glob('*.ready'))) < 2: time.sleep(0.01)\n"
        "    return create(*arguments)\n"
        "ItemTable.create = late\n"
        "from multimodal.cli.main import app\n"
        "app(sys.argv[1:-1])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, "index", str(file), "--index", str(path), "--space", "toy",
             str(tmp_path / f"{number}.ready")],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number, file in enumerate((media / "red.png", media / "note.txt"))
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert all("1 added, 0 updated, 0 failed" in out for out, _ in outputs)
    assert len(Index.open(path)) == 2
