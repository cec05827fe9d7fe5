"""`multimodal map`: an index in, one file out, and what was done on the screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def test_a_page_is_written_and_said_how(cli: Cli, index: Path, tmp_path: Path) -> None:
    outcome = cli("map", index, "-o", tmp_path / "map.html")
    assert outcome.code == 0
    size = (tmp_path / "map.html").stat().st_size
    assert outcome.stdout == f"{tmp_path / 'map.html'}: 5 items by PCA, {size / 1e6:.1f} MB\n"
    assert outcome.stderr == "note: PCA is used: 5 items are too few for UMAP\n"
    assert (tmp_path / "map.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_json_is_the_report(cli: Cli, index: Path, tmp_path: Path) -> None:
    result = cli(
        "map", index, "-o", tmp_path / "m.html", "--method", "pca", "--no-centre", "--max-mb", "0", "--json"
    )
    report = result.json()
    assert result.stderr == ""
    assert (report["n_items"], report["n_inlined"], report["n_left_out"]) == (5, 0, 4)
    assert (report["method"], report["centred"], report["output"]) == ("pca", False, str(tmp_path / "m.html"))
    assert cli("map", index, "-o", tmp_path / "m.html", "--limit", 3, "--json").json()["n_items"] == 3


def test_an_image_is_written(cli: Cli, index: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert cli("map", index, "--output", tmp_path / "map.png").code == 0
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "map.gif"), "error: a map is written as .html or .png, got 'map.gif'\n"),
        (
            ("-o", "map.html", "--method", "magic"),
            "error: method must be one of 'auto', 'umap', 'pca', got 'magic'\n",
        ),
    ],
)
def test_what_cannot_be_drawn_is_one_line_on_stderr(
    cli: Cli,
    index: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("map", index, *arguments)
    assert (outcome.code, outcome.stdout, outcome.stderr) == (1, "", message)
    assert not (tmp_path / "map.html").exists()


def test_no_index_and_an_empty_one_are_distinguished(cli: Cli, tmp_path: Path) -> None:
    from multimodal.index import Index

    outcome = cli("map", tmp_path / "none.lance", "-o", tmp_path / "map.html")
    assert outcome.code == 1
    assert outcome.stderr.startswith(
        f"error: no index at '{tmp_path / 'none.lance'}': the folder does not exist; "
    )
    Index.create(tmp_path / "new.lance", "toy")
    outcome = cli("map", tmp_path / "new.lance", "-o", tmp_path / "map.html")
    assert outcome.code == 1
    assert outcome.stderr == (
        f"error: the index at '{tmp_path / 'new.lance'}' is empty, and a map needs at least 2 items; add some with: "
        f"multimodal index FOLDER --index {tmp_path / 'new.lance'}\n"
    )
