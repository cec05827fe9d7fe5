"""Films in a space that takes no films: their frames, sound and subtitles are one thing, found by any of them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from multimodal.core.items import Audio, Image, Video
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index import Index
from multimodal.index.ingest.sources.folders import files_in
from multimodal.index.ingest.video import FRAME_S, Cue, subtitle_passages, subtitles_of, without_subtitles
from tests.core.media.clips import clip, drawn, number

pytest.importorskip("av")

SECONDS, FPS = 6, 10
SRT = "1\n00:00:00,500 --> 00:00:02,000\n<i>apple</i> apple\n\n2\n00:00:03,000 --> 00:00:05,250\nbanana &amp;\ncherry\n"
TONE = {"array": np.sin(np.arange(8000) * 0.4).astype(np.float32), "sampling_rate": 8000}


@pytest.fixture(scope="module")
def talking() -> bytes:
    """Six seconds with a tone; the number of each frame is drawn on it."""
    return clip(n=SECONDS * FPS, fps=FPS, sound=True)


@pytest.fixture
def film(talking: bytes, tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    path = folder / "film.mp4"
    path.write_bytes(talking)
    path.with_suffix(".srt").write_text(SRT)
    return path


def kinds(index: Index) -> dict[str, int]:
    modalities = [row["modality"] for row in index.rows()]
    return {kind: modalities.count(kind) for kind in sorted(set(modalities))}


# --- one thing ------------------------------------------------------------------------------------


def test_a_film_is_one_thing_with_frames_sound_and_words(index: Index, film: Path) -> None:
    report = index.add(film.parent)
    assert (report.added, report.failed) == (1, ())
    assert kinds(index) == {"audio": 1, "image": 3, "text": 1}
    rows = {row["id"].rpartition("#")[2]: row for row in index.rows()}
    assert {place.partition("=")[0] for place in rows} == {"frame", "sound", "words"}
    assert rows.keys() > {"frame=0-2", "frame=2-4", "frame=4-6", "words=0.5-5.25"}
    assert {row["uri"] for row in rows.values()} == {str(film)}
    assert rows["words=0.5-5.25"]["text"] == "apple apple banana & cherry"


@pytest.mark.parametrize(("query", "modality"), [
    ("apple", Modality.TEXT), (Image(drawn(30)), Modality.IMAGE), (Audio(TONE), Modality.AUDIO),
], ids=["words", "picture", "sound"])  # fmt: skip
def test_it_is_found_by_any_of_them_and_grouped_it_is_one_hit(
    index: Index, film: Path, query: Any, modality: Modality
) -> None:
    index.add([film, "zebra"])
    best = index.search(query, 1)[0]
    assert (best.uri, best.modality) == (str(film), modality)
    grouped = index.search(query, 9, group_by=True)
    assert [hit.uri for hit in grouped] == [str(film), None]
    assert grouped[0] == best and best.location


def test_a_frame_stands_for_its_seconds_and_is_shown(index: Index, film: Path) -> None:
    index.add(film)
    frames = index.search(Image(drawn(30)), modality="image")
    assert sorted((hit.start_s, hit.end_s) for hit in frames) == [(0, 2), (2, 4), (4, 6)]
    assert "<img" in frames._repr_html_()


def test_the_frame_that_is_encoded_is_the_one_on_screen_in_the_middle(
    plain: ModuleType, film: Path, tmp_path: Path
) -> None:
    space = plain.load()
    seen = space.encoders[Modality.IMAGE].seen
    Index.create(tmp_path / "other.lance", space).add(film)
    middles = [int(FPS * FRAME_S * (place + 0.5)) for place in range(3)]
    assert sorted(number(one.load()) for one in seen) == middles


def test_it_goes_as_one_and_comes_again_only_if_it_or_its_words_changed(index: Index, film: Path) -> None:
    index.add(film)
    assert index.add(film).unchanged == 1
    film.with_suffix(".srt").write_text(SRT.replace("apple", "zebra"))
    assert index.add(film).updated == 1
    assert [row["text"] for row in index.rows(modality="text")] == ["zebra zebra banana & cherry"]
    film.with_suffix(".srt").unlink()
    assert index.add(film).updated == 1
    assert kinds(index) == {"audio": 1, "image": 3}
    index.delete([str(film)])
    assert len(index) == 0


def test_a_film_that_breaks_off_leaves_nothing_behind(index: Index, film: Path) -> None:
    film.write_bytes(film.read_bytes()[:-9000])
    report = index.add([film, "apple"])
    assert (report.added, len(report.failed), len(index)) == (1, 1, 1)


def test_frames_in_memory_have_no_sound_and_no_words(index: Index) -> None:
    frames = np.stack([drawn(place) for place in range(SECONDS * FPS)])
    index.add([Video(frames, fps=FPS, uri="db://7")])
    assert kinds(index) == {"image": 3}


# --- spaces that take less, or more ---------------------------------------------------------------


def some(plain: ModuleType, *wanted: Modality) -> Space:
    return Space([plain.KINDS[kind]() for kind in wanted], name="some")


def test_each_space_takes_what_it_can(plain: ModuleType, film: Path, tmp_path: Path) -> None:
    found = {}
    for kind in (Modality.IMAGE, Modality.AUDIO):
        index = Index.create(tmp_path / f"{kind}.lance", some(plain, kind))
        index.add(film)
        found[kind] = kinds(index)
    assert found == {Modality.IMAGE: {"image": 3}, Modality.AUDIO: {"audio": 1}}


def test_a_silent_film_and_a_space_that_only_hears(plain: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    path.write_bytes(clip())
    index = Index.create(tmp_path / "i.lance", some(plain, Modality.AUDIO))
    assert index.add(path).failed[0].reason == (
        f"{path}: has no audio track, the only part of a video that the space 'some' encodes; use a space with image "
        "or video"
    )


def test_a_space_of_words_refuses_films(plain: ModuleType, film: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i.lance", some(plain, Modality.TEXT))
    assert "video given to a space with text: 'some' cannot encode it" in index.add(film).failed[0].reason


# --- subtitles ------------------------------------------------------------------------------------


def test_subtitles_beside_a_film_are_a_part_of_it_and_others_are_files(film: Path) -> None:
    (film.parent / "alone.srt").write_text(SRT)
    assert [path.name for path in files_in(film.parent)] == ["alone.srt", "film.mp4"]
    assert subtitles_of(film) == [film.with_suffix(".srt")] and subtitles_of(film.with_suffix(".png")) == []
    assert without_subtitles(["a.vtt", "A.MKV", "A.vtt"]) == ["a.vtt", "A.MKV"]


def test_subtitles_are_joined_up_to_a_size(film: Path) -> None:
    film.with_suffix(".srt").unlink()
    film.with_suffix(".vtt").write_text(
        "WEBVTT - a title\r\n\r\nNOTE nothing\r\n\r\n00:01.000 --> 00:02.000 align:start\r\n<v Ann>one two\r\n\r\n"
        "b\r\n01:00:03.500 --> 01:00:04.000\r\nthree\r\n\r\n01:00:05.000 --> 01:00:06.000\r\n{\\an8}four five six\r\n"
    )  # fmt: skip
    assert list(subtitle_passages(film, 14)) == [
        Cue("one two three", 1.0, 3604.0),
        Cue("four five six", 3605.0, 3606.0),
    ]
    assert len(list(subtitle_passages(film, 5))) == 3
    assert list(subtitle_passages(film, 500)) == [Cue("one two three four five six", 1.0, 3606.0)]


@pytest.mark.parametrize(("content", "message"), [
    (b"1\n00:00:00,000 --> 00:00:01,000\n\xff\xfe", "subtitles are not valid UTF-8 ("),
    (b" " * ((8 << 20) + 1), "larger than 8,388,608 bytes, too much for subtitles; rename it"),
], ids=["no UTF-8", "too large"])  # fmt: skip
def test_unreadable_subtitles_are_a_failure(index: Index, film: Path, content: bytes, message: str) -> None:
    film.with_suffix(".srt").write_bytes(content)
    reason = index.add(film).failed[0].reason
    assert reason.startswith(f"{film.with_suffix('.srt')}: {message}")
