"""`multimodal transcribe`, with the starter on the gallery's spoken names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile

from multimodal.cli.tasks import transcribe as command
from multimodal.core.paths import assets
from multimodal.pipelines.transcription.pipeline import TranscriptionPipeline
from tests.cli.conftest import Cli
from tests.pipelines.transcription.transcription_models import whisper

ROOT = Path(__file__).parents[2]
SOUNDS = assets() / "gallery" / "sounds"


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """A folder with two sounds, one of them deeper, a picture and a note."""
    folder = tmp_path / "talks"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(SOUNDS / "dog.flac", folder / "dog.flac")
    shutil.copy(SOUNDS / "fish.flac", folder / "deep" / "fish.flac")
    PIL.Image.new("RGB", (8, 8)).save(folder / "x.png")
    (folder / "note.txt").write_text("a note\n", encoding="utf-8")
    return folder


def test_one_file_goes_to_the_screen(cli: Cli, talks: Path) -> None:
    outcome = cli("transcribe", talks / "dog.flac")
    assert (outcome.code, outcome.stdout) == (0, "dog\n")


def test_subtitles_of_one_file_go_to_the_screen(cli: Cli, talks: Path) -> None:
    outcome = cli("transcribe", talks / "dog.flac", "--srt")
    assert outcome.code == 0
    number, times, text, *_ = outcome.stdout.split("\n")
    assert (number, text) == ("1", "dog") and " --> " in times
    assert cli("transcribe", talks / "dog.flac", "--vtt").stdout.startswith("WEBVTT\n\n00:00:0")


def test_the_name_of_the_output_tells_the_format(cli: Cli, talks: Path, tmp_path: Path) -> None:
    for suffix in ("srt", "vtt", "json", "txt"):
        place = tmp_path / f"dog.{suffix}"
        outcome = cli("transcribe", talks / "dog.flac", "-o", place)
        assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "dog.srt").read_text().startswith("1\n00:00:0")
    assert (tmp_path / "dog.vtt").read_text().startswith("WEBVTT\n")
    assert (tmp_path / "dog.txt").read_text() == "dog\n"
    assert json.loads((tmp_path / "dog.json").read_text())["text"] == "dog"


def test_a_folder_in_is_a_folder_out(cli: Cli, talks: Path, tmp_path: Path) -> None:
    outcome = cli("transcribe", talks, "-o", tmp_path / "texts", "--srt")
    assert outcome.code == 0, outcome.stderr
    made = sorted(str(path.relative_to(tmp_path / "texts")) for path in (tmp_path / "texts").rglob("*.*"))
    assert made == ["deep/fish.srt", "dog.srt"]


def test_files_of_one_name_keep_apart(cli: Cli, talks: Path, tmp_path: Path) -> None:
    samples, rate_hz = soundfile.read(talks / "dog.flac")
    soundfile.write(talks / "dog.wav", samples, rate_hz)
    outcome = cli("transcribe", talks / "dog.flac", talks / "dog.wav", "-o", tmp_path / "texts")
    assert outcome.code == 0, outcome.stderr
    assert sorted(path.name for path in (tmp_path / "texts").iterdir()) == ["dog.txt", "dog.wav.txt"]


def test_json_holds_everything(cli: Cli, talks: Path) -> None:
    output = cli("transcribe", talks, "--json", "--words").json()
    assert output["model"] == "starter" and output["failed"] == []
    rows = {Path(row["input"]).name: row for row in output["results"]}
    assert rows["dog.flac"]["text"] == "dog" and rows["fish.flac"]["text"] == "fish"
    assert [word["text"] for word in rows["dog.flac"]["words"]] == ["dog"]
    assert set(rows["dog.flac"]) == {"input", "text", "language", "segments", "words", "duration_s"}


def test_a_bad_file_is_listed_and_the_others_are_done(cli: Cli, talks: Path) -> None:
    (talks / "broken.wav").write_bytes(b"RIFF0000WAVEfmt nonsense")
    outcome = cli("transcribe", talks / "dog.flac", talks / "broken.wav", talks / "x.png", "--json")
    assert outcome.code == 3
    output = outcome.json()
    assert [row["text"] for row in output["results"]] == ["dog"]
    assert [Path(row["input"]).name for row in output["failed"]] == ["broken.wav", "x.png"]
    assert "holds an image, not audio" in output["failed"][1]["reason"]
    assert "x.png: holds an image" in outcome.stderr


def test_nothing_but_bad_files_is_an_error(cli: Cli, talks: Path) -> None:
    outcome = cli("transcribe", talks / "none.mp3")
    assert outcome.code == 1
    assert f"error: {talks / 'none.mp3'}: no such file; check the path" in outcome.stderr


def test_a_folder_without_audio_is_an_error(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("transcribe", tmp_path)
    assert outcome.code == 1
    assert f"error: no audio or video in {tmp_path}; name files, or another folder" in outcome.stderr


def test_silence_is_no_error_and_is_said(cli: Cli, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    outcome = cli("transcribe", tmp_path / "silent.wav")
    assert (outcome.code, outcome.stdout) == (0, "\n")
    assert "silent.wav: starter recognised no speech" in outcome.stderr


def test_what_is_too_long_is_refused_with_its_length(cli: Cli, talks: Path) -> None:
    outcome = cli("transcribe", talks / "dog.flac", "--max-hours", "0.001", "--json")
    assert outcome.code == 0  # 3.6 s
    long = talks / "long.wav"
    soundfile.write(long, np.zeros(4 * 8000), 8000)
    outcome = cli("transcribe", long, "--max-hours", "0.001")
    assert outcome.code == 1
    assert "4.0 seconds of audio, more than the limit of 3.6" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--srt", "--vtt"), "got --srt and --vtt: give one of them"),
        (("--words",), "word timestamps need JSON: add --json"),
        (("-o", "none/such/dog.srt"), "does not exist"),
    ],
)
def test_wrong_usage_is_said(cli: Cli, talks: Path, arguments: tuple[str, ...], message: str) -> None:
    outcome = cli("transcribe", talks / "dog.flac", *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.stderr.replace("│", " ").split())


def test_many_subtitles_do_not_go_to_the_screen(cli: Cli, talks: Path) -> None:
    outcome = cli("transcribe", talks, "--srt")
    assert outcome.code == 2
    assert "2 subtitle files cannot go to stdout: name a folder" in " ".join(
        outcome.stderr.replace("│", " ").split()
    )


def test_an_option_the_model_does_not_take_is_refused(cli: Cli, talks: Path) -> None:
    outcome = cli("transcribe", talks / "dog.flac", "--language", "de", "--translate")
    assert outcome.code == 1
    assert "'starter' is the starter's speech tower, which takes no language, task" in outcome.stderr


def test_ctrl_c_leaves_no_half_written_file(
    cli: Cli, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second file: the first is there and whole, of the second there is nothing."""
    calls = []
    run = TranscriptionPipeline.__call__

    def stopped(self: TranscriptionPipeline, *inputs: object, **how: object) -> object:
        calls.append(inputs)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(self, *inputs, **how)

    monkeypatch.setattr(TranscriptionPipeline, "__call__", stopped)
    outcome = cli("transcribe", talks, "-o", tmp_path / "texts")
    assert outcome.code == 130
    left = [path for path in (tmp_path / "texts").rglob("*") if path.is_file()]
    assert len(left) == 1 and left[0].read_text() in ("dog\n", "fish\n")


def test_ctrl_c_while_writing_leaves_what_was_there(
    cli: Cli, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "dog.txt"
    place.write_text("before\n")

    def torn(self: Path, text: str, **_: object) -> None:
        with self.open("w") as file:
            file.write(text[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(command.Path, "write_text", torn)
    assert cli("transcribe", talks / "dog.flac", "-o", place).code == 130
    assert place.read_bytes() == b"before\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dog.txt", "talks"]


def test_the_warnings_of_transformers_are_not_shown(tmp_path: Path) -> None:
    """Whisper's own generate passes arguments that transformers calls deprecated."""
    whisper(tmp_path)
    command = [sys.executable, "-m", "multimodal", "transcribe", str(SOUNDS / "dog.flac"), "--model"]
    outcome = subprocess.run(
        [*command, f"hf/./{tmp_path.name}"], cwd=tmp_path.parent, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (outcome.returncode, outcome.stderr) == (0, "")
