"""What a command would ignore, or could not write in the end, is refused before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

WRITERS: list[tuple[str, ...]] = [
    ("embed", "--text", "a", "--space", "nowhere", "-o"),
    ("caption", "--text", "a", "--model", "nowhere", "-o"),
    ("generate", "a", "--model", "nowhere", "-o"),
    ("teach", "photos", "--space", "nowhere", "-o"),
    ("audit", "nowhere", "-o"),
    ("evaluate", "nowhere", "data.csv", "-o"),
    ("scaling", "fit", "runs.csv", "-o"),
    ("search", "x.lance", "a", "--html"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory. No model is called "nowhere": loading it first would fail with exit code 1."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: command[0])
def test_a_file_that_cannot_be_written_is_refused_first(
    cli: Cli, folder: Path, command: tuple[str, ...]
) -> None:
    name, more = ("out.png", ("--force",)) if command[0] == "generate" else ("out.html", ())
    missing = cli(*command, f"gone/{name}")
    assert missing.code == 2 and "does not exist" in missing.stderr
    (folder / name).mkdir()
    taken = cli(*command, name, *more)
    assert taken.code == 2 and "is a folder" in taken.stderr


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("audit", "nowhere", "-o", "a.txt"), "must end in .html or .json"),
        (("audit", "--fleet", "nowhere", "./child", "-o", "a.html"), "has no effect with --fleet"),
        (("audit", "--fleet", "nowhere", "./child", "--against", "b"), "has no effect with --fleet"),
        (("audit", "--fleet", "nowhere", "nowhere"), "got a model twice"),
        (("evaluate", "a", "b", "data.csv", "-o", "r.json"), "holds the result of one model, got 2"),
        (("evaluate", "a", "data.csv", "-o", "r.csv"), "must end in .html or .htm or .json"),
        (("evaluate", "a", "--mteb", "x", "--group", "g"), "has no effect with --mteb"),
        (("export-index", "x.lance", "x.npy", "--no-vectors"), "a .npy file holds the vectors"),
        (("export", "nowhere", "-o", "e", "--media", "link"), "has no effect without --format page"),
        (
            ("export", "nowhere", "-o", "e", "--format", "page", "--quantize", "int8"),
            "has no effect with --format",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_without_effect_is_refused(cli: Cli, command: tuple[str, ...], reason: str) -> None:
    outcome = cli(*command, "--json")
    assert outcome.code == 2
    assert reason in json.loads(outcome.stdout)["error"]["message"]


def test_nothing_to_do_and_one_file_for_several_transcripts_are_errors(cli: Cli, folder: Path) -> None:
    empty = cli("caption", folder)
    assert empty.code == 1 and "no images, audio or video in" in empty.stderr
    for name in ("a.wav", "b.wav"):
        (folder / name).touch()
    several = cli("transcribe", "a.wav", "b.wav", "-o", "both.srt")
    assert several.code == 2 and "there are 2 inputs: name a folder" in " ".join(several.stderr.split())


def test_a_table_of_runs_that_is_not_text_and_a_missing_index_are_explained(cli: Cli, folder: Path) -> None:
    (folder / "runs.csv").write_bytes(b"\xff\xfe\x01")
    assert "'runs.csv' cannot be read" in cli("scaling", "fit", "runs.csv").stderr
    missing = cli("delete", "nope.lance", "a")
    assert "create one with: multimodal index FOLDER --index" in missing.stderr
