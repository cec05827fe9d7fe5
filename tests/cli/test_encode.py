"""`multimodal classify` and `multimodal embed`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import multimodal
from multimodal.cli.tasks import encode
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


def test_embed_gives_unit_vectors_in_order(cli: Cli, media: Path) -> None:
    found = cli("embed", media / "red.png", media / "tone.wav", "--text", "a cat", *ON_TOY).json()
    assert [row["modality"] for row in found["results"]] == ["image", "audio", "text"]
    space = multimodal.load("toy")
    expected = space.encode(
        [multimodal.Image(media / "red.png"), multimodal.Audio(media / "tone.wav"), "a cat"]
    )
    np.testing.assert_allclose([row["vector"] for row in found["results"]], expected, atol=1e-6)
    assert (found["dim"], found["fingerprint"], found["output"]) == (16, space.fingerprint, None)


def test_embed_saves_what_numpy_loads_under_the_name_given(cli: Cli, media: Path, tmp_path: Path) -> None:
    saved = tmp_path / "vectors"
    found = cli("embed", media / "red.png", "--text", "a cat", "-o", saved, *ON_TOY).json()
    vectors = np.load(saved)
    assert (vectors.shape, vectors.dtype) == ((2, 16), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert found["output"] == str(saved)
    assert all("vector" not in row for row in found["results"])


def test_embed_without_a_place_for_vectors_says_how_to_keep_them(cli: Cli) -> None:
    outcome = cli("embed", "--text", "a cat", "--space", "toy")
    assert "vector of 16" in outcome.stdout
    assert outcome.stderr == "note: to keep the vectors, add -o vectors.npy or --json\n"


def test_one_bad_file_in_a_batch_leaves_the_others(
    cli: Cli, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (media / "cut.png").write_bytes((media / "red.png").read_bytes()[:40])
    monkeypatch.setattr(encode, "BATCH", 2)
    files = [media / name for name in ("red.png", "cut.png", "missing.png", "green.png", "tone.wav")]
    outcome = cli("embed", *files, *ON_TOY)
    found = outcome.json()
    assert outcome.code == 3
    assert [Path(row["input"]).name for row in found["results"]] == ["red.png", "green.png", "tone.wav"]
    assert sorted(Path(row["input"]).name for row in found["failed"]) == ["cut.png", "missing.png"]
    assert outcome.stderr.count("error: ") == 2


def test_nothing_given_is_wrong_usage(cli: Cli) -> None:
    outcome = cli("embed")
    assert outcome.code == 2
    assert "nothing given: name files, or words with --text" in outcome.stderr


def test_an_output_folder_that_is_not_there_is_told_before_any_work(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("embed", "--text", "a cat", "--space", "nonesuch", "-o", tmp_path / "no" / "v.npy")
    assert outcome.code == 2
    assert "does not exist" in outcome.stderr
