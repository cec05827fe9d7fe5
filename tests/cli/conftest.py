"""The command line on the toy family, which is loaded by name like any other: `--space toy`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from multimodal.cli.main import app
from tests import plugins

RED, GREEN, BLUE = (220, 30, 30), (30, 200, 40), (20, 40, 210)


class Outcome:
    """What a command left: its exit code, and its two streams apart."""

    def __init__(self, code: int, stdout: str, stderr: str) -> None:
        self.code, self.stdout, self.stderr = code, stdout, stderr

    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.stdout)
        return content


Cli = Callable[..., Outcome]


@pytest.fixture
def cli() -> Cli:
    """Runs a command in this process: cli("search", path, "a cat")."""

    def run(*arguments: object) -> Outcome:
        runner = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"})
        result = runner.invoke(app, [str(argument) for argument in arguments], prog_name="multimodal")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(autouse=True, scope="module")
def toy() -> Iterator[None]:
    """Registers the family `toy`."""
    with plugins.family("toy"):
        yield


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder with three pictures, a sound and a note."""
    folder = tmp_path / "media"
    folder.mkdir()
    for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE)):
        Image.new("RGB", (24, 16), colour).save(folder / f"{name}.png")
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000)
    soundfile.write(folder / "tone.wav", tone, 16_000)
    (folder / "note.txt").write_text("a red apple\n", encoding="utf-8")
    return folder


@pytest.fixture
def index(cli: Cli, media: Path, tmp_path: Path) -> Path:
    """An index of that folder."""
    path = tmp_path / "memories.lance"
    outcome = cli("index", media, "--index", path, "--space", "toy")
    assert outcome.code == 0, outcome.stderr
    return path
