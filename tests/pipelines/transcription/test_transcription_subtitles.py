"""SRT and VTT: read back by a strict parser of our own, whatever the segments were."""

from __future__ import annotations

import html
import json
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multimodal.core.errors import InvalidInput
from multimodal.pipelines.transcription.pipeline import Segment, Transcription, Word
from multimodal.pipelines.transcription.subtitles import MIN_SHOWN_S, Cue, srt, vtt

SRT_TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d),(\d{3})")
VTT_TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})")
TIMES = st.floats(0, 360_000, allow_nan=False)
CUES = st.lists(st.builds(Cue, TIMES, TIMES, st.text(max_size=30)), max_size=8)


def seconds(hours: str, minutes: str, whole: str, thousandths: str) -> int:
    return ((int(hours) * 60 + int(minutes)) * 60 + int(whole)) * 1000 + int(thousandths)


def read_times(line: str, pattern: re.Pattern[str]) -> tuple[int, int]:
    result = pattern.fullmatch(line)
    assert result is not None, line
    return seconds(*result.groups()[:4]), seconds(*result.groups()[4:])


def parse_srt(text: str) -> list[tuple[int, int, str]]:
    cues = []
    for number, block in enumerate(text.split("\n\n")[:-1], 1):
        counted, times, *lines = block.split("\n")
        assert counted == str(number)
        assert lines and all(lines)
        cues.append((*read_times(times, SRT_TIMES), "\n".join(lines)))
    return cues


def parse_vtt(text: str) -> list[tuple[int, int, str]]:
    head, *blocks = text.removesuffix("\n").split("\n\n")
    assert head == "WEBVTT"
    cues = []
    for block in blocks:
        times, *lines = block.split("\n")
        assert lines and all(lines)
        assert not any("-->" in line for line in lines)
        cues.append((*read_times(times, VTT_TIMES), html.unescape("\n".join(lines))))
    return cues


def words(text: str) -> list[str]:
    return text.split()


@given(CUES)
def test_no_word_is_lost_on_the_way_through_srt(cues: list[Cue]) -> None:
    read = parse_srt(srt(cues))
    said = [words(cue.text) for cue in sorted(cues, key=lambda item: item.start_s)]
    assert [words(text.replace("→", "-->")) for *_, text in read] == [
        [word.replace("→", "-->") for word in item] for item in said if item
    ]


@given(CUES)
def test_no_word_is_lost_on_the_way_through_vtt(cues: list[Cue]) -> None:
    read = parse_vtt(vtt(cues))
    said = [words(cue.text) for cue in sorted(cues, key=lambda item: item.start_s)]
    assert [words(text) for *_, text in read] == [item for item in said if item]


@given(CUES)
def test_cues_follow_on_each_other_and_can_be_seen(cues: list[Cue]) -> None:
    for read in (parse_srt(srt(cues)), parse_vtt(vtt(cues))):
        for start, end, _ in read:
            assert end - start >= round(1000 * MIN_SHOWN_S)
        for before, after in pairwise(read):
            assert before[1] <= after[0]


@given(st.lists(st.tuples(st.floats(0.2, 50), st.floats(0, 5)), min_size=1, max_size=6))
def test_times_that_are_in_order_are_kept_to_the_millisecond(steps: list[tuple[float, float]]) -> None:
    at, cues = 0.0, []
    for shown, pause in steps:
        cues.append(Cue(at, at + shown, "word"))
        at += shown + pause
    for cue, (start, end, _) in zip(cues, parse_srt(srt(cues)), strict=True):
        assert abs(start - 1000 * cue.start_s) <= 1
        assert abs(end - 1000 * cue.end_s) <= 1


def test_hours_have_two_digits_or_more() -> None:
    assert srt([Cue(3661.5, 3662.0, "late")]) == "1\n01:01:01,500 --> 01:01:02,000\nlate\n\n"
    assert "100:00:00.000 --> 100:00:01.000" in vtt([Cue(360_000, 360_001, "later")])


def test_an_overlap_ends_where_the_next_begins() -> None:
    assert parse_srt(srt([Cue(0, 5, "a"), Cue(3, 6, "b")])) == [(0, 3000, "a"), (3000, 6000, "b")]


def test_two_at_one_time_are_shown_one_after_the_other() -> None:
    assert parse_srt(srt([Cue(1, 1, "a"), Cue(1, 1, "b")])) == [(1000, 1100, "a"), (1100, 1200, "b")]


def test_what_would_end_a_cue_early_is_written_otherwise() -> None:
    assert srt([Cue(0, 1, "a --> b\n\n<i>c</i> & d")]) == (
        "1\n00:00:00,000 --> 00:00:01,000\na → b\n<i>c</i> & d\n\n"
    )
    assert vtt([Cue(0, 1, "a --> b\n\n<i>c</i> & d")]) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\na --&gt; b\n&lt;i&gt;c&lt;/i&gt; &amp; d\n"
    )


def test_nothing_said_is_an_empty_file() -> None:
    silent = Transcription("", None, (), (), 3.0, "starter")
    assert (silent.to_srt(), silent.to_vtt()) == ("", "WEBVTT\n")


def test_a_transcription_is_plain_values() -> None:
    said = Transcription("a b", "en", (Segment(0.0, 1.0, "a b", (7, 8)),), (Word(0.0, 0.5, "a"),), 2.0, "m")
    assert json.loads(json.dumps(said.to_dict())) == {
        "text": "a b",
        "language": "en",
        "segments": [{"start": 0.0, "end": 1.0, "text": "a b"}],
        "words": [{"start": 0.0, "end": 0.5, "text": "a"}],
        "duration_s": 2.0,
        "model": "m",
    }
    assert str(said) == "a b"


@pytest.mark.parametrize("timed", [Segment(0.5, 1.25, "a"), Word(0.5, 1.25, "a")])
def test_times_still_answer_to_their_old_names_with_a_warning(timed: Segment | Word) -> None:
    with pytest.warns(DeprecationWarning, match=rf"{type(timed).__name__}\.start_s is deprecated") as warned:
        assert timed.start_s == timed.start == 0.5
    assert warned[0].filename == __file__
    with pytest.warns(DeprecationWarning, match=r"end_s is deprecated"):
        assert timed.end_s == timed.end == 1.25


def test_subtitles_of_text_without_times_are_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        Transcription("a b", "en", (), (), 2.0, "m").to_srt()
    assert str(caught.value) == (
        "subtitles need times, and this transcription has none: make it with timestamps='segment'"
    )


def test_a_notebook_shows_it_escaped() -> None:
    said = Transcription("<b>", "en", (Segment(0.0, 1.0, "<b>"),), (), 1.0, "m")
    assert "&lt;b&gt;" in said._repr_html_() and "<b>" not in said._repr_html_()
    bare = Transcription("<b>", None, (), (), 1.0, "m")
    assert bare._repr_html_() == "<blockquote>&lt;b&gt;</blockquote><small>m · 1.0 s</small>"
