"""`multimodal doctor`: what is well, what is not, and the cure."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import multimodal
from multimodal.cli.models import environment
from multimodal.cli.models.environment import Finding
from tests import plugins
from tests.cli.conftest import Cli


@pytest.fixture
def family() -> ModuleType:
    """The module of the toy family."""
    multimodal.load("toy")
    return sys.modules[plugins.TOY]


# --- a model --------------------------------------------------------------------------------------


def test_a_whole_model_is_well(cli: Cli) -> None:
    shown = cli("doctor", "toy")
    assert (shown.code, shown.stderr) == (0, "")
    assert shown.stdout.count("✓") == 13 and "✗" not in shown.stdout
    for words in (
        "text batch",
        "batch-invariant: alone or among eight",
        "at most 1e-05",
        "exactly 0",
        "5 to 1,000",
        "; time per item: text ",
    ):
        assert words in shown.stdout


def test_json_is_what_the_check_found_and_how_it_ran(cli: Cli) -> None:
    output = cli("doctor", "toy", "--device", "cpu", "--json").json()
    expected = multimodal.load("toy", device="cpu").self_test().to_dict()
    assert output["ok"] is True and output["space"] == "toy"
    assert [check["name"] for check in output["checks"]] == [check["name"] for check in expected["checks"]]
    assert [check["measured"] for check in output["checks"]] == [
        check["measured"] for check in expected["checks"]
    ]
    assert output["runtime_info"] == {"text": "cpu float32", "image": "cpu float32", "audio": "cpu float32"}
    assert set(output["seconds"]) == {"text", "image", "audio"} and output["load_seconds"] >= 0


def test_a_broken_model_ends_with_1_and_its_cure(
    cli: Cli, family: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = family.ToyText.forward
    monkeypatch.setattr(family.ToyText, "forward", lambda self, batch: original(self, batch) + torch.rand(1))
    shown = cli("doctor", "toy")
    assert shown.code == 1
    assert shown.stdout.count("✗") == 1 and "avoid" in shown.stdout
    assert shown.stderr == "error: toy: 1 of 12 checks do not hold\n"
    result = cli("doctor", "toy", "--json")
    assert result.code == 1
    assert [check["name"] for check in result.json()["checks"] if not check["ok"]] == ["text repeat"]


def test_the_cure_of_a_model_may_hold_brackets(
    cli: Cli, family: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object, batch: object) -> None:
        raise KeyError("[red]x[/]")

    monkeypatch.setattr(family.ToyImage, "forward", fail)
    assert "KeyError: '[red]x[/]'" in cli("doctor", "toy").stdout


def test_a_saved_space_is_tested_by_its_folder_and_given_runtime_options(cli: Cli, tmp_path: Path) -> None:
    multimodal.load("toy").save_pretrained(tmp_path / "mine")
    output = cli("doctor", tmp_path / "mine", "--device", "cpu", "--precision", "bfloat16", "--json").json()
    assert set(output["runtime_info"].values()) == {"cpu bfloat16"}
    assert [check["limit"][1] for check in output["checks"] if check["name"] == "text batch"] == [1e-2]


def test_an_unknown_model_is_an_error_as_everywhere(cli: Cli) -> None:
    outcome = cli("doctor", "startr")
    assert outcome.code == 1
    assert outcome.stderr.startswith("error: no model is called 'startr'; did you mean 'starter'? ")


# --- the installation -----------------------------------------------------------------------------


def test_this_installation_is_well(cli: Cli) -> None:
    outcome = cli("doctor", "--json")
    output = outcome.json()
    assert (outcome.code, output["ok"]) == (0, True)
    by_name = {finding["name"]: finding for finding in output["findings"]}
    assert by_name["torch"]["found"] == torch.__version__.partition("+")[0]
    assert by_name["starter"] == {"name": "starter", "ok": True, "found": "passes its self-test", "cure": ""}
    assert {"device", "bfloat16", "cache", "image formats", "audio formats"} <= set(by_name)
    assert {f"extra {extra}" for extra in environment.EXTRAS} <= set(by_name)
    assert all(finding["cure"] for finding in output["findings"] if finding["ok"] is False)


def only(monkeypatch: pytest.MonkeyPatch, *looks: str) -> None:
    monkeypatch.setattr(environment, "CHECKS", {name: environment.CHECKS[name] for name in looks})


def test_it_is_shown_as_a_table(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "device", "image formats")
    shown = cli("doctor")
    assert (shown.code, shown.stderr) == (0, "")
    assert "✓" in shown.stdout and "torch" in shown.stdout and "webp" in shown.stdout


def test_a_missing_extra_is_no_failure_and_says_how_to_get_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch)
    original = environment.version
    monkeypatch.setattr(
        environment, "version", lambda name: None if name == "pillow-heif" else original(name)
    )
    results = {finding["name"]: finding for finding in cli("doctor", "--json").json()["findings"]}
    assert results["extra heic"] == {
        "name": "extra heic", "ok": None, "found": "pillow-heif missing",
        "cure": "optional: pip install 'multimodal[heic]'",
    }  # fmt: skip
    shown = cli("doctor")
    assert shown.code == 0 and "pip install 'multimodal[heic]'" in shown.stdout


def test_a_missing_package_is_a_failure(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch)
    original = environment.version
    monkeypatch.setattr(environment, "version", lambda name: None if name == "lancedb" else original(name))
    shown = cli("doctor")
    assert shown.code == 1
    assert "✗" in shown.stdout and "pip install lancedb, or reinstall multimodal" in shown.stdout


def test_a_library_that_is_broken_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("libx.so: cannot open")

    monkeypatch.setattr(environment, "CHECKS", {"audio formats": broken})
    (results,) = [finding for finding in environment.findings() if finding.name == "audio formats"]
    assert results == Finding(
        "audio formats", False, "OSError: libx.so: cannot open", "reinstall what it names"
    )


def test_a_starter_that_fails_its_test_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from multimodal.core.self_test import Check, SelfTestReport
    from multimodal.core.space import Space

    failed = SelfTestReport("starter", (Check("text repeat", False, 1.0, (0.0, 0.0), "x"),), {})
    monkeypatch.setattr(Space, "self_test", lambda self: failed)
    assert list(environment.CHECKS["starter"]()) == [
        Finding("starter", False, "fails in text repeat", "run: multimodal doctor starter")
    ]


def test_a_cache_that_cannot_be_written_to_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    results = {path.name: path for path in environment.CHECKS["cache"]()}
    assert results["cache"].ok is False
    assert (
        results["cache"].found == f"{tmp_path / 'file' / 'cache'}: {tmp_path / 'file'} cannot be written to"
    )
    assert "MULTIMODAL_CACHE" in results["cache"].cure
    assert results["hub cache"].ok is not False and not (tmp_path / "hub").exists()


def test_little_room_and_no_network_are_worth_a_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MULTIMODAL_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(environment, "MIN_FREE_BYTES", 1e30)
    results = {path.name: path for path in environment.CHECKS["cache"]()}
    assert results["cache"].ok is None and results["cache"].cure.startswith("too little for a large model")
    assert results["network"] == Finding(
        "network", None, "off: HF_HUB_OFFLINE is set", "unset it to fetch models"
    )


def test_a_format_that_is_not_known_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "AUDIO_FORMATS", ("WAV", "MP9"))
    (results,) = environment.CHECKS["audio formats"]()
    assert (results.ok, results.found) == (None, "WAV; not MP9")
