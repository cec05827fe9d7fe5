"""`multimodal classify`."""

from __future__ import annotations

from pathlib import Path

import pytest

import multimodal
from tests.cli.conftest import Cli

ON_TOY = ("--space", "toy", "--json")


def test_classify_gives_every_input_its_labels_best_first(cli: Cli, media: Path) -> None:
    output = cli(
        "classify",
        media / "red.png",
        media / "tone.wav",
        "--text",
        "words",
        "--labels",
        "cat, dog,bird",
        *ON_TOY,
    ).json()
    assert [row["input"] for row in output["results"]] == [
        str(media / "red.png"),
        str(media / "tone.wav"),
        "words",
    ]
    for row in output["results"]:
        scores = [label["score"] for label in row["labels"]]
        assert sorted(label["label"] for label in row["labels"]) == ["bird", "cat", "dog"]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert (output["space"], output["failed"]) == ("toy", [])


def test_classify_agrees_with_the_pipeline_and_its_options(cli: Cli, media: Path) -> None:
    classify = multimodal.pipeline("zero-shot-classification", model="toy")
    image = multimodal.Image(media / "blue.png")
    for flags, options in (
        (("--template", "one {}", "--template", "two {}"), {"templates": ["one {}", "two {}"]}),
        (("--multi-label",), {"multi_label": True}),
        (("--template", "imagenet-simple"), {"templates": "imagenet-simple"}),
    ):
        output = cli("classify", media / "blue.png", "--labels", "cat,dog", *flags, *ON_TOY).json()
        expected = classify(image, labels=["cat", "dog"], **options)
        assert output["results"][0]["labels"] == [item.to_dict() for item in expected]


def test_classify_shows_the_file_its_labels_and_probabilities(cli: Cli, media: Path) -> None:
    shown = cli("classify", media / "red.png", "--labels", "[cat],dog", "--space", "toy").stdout
    assert "red.png" in shown.replace("\n", "")
    assert "[cat]" in shown
    assert "%" in shown
