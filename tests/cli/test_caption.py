"""`multimodal caption`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import multimodal
from multimodal.cli.tasks import caption as command
from multimodal.core.paths import assets
from tests.cli.conftest import Cli
from tests.core.media.clips import clip

GALLERY = assets() / "gallery"
GUITAR = GALLERY / "sounds/guitar.flac"
APPLE = GALLERY / "pictures/guitar-on-stage.jpg"


def test_images_audio_and_words_are_captioned_in_order(cli: Cli) -> None:
    output = cli("caption", APPLE, GUITAR, "--text", "a dog and a pizza", "--json").json()
    tell = multimodal.pipeline("captioning")
    expected = tell([multimodal.Image(APPLE), multimodal.Audio(GUITAR), "a dog and a pizza"])
    assert [row["text"] for row in output["results"]] == [item.text for item in expected]
    assert [row["score"] for row in output["results"]] == pytest.approx([hit.score for hit in expected])
    assert [row["input"] for row in output["results"]] == [str(APPLE), str(GUITAR), "a dog and a pizza"]
    assert [row["modality"] for row in output["results"]] == ["image", "audio", "text"]
    assert (output["model"], output["failed"], output["skipped"]) == ("starter", [], 0)


def test_the_options_reach_the_pipeline(cli: Cli) -> None:
    cut = cli("caption", "--text", "a small blue strawberry", "--max-tokens", 2, "--json").json()["results"][
        0
    ]
    assert (cut["text"], cut["complete"]) == ("a small", False)
    drawn = [
        cli("caption", "--text", "winter", "--sample", "--seed", 4, "--json").json()["results"] for _ in "ab"
    ]
    assert drawn[0] == drawn[1]


def test_a_table_shows_files_captions_and_scores(cli: Cli) -> None:
    outcome = cli("caption", "--text", "a small blue strawberry", "--text", "[red] dog", "--max-tokens", 2)
    assert outcome.code == 0
    assert "a small […]" in outcome.stdout
    assert "[red] dog" in outcome.stdout
    assert "score" in outcome.stdout


def test_a_folder_is_taken_whole_and_what_is_no_media_is_passed_over(cli: Cli, media: Path) -> None:
    (media / "deep").mkdir()
    (media / "red.png").rename(media / "deep" / "red.png")
    outcome = cli("caption", media, "--json")
    output = outcome.json()
    assert outcome.code == 0
    assert [Path(row["input"]).name for row in output["results"]] == [
        "blue.png", "red.png", "green.png", "tone.wav",
    ]  # fmt: skip
    assert output["skipped"] == 1
    shown = cli("caption", media)
    assert "skipped 1 file in the folders: no images, audio or video" in shown.stderr


def test_bad_files_are_listed_and_the_others_done(
    cli: Cli, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (media / "cut.png").write_bytes((media / "red.png").read_bytes()[:40])
    monkeypatch.setattr(command, "BATCH", 2)
    files = [media / name for name in ("red.png", "cut.png", "missing.png", "note.txt", "tone.wav")]
    outcome = cli("caption", *files, "--json")
    output = outcome.json()
    assert outcome.code == 3
    assert [Path(row["input"]).name for row in output["results"]] == ["red.png", "tone.wav"]
    assert sorted(Path(row["input"]).name for row in output["failed"]) == [
        "cut.png", "missing.png", "note.txt",
    ]  # fmt: skip
    assert outcome.stderr.count("error: ") == 3


def test_nothing_but_bad_files_is_an_error(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("caption", tmp_path / "missing.png")
    assert outcome.code == 1
    assert "missing.png" in outcome.stderr


def test_captions_are_saved_one_a_line(cli: Cli, tmp_path: Path) -> None:
    saved = tmp_path / "captions.jsonl"
    outcome = cli("caption", GUITAR, "--text", "a dog", "-o", saved)
    assert outcome.code == 0
    rows = [json.loads(line) for line in saved.read_text(encoding="utf-8").splitlines()]
    assert [(row["input"], row["text"]) for row in rows] == [(str(GUITAR), "guitar"), ("a dog", "dog")]
    assert "2 captions" in outcome.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["captions.jsonl"]


def test_an_interrupted_run_leaves_no_half_written_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "captions.jsonl"
    saved.write_text("as it was\n")

    def stopped(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stopped)
    outcome = cli("caption", "--text", "a dog", "-o", saved)
    assert outcome.code == 130
    assert saved.read_text() == "as it was\n"
    assert [path.name for path in tmp_path.iterdir()] == ["captions.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "nothing given: name files, or texts with --text"),
        (("--text", "a dog", "-o", "no/where.jsonl"), 2, "does not exist"),
        (("--text", "a dog", "--beams", "0"), 1, "error: beams must be a whole number of at least 1, got 0"),
        (("--text", "a dog", "--prompt", ""), 1, "error: prompt must be a question or the beginning"),
        (("--text", "a dog", "--prompt", "what?"), 1, "error: 'starter' takes no prompt"),
        (("--text", "a dog", "--model", "startre"), 1, "did you mean 'starter'?"),
    ],
)
def test_what_can_never_be_right_is_said_in_one_line(
    cli: Cli, arguments: tuple[str, ...], code: int, message: str
) -> None:
    outcome = cli("caption", *arguments)
    assert outcome.code == code
    assert message in " ".join(outcome.stderr.split())


def test_silence_is_distinguished_from_sound(cli: Cli, tmp_path: Path) -> None:
    silent = tmp_path / "silence.wav"
    soundfile.write(silent, np.zeros(160_000, np.float32), 16_000)
    outcome = cli("caption", silent, GUITAR, "--json")
    assert outcome.code == 3
    (failed,) = outcome.json()["failed"]
    assert failed == {
        "input": str(silent),
        "reason": f"Audio('{silent}') is silent from beginning to end: there is nothing to caption",
    }


def test_frames_of_a_video_are_captioned_by_a_model_of_images(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("av")
    film, broken = tmp_path / "film.mp4", tmp_path / "broken.mp4"
    film.write_bytes(clip(n=60, fps=10))
    broken.write_bytes(film.read_bytes()[:400])
    outcome = cli("caption", film, broken, APPLE, "--json")
    found = outcome.json()
    names = [row["input"] for row in found["results"]]
    assert names == [f"{film}#t=1", f"{film}#t=3", f"{film}#t=5", str(APPLE)]
    assert {row["modality"] for row in found["results"]} == {"image"} and all(
        row["text"] for row in found["results"]
    )
    assert [row["input"] for row in found["failed"]] == [str(broken)] and outcome.code == 3
