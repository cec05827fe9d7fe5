"""What a command would ignore, or could not write in the end, is refused before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from multimodal.core import catalog
from tests.cli.conftest import Cli

WRITERS: list[tuple[str, ...]] = [
    ("embed", "--text", "a", "-o"),
    ("caption", "--text", "a", "-o"),
    ("generate", "a", "-o"),
    ("teach", "photos", "-o"),
    ("audit", "starter", "-o"),
    ("evaluate", "starter", "data.csv", "-o"),
    ("scaling", "fit", "runs.csv", "-o"),
    ("search", "x.lance", "a", "--html"),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory in which no model can be loaded."""

    def load(*names: Any, **options: Any) -> Any:
        raise AssertionError(f"{names} is loaded before the arguments are checked")

    monkeypatch.setattr(catalog, "load", load)
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
        (("audit", "starter", "-o", "a.txt"), "must end in .html or .json"),
        (("audit", "--fleet", "starter", "./child", "-o", "a.html"), "has no effect with --fleet"),
        (("audit", "--fleet", "starter", "./child", "--against", "b"), "has no effect with --fleet"),
        (("audit", "--fleet", "starter", "starter"), "got a model twice"),
        (("evaluate", "a", "b", "data.csv", "-o", "r.json"), "holds the result of one model, got 2"),
        (("evaluate", "a", "data.csv", "-o", "r.csv"), "must end in .html or .htm or .json"),
        (("evaluate", "a", "--mteb", "x", "--group", "g"), "has no effect with --mteb"),
        (("export", "starter", "-o", "e", "--media", "link"), "has no effect without --format page"),
        (
            ("export", "starter", "-o", "e", "--format", "page", "--quantize", "int8"),
            "has no effect with --format",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_option_without_effect_is_refused(cli: Cli, command: tuple[str, ...], reason: str) -> None:
    outcome = cli(*command, "--json")
    assert outcome.code == 2
    assert reason in json.loads(outcome.stdout)["error"]["message"]
