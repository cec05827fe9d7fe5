"""`multimodal index` and `multimodal search`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Cli


def names(outcome_hits: list[dict[str, str]]) -> list[str]:
    return [Path(hit["uri"]).name for hit in outcome_hits]


def test_index_reports_what_it_did_and_what_the_index_holds(cli: Cli, media: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.lance"
    outcome = cli("index", media, "--index", path, "--space", "toy")
    assert outcome.code == 0
    assert outcome.stdout.startswith(f"5 added, 0 updated, 0 failed; {path} now holds 5 (")
    assert outcome.stderr == ""


def test_index_as_json_has_counts_failures_and_the_space(cli: Cli, media: Path, tmp_path: Path) -> None:
    report = cli("index", media, "--index", tmp_path / "new.lance", "--space", "toy", "--json").json()
    assert report.pop("seconds") >= 0
    assert len(report.pop("fingerprint")) == 64
    assert report == {
        "index": str(tmp_path / "new.lance"), "space": "toy", "added": 5, "updated": 0, "failed": [], "total": 5,
        "unchanged": 0, "moved": 0, "deleted": 0, "duplicates": 0,
    }  # fmt: skip


def test_indexing_again_takes_what_changed_and_needs_no_space(cli: Cli, media: Path, index: Path) -> None:
    (media / "note.txt").write_text("a green pear\n", encoding="utf-8")
    report = cli("index", media / "red.png", media / "note.txt", "--index", index, "--json").json()
    assert (report["added"], report["updated"], report["unchanged"], report["total"]) == (0, 1, 1, 5)


def test_a_picture_finds_itself_first(cli: Cli, media: Path, index: Path) -> None:
    found = cli("search", index, "--image", media / "green.png", "-k", 2, "--json").json()
    assert names(found["hits"])[0] == "green.png"
    assert found["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert len(found["hits"]) == 2
    assert found["query"] == {"modality": "image", "text": None, "uri": str(media / "green.png")}
    place = {"start_s", "end_s", "start_char", "end_char", "probability"}
    assert (
        set(found["hits"][0]) == {"id", "uri", "score", "modality", "metadata", "text", "text_score"} | place
    )


def test_a_sound_is_searched_as_a_sound(cli: Cli, media: Path, index: Path) -> None:
    found = cli("search", index, "--audio", media / "tone.wav", "--modality", "audio", "--json").json()
    assert names(found["hits"]) == ["tone.wav"]
    assert found["query"]["modality"] == "audio"


def test_modalities_may_be_several(cli: Cli, index: Path) -> None:
    found = cli("search", index, "red", "--modality", "image", "--modality", "text", "--json").json()
    assert sorted(names(found["hits"])) == ["blue.png", "green.png", "note.txt", "red.png"]


def test_the_table_shows_words_of_a_note_and_paths_of_the_rest(cli: Cli, media: Path, index: Path) -> None:
    shown = cli("search", index, "a red apple", "-k", 5).stdout
    lines = shown.splitlines()
    assert any("a red apple" in line and "text" in line for line in lines)
    assert "red.png" in shown.replace("\n", "")


def test_metadata_is_kept_and_filters(cli: Cli, media: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.lance"
    for name, year in (("red", 2019), ("green", 2020), ("blue", 2021)):
        about = ("--metadata", "place=Rome [old]", "--metadata", f"year={year}")
        assert cli("index", media / f"{name}.png", "--index", path, "--space", "toy", *about).code == 0

    def found(*conditions: str) -> list[str]:
        flags = [flag for one in conditions for flag in ("--where", one)]
        return sorted(names(cli("search", path, "x", "--json", *flags).json()["hits"]))

    assert found("place=Rome [old]") == ["blue.png", "green.png", "red.png"]
    assert found("year=2020") == ["green.png"]
    assert found("year>=2020", "year<2021") == ["green.png"]
    assert found("place=Paris") == []
    assert found("year>2019", "place=Rome [old]") == ["blue.png", "green.png"]


def test_nothing_found_is_said_and_is_no_error(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "x", "--where", "place=Atlantis")
    assert (outcome.code, outcome.stdout) == (0, "")
    assert outcome.stderr == "note: nothing found: the index holds nothing of that kind\n"


def test_words_that_are_a_file_are_words_with_a_hint(
    cli: Cli, media: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(media)
    outcome = cli("search", index, "red.png", "--json")
    assert outcome.json()["query"] == {"modality": "text", "text": "red.png", "uri": None}
    assert outcome.stderr == (
        "note: 'red.png' is searched as words; for the file give --image, --audio or --video red.png\n"
    )


def test_paths_below_the_working_directory_are_shown_short(
    cli: Cli, media: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(media.parent)
    shown = cli("search", index, "x", "--modality", "audio").stdout
    assert "media/tone.wav" in shown
    assert str(media) not in shown.replace("\n", "")


@pytest.mark.parametrize(
    ("condition", "told"),
    [("year", "'year' is not KEY=VALUE"), ("=2020", "'=2020' is not KEY=VALUE")],
)
def test_a_condition_that_is_none_is_wrong_usage(cli: Cli, index: Path, condition: str, told: str) -> None:
    outcome = cli("search", index, "x", "--where", condition)
    assert outcome.code == 2
    assert told in outcome.stderr


def test_a_key_equal_to_two_values_is_wrong_usage(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "x", "--where", "year=2020", "--where", "year=2021")
    assert outcome.code == 2
    assert "'year' is asked for twice" in outcome.stderr


def test_an_index_too_small_for_statistics_is_ordered_by_cosine_and_said_so(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "green")
    assert "not calibrated, ordered by cosine: " in outcome.stderr
    plain = cli("search", index, "green", "--uncalibrated", "--json").json()
    assert plain["note"] == "" and {hit["probability"] for hit in plain["hits"]} == {None}


def test_a_probability_that_cannot_be_judged_is_refused(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "green", "--min-probability", 0.5)
    assert outcome.code == 1
    assert "min_probability=0.5 cannot be judged: " in outcome.stderr
    assert cli("search", index, "green", "--min-probability", 2).code == 2
