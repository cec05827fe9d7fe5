"""Bad input on the command line: the exact sentence, the exit code, and nothing on stdout that is not a result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import multimodal
from multimodal.core.space import Space
from tests.cli.conftest import Cli, cli, index, media, toy

__all__ = ["cli", "index", "media", "toy"]  # fixtures


def test_a_missing_path_is_reported_before_anything_is_indexed(cli: Cli, media: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.lance"
    outcome = cli("index", media, tmp_path / "nowhere", "--index", new, "--space", "toy")
    assert (outcome.code, outcome.stdout) == (1, "")
    expected = (
        f"error: {tmp_path / 'nowhere'}: no such folder or file; check the path (nothing was indexed)\n"
    )
    assert outcome.stderr == expected
    assert not new.exists()


def test_a_folder_with_bad_files_gives_the_good_ones_and_lists_the_bad(
    cli: Cli, media: Path, tmp_path: Path
) -> None:
    (media / "empty.png").touch()
    (media / "letter.jpg").write_text("Dear all,", encoding="utf-8")
    (media / "cut.png").write_bytes((media / "red.png").read_bytes()[:40])
    soundfile.write(media / "broken.wav", np.full(1600, np.nan), 16_000, subtype="FLOAT")
    outcome = cli("index", media, "--index", tmp_path / "new.lance", "--space", "toy")
    assert outcome.code == 3
    assert outcome.stdout.startswith("5 added, 0 updated, 4 failed; ")
    lines = outcome.stderr.splitlines()
    again = f"(--index {tmp_path / 'new.lance'})"
    assert len(lines) == 5
    assert lines[-1] == f"note: list the failures with --failures, retry them with --retry-failed {again}"
    assert f"error: {media / 'empty.png'}: is empty (0 bytes); copy or download it again" in lines
    (letter,) = [
        line for line in lines if line.startswith(f"error: {media / 'letter.jpg'}: holds text, not ")
    ]
    assert letter.endswith("to use its text, name it .txt or pass the text itself")
    assert any(line.startswith(f"error: {media / 'cut.png'}: ") for line in lines)
    assert any(line.startswith(f"error: {media / 'broken.wav'}: ") for line in lines)
    machine = cli("index", media, "--index", tmp_path / "new.lance", "--json")
    assert machine.code == 0  # the same failures as before
    output = machine.json()
    assert (output["added"], output["unchanged"], output["total"]) == (0, 5, 5)
    bad = sorted(Path(row["uri"]).name for row in output["failed"])
    assert bad == ["broken.wav", "cut.png", "empty.png", "letter.jpg"]
    assert all(set(row) == {"uri", "stage", "reason"} and row["reason"] for row in output["failed"])


def test_only_the_first_of_many_failures_are_listed(cli: Cli, media: Path, tmp_path: Path) -> None:
    for number in range(23):
        (media / f"bad{number:02}.png").touch()
    outcome = cli("index", media, "--index", tmp_path / "new.lance", "--space", "toy")
    assert outcome.code == 3
    lines = outcome.stderr.splitlines()
    assert len(lines) == 22
    assert lines[-2] == "note: 3 more failed; --json lists them all"
    assert "--retry-failed" in lines[-1]


def test_an_index_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    outcome = cli("search", tmp_path / "nowhere.lance", "a cat")
    path = tmp_path / "nowhere.lance"
    assert outcome.code == 1
    assert outcome.stderr == (
        f"error: no index at {str(path)!r}: the folder does not exist; "
        f"create one with: multimodal index FOLDER --index {path}\n"
    )


def test_a_folder_that_is_no_index(cli: Cli, media: Path) -> None:
    outcome = cli("search", media, "a cat")
    assert outcome.code == 1
    assert outcome.stderr.startswith(
        f"error: no index at {str(media)!r}: the path holds no index; create one with: "
    )


def test_an_index_opened_with_another_space(cli: Cli, media: Path, index: Path, tmp_path: Path) -> None:
    other = multimodal.load("toy")
    Space([other.encoders[multimodal.Modality.TEXT]], name="other").save_pretrained(tmp_path / "other")
    for arguments in (("search", index, "a cat"), ("index", media, "--index", index)):
        outcome = cli(*arguments, "--space", tmp_path / "other")
        assert (outcome.code, outcome.stdout) == (1, "")
        assert outcome.stderr.startswith(
            f"error: the index at {str(index)!r} was created with the space 'toy'"
        )
        assert "their vectors cannot be compared" in outcome.stderr


def test_an_unknown_model_comes_with_close_matches(cli: Cli) -> None:
    for arguments in (("embed", "--text", "x", "--space", "startr"), ("info", "startr")):
        outcome = cli(*arguments)
        assert (outcome.code, outcome.stdout) == (1, "")
        assert outcome.stderr.startswith("error: no model is called 'startr'; did you mean 'starter'? ")


@pytest.mark.parametrize("words", ["", "  \t"])
def test_an_empty_query(cli: Cli, index: Path, words: str) -> None:
    outcome = cli("search", index, words)
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr == f"error: the text is empty ({words!r}); there is nothing to encode\n"


def test_no_query_is_wrong_usage(cli: Cli, index: Path) -> None:
    outcome = cli("search", index)
    assert outcome.code == 2
    reported = " ".join(outcome.stderr.replace("│", " ").split())
    assert (
        "give something to search with: words, --image, --audio or --video FILE, --similar-to ID, or --text WORDS"
        in reported
    )


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (
            "words",
            "'words' is not KIND=NUMBER with one of words, image, audio, video, not and a number above 0",
        ),
        ("words=much", "'words=much' is not KIND=NUMBER with one of"),
        ("words=0", "'words=0' is not KIND=NUMBER"),
        ("words=inf", "'words=inf' is not KIND=NUMBER"),
        ("film=1", "'film=1' is not KIND=NUMBER"),
        ("image=1", "'image=1' weighs a part that the query does not have: image"),
    ],
)
def test_a_weight_that_cannot_be_is_wrong_usage(cli: Cli, index: Path, weight: str, message: str) -> None:
    outcome = cli("search", index, "a cat", "--weight", weight)
    assert outcome.code == 2
    assert message in " ".join(outcome.stderr.replace("│", " ").split())


def test_parts_that_cancel_out_and_items_that_are_not_there_are_reported(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "x", "--not", "x", "--weight", "not=1")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr == ("error: the parts of the query cancel out ('x' +1, 'x' -1); change a weight\n")
    outcome = cli("search", index, "--near", "nobody")
    assert outcome.stderr == (
        "error: no item of the index has the id 'nobody'; multimodal search --json prints the id of each hit\n"
    )


def test_a_missing_query_file(cli: Cli, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for flag in ("--image", "--audio"):
        outcome = cli("search", index, flag, "nowhere.png")
        assert outcome.code == 1
        assert outcome.stderr == (
            f"error: nowhere.png: no such file; check the path (the working directory is {tmp_path})\n"
        )


def test_a_directory_where_a_file_is_due(cli: Cli, media: Path) -> None:
    outcome = cli("classify", media, "--labels", "cat,dog", "--space", "toy")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert (
        outcome.stderr == f"error: {media}: is a directory, expected a file with an image, audio or a video\n"
    )


@pytest.mark.parametrize("labels", ["", " , "])
def test_no_labels(cli: Cli, media: Path, labels: str) -> None:
    outcome = cli("classify", media / "red.png", "--labels", labels, "--space", "toy")
    assert (outcome.code, outcome.stdout) == (1, "")
    assert outcome.stderr == "error: the list of labels is empty; give at least one\n"


def test_a_label_given_twice(cli: Cli, media: Path) -> None:
    outcome = cli("classify", media / "red.png", "--labels", "cat,cat", "--space", "toy")
    assert outcome.code == 1
    assert outcome.stderr == "error: the label 'cat' is given twice; each must differ from the others\n"


def test_a_template_without_a_place_for_the_label(cli: Cli, media: Path) -> None:
    outcome = cli(
        "classify", media / "red.png", "--labels", "cat,dog", "--template", "a photo", "--space", "toy"
    )
    assert outcome.code == 1
    assert outcome.stderr == (
        "error: the template 'a photo' has no '{}' where the label goes, and is no set by name (imagenet, "
        "imagenet-simple); write it as 'a photo of a {}'\n"
    )


def test_zero_results_requested_is_wrong_usage(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "a cat", "-k", 0)
    assert outcome.code == 2
    assert "-k" in outcome.stderr


@pytest.mark.parametrize(("command", "due"), [("index", "option '--index'"), ("search", "argument 'INDEX'")])
def test_what_is_due_is_named(cli: Cli, command: str, due: str) -> None:
    outcome = cli(command)
    assert outcome.code == 2
    assert f"Missing {due}" in outcome.stderr
