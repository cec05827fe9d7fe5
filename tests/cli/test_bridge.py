"""`multimodal bridge`: two spaces in, a folder out, its own verdict on the screen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import multimodal as mm
from multimodal.adapt.bridging import mlp
from tests.adapt.conftest import apart, sentences
from tests.cli.conftest import Cli

__all__ = ["apart"]  # a fixture


@pytest.fixture(autouse=True)
def quick(apart: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(mlp, "TrainingConfig", partial(mlp.TrainingConfig, steps=60, batch=128))
    yield


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(sentences(600)), encoding="utf-8")
    return path


def test_a_bridge_is_made_and_opens_as_a_space(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    outcome = cli("bridge", "apart/ears", "apart/eyes", "--corpus", corpus, "--out", tmp_path / "joined")
    assert outcome.code == 0
    rows = dict(
        re.findall(r"^ *(before|chance|after|training items) +.* ([\d.]+)%", outcome.stdout, re.MULTILINE)
    )
    assert float(rows["after"]) > 90 > 40 > float(rows["before"])
    assert float(rows["training items"]) > 90
    assert "audio aligned through text (kernel, " in outcome.stdout
    assert outcome.stderr.startswith(
        "note: no audio was given, so the gap between audio and text in 'apart/ears' is not"
    )
    assert mm.load(tmp_path / "joined").modalities == ("text", "image", "audio")


def test_json_is_the_report(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    arguments = ("bridge", "apart/ears", "apart/eyes", "--corpus", corpus, "--out", tmp_path / "j", "--json")
    output = cli(*arguments, "--method", "ridge", "--seed", "7", "--over", "text").json()
    assert output["out"] == str(tmp_path / "j")
    assert output["space"]["fingerprint"] == mm.load(tmp_path / "j").fingerprint
    assert (output["report"]["method"], output["report"]["seed"]) == ("ridge", 7)
    assert output["report"]["n_texts"] == 600


def test_given_again_it_is_not_made_again(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    arguments = ("bridge", "apart/ears", "apart/eyes", "--corpus", corpus, "--out", tmp_path / "j", "--json")
    first = cli(*arguments).json()
    assert cli(*arguments).json() == first


def test_a_poor_bridge_is_said_on_stderr(
    cli: Cli, corpus: Path, tmp_path: Path, apart: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    monkeypatch.setattr(apart.EyesText, "understood", lambda self, item: np.eye(12)[len(item.source) % 3])  # type: ignore[attr-defined]
    outcome = cli(
        "bridge", "apart/ears", "apart/eyes", "--corpus", corpus, "--out", tmp_path / "j", "--method", "ridge"
    )
    assert outcome.code == 0
    assert "note: this bridge is poor: recall@10 is " in outcome.stderr


def test_media_in_folders_help(cli: Cli, corpus: Path, tmp_path: Path, apart: object) -> None:
    import soundfile

    (tmp_path / "sounds").mkdir()
    for number, text in enumerate(sentences(40, words=2)):
        samples = apart.heard(text).source["array"]  # type: ignore[attr-defined]
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", samples, 8000, subtype="FLOAT")
    arguments = ("bridge", "apart/ears", "apart/eyes", "--corpus", corpus, "--out", tmp_path / "j", "--json")
    assert cli(*arguments, "--media", tmp_path / "sounds").json()["report"]["media"] == {"audio": 40}


@pytest.mark.parametrize(
    ("first", "second", "lines", "message"),
    [
        (
            "apart/ears",
            "apart/ears",
            300,
            "error: there is nothing to add: 'apart/ears' has text, audio, ",
        ),
        (
            "apart/ears",
            "apart/eyes",
            20,
            "error: the corpus has 20 distinct texts: at least 200 are needed ",
        ),
        ("apart/ears", "apart/nose", 300, "error: "),
    ],
)
def test_what_cannot_be_bridged_is_one_line_on_stderr(
    cli: Cli, tmp_path: Path, first: str, second: str, lines: int, message: str
) -> None:
    (tmp_path / "t.txt").write_text("\n".join(sentences(lines)))
    if second == "apart/nose":
        second = str(tmp_path / "nose")
    outcome = cli("bridge", first, second, "--corpus", tmp_path / "t.txt", "--out", tmp_path / "j")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith(message)
    assert not (tmp_path / "j").exists()


def test_a_bar_is_shown_for_each_part_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from multimodal.cli import console

    said: list[object] = []

    @contextmanager
    def bar(what: str, total: int | None, *, quiet: bool):  # type: ignore[no-untyped-def]
        said.append(("open", what, total, quiet))
        yield said.append
        said.append(("close", what))

    monkeypatch.setattr(console, "progress", bar)
    with console.stages(quiet=False) as progress:
        for call in (("a", 0, 4), ("a", 3, 4), ("a", 4, 4), ("b", 1, 2), ("b", 2, 2)):
            progress(*call)
    assert said == [
        ("open", "a", 4, False), 0, 3, 1, ("close", "a"), ("open", "b", 2, False), 1, 1, ("close", "b"),
    ]  # fmt: skip
