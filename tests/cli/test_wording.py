"""Errors as the command line words and prints them: its own options in messages, one JSON object with --json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from multimodal.cli.models import info
from multimodal.cli.wording import in_cli_terms, options_of
from multimodal.core.limits import get_limits
from tests.cli.conftest import Cli

COMMAND = SimpleNamespace(
    params=[
        SimpleNamespace(name=name, opts=opts)
        for name, opts in {
            "device": ["--device"],
            "offline": ["--offline"],
            "precision": ["--precision"],
            "min_probability": ["--min-probability"],
            "uncalibrated": ["--uncalibrated"],
            "method": ["--method"],
            "output": ["-o", "--output"],
            "index": ["index"],
        }.items()
    ]
)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("use what is in the cache with offline=True", "use what is in the cache with --offline"),
        ("got device='cuda:7'; write 'cpu'", "got --device cuda:7; write 'cpu'"),
        ("try precision='float32'", "try --precision float32"),
        ("give precision='float32' to from_pretrained, or another", "give --precision float32, or another"),
        ("min_probability=0.5 cannot be judged", "--min-probability 0.5 cannot be judged"),
        ("min_probability must be a number", "--min-probability must be a number"),
        ("but calibrated=False was given", "but --uncalibrated was given"),
        ("use method='pca' (--method pca)", "use --method pca"),
        ("columns={'path': ...} or columns={'text': ...}", "--column path=NAME or --column text=NAME"),
        (
            "allow it with multimodal.limits(max_pixels=400)",
            "allow it with multimodal --limit pixels=400 COMMAND",
        ),
        ("index.rows() lists them", "multimodal search --json prints the id of each hit"),
    ],
)
def test_python_arguments_become_options(message: str, expected: str) -> None:
    assert in_cli_terms(message, COMMAND) == expected


@pytest.mark.parametrize(
    "message",
    [
        "seed=3 is given twice",  # the command has no --seed
        "/data/device=cuda/photo.jpg: no such file",
        "photos/min_probability: is empty",
        "no model is called 'startr'; did you mean 'starter'?",
    ],
)
def test_everything_else_stays_as_it_is(message: str) -> None:
    assert in_cli_terms(message, COMMAND) == message


def test_what_only_python_can_express_names_the_way_there() -> None:
    message = in_cli_terms("pass preprocess={'mean': …} or like= the tag", COMMAND)
    assert message.startswith(
        "pass preprocess={'mean': …} or like= the tag; these arguments exist in Python only"
    )
    assert "save_pretrained" in message


def test_only_options_count_as_options() -> None:
    assert options_of(COMMAND)["output"] == "--output"
    assert "index" not in options_of(COMMAND)


def test_an_image_beyond_the_limit_names_the_option_that_accepts_it(cli: Cli, media: Path) -> None:
    before = get_limits()
    outcome = cli("--limit", "pixels=100", "embed", media / "red.png", "--space", "toy")
    assert outcome.code == 1
    assert "24 x 16 pixels, more than the limit of 100" in outcome.stderr
    assert "multimodal --limit pixels=384 COMMAND" in outcome.stderr
    assert cli("--limit", "pixels=384", "embed", media / "red.png", "--space", "toy").code == 0
    assert get_limits() == before
    for wrong in ("pixels", "pixels=-3", "smell=3", "bytes=0"):
        assert cli("--limit", wrong, "models").code == 2


def test_an_error_is_one_json_object_and_the_exit_code_stays(cli: Cli) -> None:
    plain = cli("info", "startr")
    outcome = cli("info", "startr", "--json")
    assert (outcome.code, outcome.stderr) == (plain.code, plain.stderr)
    message = plain.stderr.removeprefix("error: ").rstrip("\n")
    assert outcome.json() == {"error": {"type": "UnknownModel", "message": message}}


def test_a_missing_extra_carries_its_cure(cli: Cli, media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    error = cli("info", "hf/owner/name", "--engine", "openvino", "--json", "--offline").json()["error"]
    assert error["type"] == "MissingExtra"
    assert error["cure"] == "pip install 'multimodal[openvino]'"
    assert error["message"].startswith("--engine openvino needs ")


def test_invalid_usage_is_json_too(cli: Cli) -> None:
    outcome = cli("embed", "--json")
    assert outcome.code == 2
    assert "nothing given" in outcome.stderr
    error = outcome.json()["error"]
    assert error["type"] == "BadParameter"
    assert "nothing given: name files, or texts with --text" in error["message"]
    assert cli("embed", "--no-such-option", "--json").json()["error"]["type"] == "NoSuchOption"
    assert cli("serach", "x", "--json").json()["error"]["message"].startswith("No such command 'serach'")


def test_an_interrupt_is_json_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "installation", interrupted)
    outcome = cli("info", "--json")
    assert (outcome.code, outcome.stderr) == (130, "stopped\n")
    assert outcome.json() == {"error": {"type": "KeyboardInterrupt", "message": "stopped"}}


def test_json_after_two_dashes_is_an_argument(cli: Cli) -> None:
    outcome = cli("info", "--", "--json")
    assert (outcome.code, outcome.stdout) == (1, "")


def test_a_system_error_is_json_too(cli: Cli, tmp_path: Path) -> None:
    taken = tmp_path / "demo"
    taken.touch()
    outcome = cli("demo", "-o", taken, "--json")
    assert outcome.code == 1
    assert outcome.json()["error"] == {"type": "FileExistsError", "message": f"{taken}: File exists"}


def test_a_failed_file_stays_in_the_result(cli: Cli, media: Path) -> None:
    Image.new("RGB", (8, 8)).save(media / "ok.png")
    outcome = cli("embed", media / "ok.png", media / "none.png", "--space", "toy", "--json")
    assert outcome.code == 3
    assert set(json.loads(outcome.stdout)) >= {"results", "failed"}
