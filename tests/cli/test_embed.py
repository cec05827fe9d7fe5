"""`multimodal embed`, and what it shares with `classify`: batches with unreadable files in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import multimodal
from multimodal.cli.tasks import inputs
from tests.cli.conftest import Cli

ON_TOY = ("--space", "toy", "--json")


def test_embed_gives_unit_vectors_in_order(cli: Cli, media: Path) -> None:
    output = cli("embed", media / "red.png", media / "tone.wav", "--text", "a cat", *ON_TOY).json()
    assert [row["modality"] for row in output["results"]] == ["image", "audio", "text"]
    space = multimodal.load("toy")
    expected = space.encode(
        [multimodal.Image(media / "red.png"), multimodal.Audio(media / "tone.wav"), "a cat"]
    )
    np.testing.assert_allclose([row["vector"] for row in output["results"]], expected, atol=1e-6)
    assert (output["dim"], output["fingerprint"], output["output"]) == (16, space.fingerprint, None)


def test_embed_saves_what_numpy_loads_under_the_name_given(cli: Cli, media: Path, tmp_path: Path) -> None:
    saved = tmp_path / "vectors"
    output = cli("embed", media / "red.png", "--text", "a cat", "-o", saved, *ON_TOY).json()
    vectors = np.load(saved)
    assert (vectors.shape, vectors.dtype) == ((2, 16), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert output["output"] == str(saved)
    assert all("vector" not in row for row in output["results"])


def test_embed_without_a_place_for_vectors_says_how_to_keep_them(cli: Cli) -> None:
    outcome = cli("embed", "--text", "a cat", "--space", "toy")
    assert "vector of 16" in outcome.stdout
    assert outcome.stderr == "note: to keep the vectors, add -o vectors.npy or --json\n"


def test_one_bad_file_in_a_batch_leaves_the_others(
    cli: Cli, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (media / "cut.png").write_bytes((media / "red.png").read_bytes()[:40])
    monkeypatch.setattr(inputs, "BATCH", 2)
    files = [media / name for name in ("red.png", "cut.png", "missing.png", "green.png", "tone.wav")]
    outcome = cli("embed", *files, *ON_TOY)
    output = outcome.json()
    assert outcome.code == 3
    assert [Path(row["input"]).name for row in output["results"]] == ["red.png", "green.png", "tone.wav"]
    assert sorted(Path(row["input"]).name for row in output["failed"]) == ["cut.png", "missing.png"]
    assert outcome.stderr.count("error: ") == 2


def test_nothing_given_is_wrong_usage(cli: Cli) -> None:
    outcome = cli("embed")
    assert outcome.code == 2
    assert "nothing given: name files, or texts with --text" in outcome.stderr


def test_an_output_folder_that_is_not_there_is_reported_before_any_work(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("embed", "--text", "a cat", "--space", "nonesuch", "-o", tmp_path / "no" / "v.npy")
    assert outcome.code == 2
    assert "does not exist" in outcome.stderr
