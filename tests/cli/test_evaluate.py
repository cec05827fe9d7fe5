"""`multimodal evaluate`: JSON for machines, a table and a page for people."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multimodal.cli.main import app

PICTURES = Path(__file__).resolve().parents[2] / "assets" / "gallery" / "pictures"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("evaluate") / "data.csv"
    names = ["red-apple.jpg", "drum.png", "balloon.jpg", "elephant.jpg"]
    lines = [f"{PICTURES / name},{name.partition('.')[0].replace('-', ' ')}" for name in names]
    file.write_text("photo,label\n" + "\n".join(lines))
    return file


def test_two_models_are_evaluated_and_compared_as_json(table: Path) -> None:
    words = [
        "evaluate",
        "starter",
        "starter",
        str(table),
        "--task",
        "retrieval",
        "--column",
        "image=photo",
        "--json",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert values["results"][0]["figures"]["hit@1"]["gallery"] == 4
    assert values["comparisons"][0]["verdict"] == "the same model"


def test_figures_are_printed_and_a_page_is_written(table: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    result = CliRunner().invoke(
        app, ["evaluate", "starter", str(table), "--column", "image=photo", "-o", str(page)]
    )
    assert result.exit_code == 0, result.output
    assert "accuracy" in result.stdout
    assert "too few to compare" in result.stderr
    text = page.read_text()
    assert text.count("http") == 1  # the name of the policy's header
    assert "Calibration" in text


def test_wrong_usage_is_explained(table: Path) -> None:
    assert CliRunner().invoke(app, ["evaluate", "starter"]).exit_code == 2
    assert CliRunner().invoke(app, ["evaluate", "starter", str(table), "--column", "image"]).exit_code == 2
    failed = CliRunner().invoke(app, ["evaluate", "starter", str(table), "--json"])
    assert failed.exit_code == 1
    assert "no known column: found photo, label" in json.loads(failed.stdout)["error"]["message"]


def test_an_audit_is_printed_saved_and_can_fail(tmp_path: Path) -> None:
    data = tmp_path / "words.jsonl"
    data.write_text('{"text": "a"}\n{"text": "b"}\n')
    words = ["audit", "starter", "--data", str(data), "-o", str(tmp_path / "audit.json"), "--fail-on", "warn"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1, result.output
    assert "instruments" in result.stdout
    assert "not tested: image corruption" in result.stderr.replace("\n", " ")
    assert json.loads((tmp_path / "audit.json").read_text())["warnings"] > 0
    both = CliRunner().invoke(app, ["audit", "starter", "starter"])
    assert both.exit_code == 2
