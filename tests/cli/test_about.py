"""`multimodal models` and `multimodal info`."""

from __future__ import annotations

from pathlib import Path

import torch

import multimodal
from tests.cli.conftest import Cli


def test_models_lists_every_card(cli: Cli) -> None:
    assert cli("models", "--json").json() == {"models": [card.to_dict() for card in multimodal.cards()]}
    shown = cli("models").stdout
    assert "starter" in shown
    assert "toy" in shown


def test_models_can_be_narrowed_to_what_takes_all_of_some_modalities(cli: Cli) -> None:
    wanted = ("--modality", "audio", "--modality", "image")
    found = cli("models", *wanted, "--json").json()["models"]
    assert {"toy", "starter"} <= {card["name"] for card in found}
    assert all({"audio", "image"} <= set(card["modalities"]) for card in found)
    nothing = cli("models", "--modality", "video", "--modality", "audio")
    assert (nothing.code, nothing.stdout) == (0, "")
    assert nothing.stderr == "note: no model takes audio, video; multimodal models lists all of them\n"


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
    assert set(facts["extras"]) == {"openclip", "hf", "diffusion", "heic", "av"}
    assert multimodal.__version__ in cli("info").stdout


def test_info_of_a_space_tells_what_it_takes(cli: Cli) -> None:
    facts = cli("info", "toy", "--json").json()
    assert facts["fingerprint"] == multimodal.load("toy").fingerprint
    assert facts["modalities"] == ["text", "image", "audio"]
    assert facts["encoders"]["text"] == {"kind": "ToyText", "parameters": 256 * 16}
    assert facts["heads"] == {"all": {"scale": 10.0, "bias": 0.0, "kind": "softmax"}}
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
