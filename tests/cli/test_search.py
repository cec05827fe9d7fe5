"""`multimodal search`: queries of one and several parts, filters, pages and the table of hits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli


def names(output: dict[str, Any]) -> list[str]:
    return [Path(hit["uri"]).name for hit in output["hits"]]


def test_an_image_finds_itself_first(cli: Cli, media: Path, index: Path) -> None:
    output = cli("search", index, "--image", media / "green.png", "-k", 2, "--json").json()
    assert names(output)[0] == "green.png"
    assert output["hits"][0]["score"] == pytest.approx(1, abs=1e-5)
    assert len(output["hits"]) == 2
    assert output["query"] == {"modality": "image", "text": None, "uri": str(media / "green.png")}
    place = {"start_s", "end_s", "start_char", "end_char", "probability", "fused_score"}
    assert (
        set(output["hits"][0]) == {"id", "uri", "score", "modality", "metadata", "text", "text_score"} | place
    )


def test_audio_is_searched_as_audio(cli: Cli, media: Path, index: Path) -> None:
    output = cli("search", index, "--audio", media / "tone.wav", "--modality", "audio", "--json").json()
    assert names(output) == ["tone.wav"]
    assert output["query"]["modality"] == "audio"


def test_modalities_may_be_several(cli: Cli, index: Path) -> None:
    output = cli("search", index, "red", "--modality", "image", "--modality", "text", "--json").json()
    assert sorted(names(output)) == ["blue.png", "green.png", "note.txt", "red.png"]


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

    def matching(*conditions: str) -> list[str]:
        flags = [flag for condition in conditions for flag in ("--where", condition)]
        return sorted(names(cli("search", path, "x", "--json", *flags).json()))

    assert matching("place=Rome [old]") == ["blue.png", "green.png", "red.png"]
    assert matching("year=2020") == ["green.png"]
    assert matching("year>=2020", "year<2021") == ["green.png"]
    assert matching("place=Paris") == []
    assert matching("year>2019", "place=Rome [old]") == ["blue.png", "green.png"]


def test_nothing_found_is_said_and_is_no_error(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "x", "--where", "place=Atlantis")
    assert (outcome.code, outcome.stdout) == (0, "")
    assert outcome.stderr == (
        "note: no results: no item has the metadata key 'place'; no item has any metadata\n"
    )


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
    ("condition", "message"),
    [
        ("year", "'year' is not KEY=VALUE"),
        ("=2020", "'=2020' is not KEY=VALUE"),
        ("year!=2020", "the operator !=; there are =, <, <=, > and >="),
        ("year==2020", "the operator ==;"),
        ("year=>2020", "the operator =>;"),
    ],
)
def test_a_condition_that_is_none_is_wrong_usage(cli: Cli, index: Path, condition: str, message: str) -> None:
    outcome = cli("search", index, "x", "--where", condition)
    assert outcome.code == 2
    assert message in outcome.stderr


def test_a_key_equal_to_two_values_is_wrong_usage(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "x", "--where", "year=2020", "--where", "year=2021")
    assert outcome.code == 2
    assert "'year' is given twice" in outcome.stderr


def test_an_index_too_small_for_statistics_is_ordered_by_cosine_and_said_so(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "green")
    assert "not calibrated, ordered by cosine: " in outcome.stderr
    plain = cli("search", index, "green", "--uncalibrated", "--json").json()
    assert plain["note"] == "" and {hit["probability"] for hit in plain["hits"]} == {None}


def test_a_probability_that_cannot_be_judged_is_refused(cli: Cli, index: Path) -> None:
    outcome = cli("search", index, "green", "--min-probability", 0.5)
    assert outcome.code == 1
    assert "--min-probability 0.5 cannot be applied: " in outcome.stderr
    assert cli("search", index, "green", "--min-probability", 2).code == 2


def test_parts_are_weighted_and_reported(cli: Cli, media: Path, index: Path) -> None:
    green, blue = media / "green.png", media / "blue.png"

    def search(*weights: str) -> dict[str, Any]:
        flags = [flag for weight in weights for flag in ("--weight", weight)]
        return cli("search", index, "red", "--image", green, "--image", blue, "--json", *flags).json()

    assert search("words=9")["query"] == {
        "parts": [
            {"modality": "text", "text": "red", "uri": None, "weight": 9.0},
            {"modality": "image", "text": None, "uri": str(green), "weight": 1.0},
            {"modality": "image", "text": None, "uri": str(blue), "weight": 1.0},
        ],
        "similar_to": [],
        "text": None,
    }
    assert names(search("words=9", "image=0.1"))[0] in ("red.png", "note.txt")
    assert set(names(search("words=0.01"))[:2]) == {"green.png", "blue.png"}


def test_not_turns_away(cli: Cli, media: Path, index: Path) -> None:
    plain = cli("search", index, "--image", media / "red.png", "--json").json()
    turned = cli("search", index, "--image", media / "red.png", "--not", "red", "--json").json()
    assert turned["query"]["parts"][1] == {"modality": "text", "text": "red", "uri": None, "weight": -0.7}
    scores = [
        {Path(h["uri"]).name: h["score"] for h in results["hits"]}["note.txt"] for results in (plain, turned)
    ]
    assert scores[1] < scores[0] - 0.1


@pytest.mark.parametrize("flag", ["--similar-to", "--near"])  # the second is the name that it had in 0.1
def test_similar_to_takes_a_path_as_it_is_typed_and_leaves_that_file_out(
    cli: Cli, media: Path, index: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    monkeypatch.chdir(media)
    output = cli("search", index, flag, "red.png", "--json").json()
    assert output["query"] == {"parts": [], "similar_to": [str(media / "red.png")], "text": None}
    assert sorted(names(output)) == ["blue.png", "green.png", "note.txt", "tone.wav"]


def test_words_are_found_in_names_and_texts(cli: Cli, index: Path) -> None:
    output = cli("search", index, "--text", "RED", "--json").json()
    assert (output["method"], sorted(names(output))) == ("text", ["note.txt", "red.png"])
    assert all(hit["score"] == hit["text_score"] > 0 for hit in output["hits"])
    assert names(cli("search", index, "--text", '"red apple"', "--json").json()) == ["note.txt"]
    outcome = cli("search", index, "--text", "zebra")
    assert (outcome.code, outcome.stdout) == (0, "")
    assert outcome.stderr == "note: no results: the index has no items with these words\n"


def test_words_beside_a_query_have_a_column_of_their_own(
    cli: Cli, media: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(media)  # so that paths are short enough for one line
    shown = cli("search", index, "blue", "--text", "green").stdout
    assert "words" in shown.splitlines()[1].split()
    (with_words,) = re.findall(r".* \d\.\d .*", shown)  # BM25 has one decimal, a cosine three
    assert "green.png" in with_words
    assert cli("search", index, "blue", "--text", "green", "--json").json()["method"] == "hybrid"


def test_pages_follow_each_other(cli: Cli, index: Path) -> None:
    everything = names(cli("search", index, "red", "-k", 5, "--json").json())
    pages = [cli("search", index, "red", "-k", 2, "--offset", start, "--json").json() for start in (0, 2, 4)]
    assert [name for page in pages for name in names(page)] == everything
    assert [page["offset"] for page in pages] == [0, 2, 4]
    outcome = cli("search", index, "red", "--offset", 5)
    assert outcome.stderr == "note: no results: the index has no items of that kind beyond the first 5\n"


def test_distinct_shows_one_of_each(cli: Cli, media: Path, tmp_path: Path) -> None:
    copy = media / "again.png"
    copy.write_bytes((media / "red.png").read_bytes())
    path = tmp_path / "twice.lance"
    assert cli("index", media, "--index", path, "--space", "toy").code == 0
    both = cli("search", path, "--image", copy, "-k", 2, "--json").json()
    assert sorted(names(both)) == ["again.png", "red.png"]
    output = cli("search", path, "--image", copy, "-k", 2, "--distinct", "--exact", "--json").json()
    assert names(output)[0] == "again.png" and names(output)[1] != "red.png"
    assert output["method"] == "exact"


def test_group_shows_the_best_part_of_each_item(cli: Cli, media: Path, tmp_path: Path) -> None:
    (media / "long.txt").write_text(("red and green things. " * 30 + "\n\n") * 20)
    path = tmp_path / "long.lance"
    assert cli("index", media, "--index", path, "--space", "toy").code == 0
    parts = names(cli("search", path, "red", "-k", 999, "--json").json())
    assert parts.count("long.txt") > 1
    grouped = names(cli("search", path, "red", "-k", 999, "--group", "--json").json())
    assert grouped.count("long.txt") == 1 and set(grouped) == set(parts)
    by_key = cli("search", path, "red", "-k", 999, "--group-by", "nothing", "--json").json()
    assert names(by_key) == grouped  # what lacks the key is a group of its own


def test_optimize_prepares_an_index_and_changes_no_answer(cli: Cli, index: Path) -> None:
    before = cli("search", index, "red", "--json").json()["hits"]
    outcome = cli("optimize", index)
    assert outcome.code == 0
    assert outcome.stdout.startswith(f"{index} with 5 items is ready (")
    assert cli("optimize", index, "--exhaustive", "--json").json()["items"] == 5
    assert cli("search", index, "red", "--json").json()["hits"] == before


def test_a_long_path_is_printed_in_one_piece(cli: Cli, media: Path, tmp_path: Path) -> None:
    deep = media / ("folder-with-a-long-name-" * 3) / ("another-folder-" * 5)
    deep.mkdir(parents=True)
    (media / "red.png").rename(deep / "red.png")
    path = tmp_path / "deep.lance"
    assert cli("index", media, "--index", path, "--space", "toy").code == 0
    assert str(deep / "red.png") in cli("search", path, "red").stdout
    assert str(deep / "red.png") in cli("embed", deep / "red.png", "--space", "toy").stdout


# --- what orders is what is shown, filters by unknown keys, and pages ----------------------------------------------


def test_the_bar_and_the_first_number_follow_what_orders_the_hits() -> None:
    from multimodal.cli.indexes.search import _number_columns
    from multimodal.core.modality import Modality
    from multimodal.index import Hit, Hits

    text = Hit("a", None, 0.2, Modality.TEXT, text="a", probability=0.9, fused_score=0.03)
    image = Hit("b", None, 0.7, Modality.IMAGE, probability=0.3, fused_score=0.02)
    plain = [replace(hit, fused_score=None) for hit in (text, image)]
    for hits, key, shares in (
        (Hits(plain), "probability", [0.9, 0.3]),
        (Hits(plain[1:]), "score", [0.7]),
        (Hits([replace(hit, probability=None) for hit in plain[::-1]]), "score", [0.7, 0.2]),
        (Hits([text, image], "hybrid"), "fused_score", [1.0, 0.02 / 0.03]),
    ):
        assert hits.ordered_by == key
        assert hits.shares() == pytest.approx(shares) and hits.shares() == sorted(hits.shares(), reverse=True)
        assert next(iter(_number_columns(hits))) == {"fused_score": "fused"}.get(key, key)


def test_an_unknown_metadata_key_is_named_with_those_there_are(cli: Cli, media: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.lance"
    assert (
        cli("index", media / "red.png", "--index", path, "--space", "toy", "--metadata", "album=x").code == 0
    )
    outcome = cli("search", path, "x", "--where", "albun=x")
    assert outcome.stderr == "note: no results: no item has the metadata key 'albun'; the keys are album\n"
    outcome = cli("search", path, "x", "--where", "modality=image")
    assert (
        "no item has the metadata key 'modality'; to filter by modality, give --modality image"
        in outcome.stderr
    )
    outcome = cli("search", path, "x", "--where", "album=y")
    assert outcome.stderr == "note: no results: the index has no items of that kind\n"


def test_hits_become_a_page_without_scripts_or_foreign_resources(
    cli: Cli, media: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    page = tmp_path / "hits.html"
    assert cli("search", index, "<b>red", "-k", 9, "--html", page, "--open").code == 0
    html = page.read_text(encoding="utf-8")
    assert opened == [page.as_uri()]
    assert "<b>red" not in html and "&lt;b&gt;red" in html and "<script" not in html
    assert "default-src 'none'" in html and 'src="data:image/png' in html and "<audio" in html
    assert html.count("<li") == 5
    assert cli("search", index, "red", "--open").code == 0
    assert opened[1].startswith("file:") and opened[1].endswith(".html")
    assert cli("search", index, "red", "--html", tmp_path / "no" / "hits.html").code == 2


def test_calibrate_fits_labels_and_reset_removes_the_fit(cli: Cli, media: Path, tmp_path: Path) -> None:
    path, labels = tmp_path / "new.lance", tmp_path / "labels.csv"
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(12):
        (notes / f"{number}.txt").write_text(f"note {number}")
    assert cli("index", notes, "--index", path, "--space", "toy").code == 0
    labels.write_text(
        f"query,id,relevant\nnote 3,{notes / '3.txt'},1\nnote 4,notes/4.txt,yes\nnote 4,notes/5.txt,0\n"
    )
    report = cli("calibrate", path, labels, "--json").json()
    assert (report["n_queries"], report["n_relevant"]) == (2, 2)
    assert (path / "calibration.json").is_file()
    assert cli("calibrate", path, "--reset", "--json").json()["removed"] is True
    assert not (path / "calibration.json").exists()
    for content, message in (
        ("text,id\na,b\n", "the first line must name the columns"),
        ("query,id\na,\n", "line 2: a line has an id and one query"),
        ("query,id,relevant\na,b,maybe\n", "line 2: relevant must be 1 or 0, got 'maybe'"),
        ("query,id\na,nowhere\n", "no item of the index has the id 'nowhere'"),
    ):
        labels.write_text(content)
        outcome = cli("calibrate", path, labels)
        assert outcome.code == 1 and message in outcome.stderr
    assert cli("calibrate", path).code == 2
