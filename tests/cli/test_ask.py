"""`multimodal ask`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.fixture
def notes(cli: Cli, tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "tower.txt").write_text("The tower is [very] old. It is 47 metres high.", encoding="utf-8")
    (folder / "soup.txt").write_text("Fry six onions for the soup.", encoding="utf-8")
    path = tmp_path / "notes.lance"
    assert cli("index", folder, "--index", path, "--space", "toy").code == 0
    return path


def test_an_answer_is_printed_with_its_source(cli: Cli, notes: Path) -> None:
    outcome = cli("ask", notes, "How high is the tower?")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout == "The tower is [very] old. It is 47 metres high.\n[1] tower.txt\n"
    assert cli("ask", notes, "How high is the tower?", "--stream").stdout == outcome.stdout


def test_json_holds_the_whole_answer(cli: Cli, notes: Path) -> None:
    output = cli("ask", notes, "How high is the tower?", "-k", 1, "--json").json()
    assert (output["refused"], output["citations"][0]["number"], len(output["hits"])) == (False, 1, 1)


def test_no_answer_is_exit_code_4(cli: Cli, notes: Path) -> None:
    outcome = cli("ask", notes, "Which horse won the derby?")
    assert (outcome.code, outcome.stderr) == (4, "note: no answer: not found\n")
    assert cli("ask", notes, "Which horse won the derby?", "--json").json()["reason"] == "not found"


def test_a_missing_question_index_or_file_is_reported(cli: Cli, notes: Path, tmp_path: Path) -> None:
    assert cli("ask", notes).code == 2
    assert cli("ask", tmp_path / "none", "a?").code == 1
    assert "no such file" in cli("ask", notes, "a?", "--image", tmp_path / "x.png").stderr
    assert "the question is empty" in cli("ask", notes, " ").stderr
