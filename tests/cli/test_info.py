"""`multimodal models` and `multimodal info`."""

from __future__ import annotations

import io
import tomllib
from pathlib import Path

import pytest
import torch

import multimodal
from multimodal.cli.models import info
from multimodal.core import catalog
from multimodal.core.card import Card
from tests.cli.conftest import Cli


def test_models_lists_every_card_family_by_family(cli: Cli) -> None:
    result = cli("models", "--json").json()["models"]
    expected = sorted(multimodal.cards(), key=lambda card: card.name.partition("/")[0])
    assert result == [card.to_dict() | {"pinned": bool(card.revision)} for card in expected]
    assert all(isinstance(card["commercial"], bool) for card in result)
    shown = cli("models").stdout
    assert "starter" in shown
    assert "toy" in shown


def test_models_can_be_narrowed_to_what_takes_all_of_some_modalities(cli: Cli) -> None:
    wanted = ("--modality", "audio", "--modality", "image")
    result = cli("models", *wanted, "--json").json()["models"]
    assert {"toy", "starter"} <= {card["name"] for card in result}
    assert all({"audio", "image"} <= set(card["modalities"]) for card in result)
    nothing = cli("models", "--modality", "video", "--modality", "image")
    assert (nothing.code, nothing.stdout) == (0, "")
    assert nothing.stderr == "note: no model encodes image, video; multimodal models lists all of them\n"


CARDS = (
    Card("b/two", ("text", "image"), 512, "MIT", "x", 605, "the [small] one", figure="ImageNet 63.2"),  # type: ignore[arg-type]
    Card("a/one-with-a-name-of-just-45-characters-noooo", ("audio",), 1024, "CC-BY-NC-4.0", "x", 7_440,  # type: ignore[arg-type]
         "x", commercial=False),
    Card("b/three", ("text",), 8, "MIT", "x", 0.012, "y"),  # type: ignore[arg-type]
)  # fmt: skip


def test_the_table_of_models_fits_into_100_columns(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "cards", lambda: list(CARDS))
    lines = cli("models").stdout.splitlines()
    assert max(map(len, lines)) <= 100
    names = [line.split()[0] for line in lines if line.startswith(("a/", "b/"))]
    assert names == ["a/one-with-a-name-of-just-45-characters-noooo", "b/two", "b/three"]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("a/", "b/"))}
    assert rows["b/two"] == ["text", "512", "605", "MB", "MIT", "ImageNet"]
    assert rows["a/one-with-a-name-of-just-45-characters-noooo"] == [
        "audio",
        "1024",
        "7.4",
        "GB",
        "CC-BY-NC-4.0",
    ]
    assert rows["b/three"] == ["text", "8", "0.012", "MB", "MIT"]
    (below,) = [line for line in lines if line.startswith("the [small] one")]
    assert below.split() == ["the", "[small]", "one", "image", "63.2"]


def test_licences_that_forbid_business_are_marked_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    screen = Console(width=100, force_terminal=True, color_system="standard", file=io.StringIO())
    screen.print(info._models_table(CARDS))
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("(non-commercial)") == 1
    assert "\x1b[33mCC-BY-NC-4.0" in shown and "\x1b[33mMIT" not in shown


def test_a_modality_that_is_none_is_wrong_usage(cli: Cli) -> None:
    outcome = cli("models", "--modality", "smell")
    assert outcome.code == 2
    assert "smell" in outcome.stderr


def test_info_tells_versions_device_and_families(cli: Cli) -> None:
    facts = cli("info", "--json").json()
    assert facts["versions"]["multimodal"] == multimodal.__version__
    assert facts["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert {"starter", "toy"} <= set(facts["families"])
    assert Path(facts["assets"]).is_dir()
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(facts["extras"]) == set(project["optional-dependencies"]) - {
        "all",
        "bench",
        "clients",
        "dev",
        "docs",
        "recipes",
    }
    assert multimodal.__version__ in cli("info").stdout


def test_info_of_a_space_tells_what_it_takes(cli: Cli) -> None:
    facts = cli("info", "toy", "--json").json()
    assert facts["fingerprint"] == multimodal.load("toy").fingerprint
    assert facts["modalities"] == ["text", "image", "audio"]
    assert facts["encoders"]["text"] == {"kind": "ToyText", "parameters": 256 * 16}
    assert facts["heads"] == {"all": {"scale": 10.0, "bias": 0.0, "activation": "softmax"}}
    assert "4,096" in cli("info", "toy").stdout


def test_info_of_a_saved_space_takes_its_folder(cli: Cli, tmp_path: Path) -> None:
    multimodal.load("toy").save_pretrained(tmp_path / "mine")
    facts = cli("info", tmp_path / "mine", "--json").json()
    assert facts["fingerprint"] == multimodal.load("toy").fingerprint


def test_info_of_an_index_counts_what_it_holds(cli: Cli, index: Path) -> None:
    facts = cli("info", index, "--json").json()
    assert facts["counts"] == {"text": 1, "image": 3, "audio": 1}
    assert (facts["items"], facts["space"], facts["dim"]) == (5, "toy", 16)
    assert facts["bytes"] > 0
    assert "image: 3" in cli("info", index).stdout
