"""`multimodal teach`, and `multimodal classify --with`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import Cli

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with four images of each of two colours."""
    folder, rng = tmp_path / "photos", np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(4):
            pixels = (np.array(colour) + rng.integers(-25, 25, (24, 16, 3))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def test_a_folder_per_label_teaches_a_classifier_that_classify_uses(
    cli: Cli, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "colours.clf"
    taught = cli("teach", photos, "-o", file, "--space", "starter", "--reject", "0.2", "--json").json()
    assert taught["counts"] == {"green": 4, "red": 4}
    assert taught["accuracy"] == 1
    assert taught["classifier"] == str(file)
    Image.new("RGB", (24, 16), (200, 40, 45)).save(tmp_path / "new.png")
    output = cli("classify", tmp_path / "new.png", "--with", file, "--json").json()
    (row,) = output["results"]
    assert row["labels"][0]["label"] == "red"
    assert row["nearest"][0]["name"].startswith(str(photos / "red"))
    assert row["candidates"] in (["red"], [])
    assert output["space"] == "starter"
    shown = cli("classify", tmp_path / "new.png", "--with", file).stdout
    assert "nearest examples: " in shown
    assert str(photos / "red") in shown.replace("\n", "")


def test_a_csv_teaches_texts_and_a_file_that_fails_is_listed(cli: Cli, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    lines = ["label,path,text", "red,photos/red/0.png,", "green,photos/green/0.png,", "red,,a red apple"]
    table.write_text("\n".join([*lines, "green,photos/gone.png,"]), encoding="utf-8")
    outcome = cli("teach", table, "-o", tmp_path / "mine.clf", "--space", "toy")
    assert outcome.code == 3
    assert "gone.png" in outcome.stderr.replace("\n", "")
    assert "accuracy" in outcome.stdout
    (tmp_path / "bare.csv").write_text("name\nx\n", encoding="utf-8")
    refused = cli("teach", tmp_path / "bare.csv", "-o", tmp_path / "mine.clf", "--space", "toy")
    assert refused.code == 1
    assert "it needs 'label'" in refused.stderr


def test_classify_takes_labels_or_a_classifier(cli: Cli, photos: Path, tmp_path: Path) -> None:
    image = photos / "red" / "0.png"
    assert cli("classify", image).code == 2
    assert cli("classify", image, "--labels", "a,b", "--with", tmp_path / "x.clf").code == 2
    assert cli("classify", image, "--with", tmp_path / "x.clf", "--multi-label").code == 2
    missing = cli("classify", image, "--with", tmp_path / "x.clf")
    assert (missing.code, "no such file" in missing.stderr) == (1, True)
