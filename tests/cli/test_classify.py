"""`multimodal classify`."""

from __future__ import annotations

from pathlib import Path

import pytest

import multimodal
from tests.cli.conftest import Cli

ON_TOY = ("--space", "toy", "--json")


def test_classify_gives_every_input_its_labels_best_first(cli: Cli, media: Path) -> None:
    found = cli(
        "classify",
        media / "red.png",
        media / "tone.wav",
        "--text",
        "words",
        "--labels",
        "cat, dog,bird",
        *ON_TOY,
    ).json()
    assert [row["input"] for row in found["results"]] == [
        str(media / "red.png"),
        str(media / "tone.wav"),
        "words",
    ]
    for row in found["results"]:
        scores = [one["score"] for one in row["labels"]]
        assert sorted(one["label"] for one in row["labels"]) == ["bird", "cat", "dog"]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert (found["space"], found["failed"]) == ("toy", [])


def test_classify_agrees_with_the_pipeline_and_its_options(cli: Cli, media: Path) -> None:
    classify = multimodal.pipeline("zero-shot-classification", model="toy")
    picture = multimodal.Image(media / "blue.png")
    for flags, options in (
        (("--template", "one {}", "--template", "two {}"), {"templates": ["one {}", "two {}"]}),
        (("--multi-label",), {"multi_label": True}),
        (("--template", "imagenet-simple"), {"templates": "imagenet-simple"}),
    ):
        found = cli("classify", media / "blue.png", "--labels", "cat,dog", *flags, *ON_TOY).json()
        expected = classify(picture, labels=["cat", "dog"], **options)
        assert found["results"][0]["labels"] == [one.to_dict() for one in expected]


def test_classify_shows_the_file_its_labels_and_probabilities(cli: Cli, media: Path) -> None:
    shown = cli("classify", media / "red.png", "--labels", "[cat],dog", "--space", "toy").stdout
    assert "red.png" in shown.replace("\n", "")
    assert "[cat]" in shown
    assert "%" in shown
