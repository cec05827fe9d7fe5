"""`--device`, `--precision`, `--decode` and `--offline`: one meaning wherever a model is loaded."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from multimodal.cli import options
from multimodal.core import catalog
from multimodal.core.backends import runtime
from multimodal.core.space import Space
from tests.cli.conftest import Cli
from tests.core.media.clips import clip

HOW = ("--device", "cpu", "--precision", "bfloat16", "--decode", "fast", "--offline")
EXPECTED = {"device": "cpu", "precision": "bfloat16", "decode": "fast", "offline": True}


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """(name, options) of every load of a command."""
    seen: list[tuple[Any, dict[str, Any]]] = []
    original = catalog.load

    def load(name: Any, **how: Any) -> Space:
        seen.append((name, dict(how)))
        return original(name, **how)

    monkeypatch.setattr(catalog, "load", load)
    return seen


COMMANDS: list[tuple[str, ...]] = [
    ("embed", "--text", "a cat", "--space", "toy", "--json"),
    ("classify", "--text", "a cat", "--labels", "a,b", "--space", "toy", "--json"),
    ("info", "toy", "--json"),
    ("doctor", "toy", "--json"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_is_requested_reaches_load(cli: Cli, requests: list[Any], command: tuple[str, ...]) -> None:
    assert cli(*command, *HOW).code == 0
    assert cli(*command).code == 0
    assert requests == [("toy", EXPECTED), ("toy", {})]


def test_an_index_is_made_and_opened_with_them(
    cli: Cli, requests: list[Any], media: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.lance"
    assert cli("index", media, "--index", path, "--space", "toy", *HOW).code == 0
    assert cli("index", media, "--index", path, *HOW).code == 0
    assert cli("search", path, "a cat", *HOW, "--json").code == 0
    assert requests == [("toy", EXPECTED)] * 3


def test_the_answers_are_the_same_however_the_model_runs(cli: Cli, index: Path) -> None:
    plain = cli("search", index, "a cat", "--json").json()["hits"]
    assert (
        cli("search", index, "a cat", "--json", "--device", "cpu", "--decode", "fast").json()["hits"] == plain
    )


@pytest.mark.parametrize("command", ["embed", "classify", "info", "doctor", "index", "search"])
def test_every_command_that_loads_a_model_explains_them(cli: Cli, command: str) -> None:
    shown = cli(command, "--help").stdout
    assert options.PANEL in shown
    for word in ("--device", "--precision", "--decode", "--offline", "[default: float32]", "exact|fast"):
        assert word in shown


@pytest.mark.parametrize(("option", "value"), [("--precision", "int8"), ("--decode", "sloppy")])
def test_a_word_that_is_none_is_wrong_usage(cli: Cli, option: str, value: str) -> None:
    outcome = cli("embed", "--text", "a", option, value)
    assert outcome.code == 2
    assert value in outcome.stderr


def test_a_device_that_is_not_here_is_an_error(cli: Cli) -> None:
    outcome = cli("embed", "--text", "a", "--device", "warp")
    assert outcome.code == 1
    assert outcome.stderr == "error: 'warp' is not a device: write 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'\n"


def test_defaults_are_those_of_load() -> None:
    assert runtime.Runtime("auto", "float32", "exact") == options.DEFAULT


def test_a_command_gets_the_options_that_differ_from_their_defaults() -> None:
    received: list[dict[str, Any]] = []

    @options.with_runtime("device", "offline")
    def command(name: str, *, load_options: dict[str, Any]) -> None:
        """A command."""
        received.append({"name": name} | load_options)

    parameters = inspect.signature(command).parameters
    assert list(parameters) == ["name", "device", "offline"]
    assert (parameters["device"].default, command.__doc__) == ("auto", "A command.")
    command(name="a", device="cpu", offline=True)
    command(name="b", device="auto", offline=False)
    assert received == [{"name": "a", "device": "cpu", "offline": True}, {"name": "b"}]


@pytest.mark.parametrize(
    ("command", "lacks"),
    [
        ("caption", set()),  # its engine is torch, or Ray
        ("generate", {"--decode", "--engine"}),
        ("transcribe", {"--decode"}),
    ],
)
def test_a_command_offers_only_what_its_models_accept(cli: Cli, command: str, lacks: set[str]) -> None:
    shown = cli(command, "--help").stdout
    offered = {name for name in options.RUNTIME if f"--{name} " in shown}
    assert offered == {name for name in options.RUNTIME if f"--{name}" not in lacks}
    assert "openvino" not in shown


def test_options_of_a_cluster_imply_ray_and_leave_the_inference_engine() -> None:
    received: list[dict[str, Any]] = []

    @options.with_runtime("device", "engine")
    def command(*, load_options: dict[str, Any], cluster: dict[str, Any]) -> None:
        received.append(load_options | {"cluster": cluster})

    none = {"address": None, "workers": None, "gpus_per_worker": None}
    command(device="auto", engine="openvino", **none)
    command(device="auto", engine="ray", **none)
    command(device="auto", engine="openvino", **none | {"workers": 2})
    assert received == [
        {"engine": "openvino", "cluster": {}},
        {"cluster": {"engine": "ray"} | none},
        {"engine": "openvino", "cluster": {"engine": "ray"} | none | {"workers": 2}},
    ]


def test_offline_means_nothing_to_what_never_fetches(tmp_path: Path) -> None:
    catalog.load("toy", offline=True).save_pretrained(tmp_path / "mine")
    assert catalog.load(tmp_path / "mine", offline=True).name == "toy"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    pytest.importorskip("av")
    (tmp_path / "film.bin").write_bytes(clip(n=5))
    return tmp_path / "film.bin"


def test_a_video_is_a_query_and_distinguished_from_what_the_space_takes(
    cli: Cli, video: Path, index: Path
) -> None:
    outcome = cli("search", index, "--video", video)
    assert outcome.code == 1
    assert outcome.stderr.startswith(
        "error: video given to a space with text, image, audio: 'toy' cannot encode it"
    )
    broken = video.with_name("broken.bin")
    broken.write_bytes(video.read_bytes()[:300])
    outcome = cli("search", index, "--video", broken)
    assert outcome.code == 1
    assert "starts like a media container but cannot be opened" in outcome.stderr


def test_a_video_among_files_costs_the_others_nothing(cli: Cli, media: Path, video: Path) -> None:
    outcome = cli("embed", media / "red.png", video, "--space", "toy", "--json")
    assert outcome.code == 3
    assert [Path(row["input"]).name for row in outcome.json()["results"]] == ["red.png"]
    assert outcome.json()["failed"][0]["reason"].startswith("video given to a space with text, image, audio")
