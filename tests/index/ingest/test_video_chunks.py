"""A video in a space without video encoder: frames, audio and subtitles form one document, found by any of them."""

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
def video(talking: bytes, tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    path = folder / "video.mp4"
    path.write_bytes(talking)
    path.with_suffix(".srt").write_text(SRT)
    return path


def kinds(index: Index) -> dict[str, int]:
    modalities = [row["modality"] for row in index.rows()]
    return {kind: modalities.count(kind) for kind in sorted(set(modalities))}


# --- one document ---------------------------------------------------------------------------------


def test_a_video_is_one_document_with_frames_audio_and_subtitles(index: Index, video: Path) -> None:
    report = index.add(video.parent)
    assert (report.added, report.failed) == (1, ())
    assert kinds(index) == {"audio": 1, "image": 3, "text": 1}
    rows = {row["id"].rpartition("#")[2]: row for row in index.rows()}
    assert {place.partition("=")[0] for place in rows} == {"frame", "sound", "words"}
    assert rows.keys() > {"frame=0-2", "frame=2-4", "frame=4-6", "words=0.5-5.25"}
    assert {row["uri"] for row in rows.values()} == {str(video)}
    assert rows["words=0.5-5.25"]["text"] == "apple apple banana & cherry"


def test_the_modality_video_selects_all_parts_of_videos_and_only_these(index: Index, video: Path) -> None:
    image = Image(drawn(30), uri="still")
    index.add([video, image, "apple"])
    everything = index.search("apple", 20)
    videos = index.search("apple", 20, modality="video")
    assert {hit.id for hit in videos} == {hit.id for hit in everything if hit.uri == str(video)}
    assert len(videos) == 5 and {hit.document_modality for hit in videos} == {Modality.VIDEO}
    assert {hit.modality for hit in videos} == {Modality.TEXT, Modality.IMAGE, Modality.AUDIO}
    assert all(hit.start_s is not None and " s" in hit.location for hit in videos)
    assert {hit.document_modality for hit in everything if hit.uri != str(video)} == {
        Modality.TEXT, Modality.IMAGE,
    }  # fmt: skip
    with_text = index.search("apple", 20, modality=["video", "text"])
    assert {hit.id for hit in with_text} == {hit.id for hit in everything if hit.id != "still"}
    assert len(index.rows(modality="video")) == 5 and len(index.rows(modality=["video", "image"])) == 6
    assert index.search("apple", 20, modality="video", where={"no": "such"}) == []


@pytest.mark.parametrize(("query", "modality"), [
    ("apple", Modality.TEXT), (Image(drawn(30)), Modality.IMAGE), (Audio(TONE), Modality.AUDIO),
], ids=["words", "picture", "sound"])  # fmt: skip
def test_any_chunk_finds_it_and_grouping_yields_one_hit(
    index: Index, video: Path, query: Any, modality: Modality
) -> None:
    index.add([video, "zebra"])
    best = index.search(query, 1)[0]
    assert (best.uri, best.modality) == (str(video), modality)
    grouped = index.search(query, 9, group_by=True)
    assert [hit.uri for hit in grouped] == [str(video), None]
    assert grouped[0] == best and best.location


def test_a_frame_has_times_and_is_shown(index: Index, video: Path) -> None:
    index.add(video)
    frames = index.search(Image(drawn(30)), modality="image")
    assert sorted((hit.start_s, hit.end_s) for hit in frames) == [(0, 2), (2, 4), (4, 6)]
    assert "<img" in frames._repr_html_()


def test_the_encoded_frame_is_the_middle_one(plain: ModuleType, video: Path, tmp_path: Path) -> None:
    space = plain.load()
    seen = space.encoders[Modality.IMAGE].seen
    Index.create(tmp_path / "other.lance", space).add(video)
    middles = [int(FPS * FRAME_S * (place + 0.5)) for place in range(3)]
    assert sorted(number(item.load()) for item in seen) == middles


def test_it_is_deleted_as_a_whole_and_updated_if_its_subtitles_change(index: Index, video: Path) -> None:
    index.add(video)
    assert index.add(video).unchanged == 1
    video.with_suffix(".srt").write_text(SRT.replace("apple", "zebra"))
    assert index.add(video).updated == 1
    assert [row["text"] for row in index.rows(modality="text")] == ["zebra zebra banana & cherry"]
    video.with_suffix(".srt").unlink()
    assert index.add(video).updated == 1
    assert kinds(index) == {"audio": 1, "image": 3}
    index.delete([str(video)])
    assert len(index) == 0


def test_a_truncated_video_leaves_no_rows(index: Index, video: Path) -> None:
    video.write_bytes(video.read_bytes()[:-9000])
    report = index.add([video, "apple"])
    assert (report.added, len(report.failed), len(index)) == (1, 1, 1)


def test_frames_in_memory_have_no_audio_and_no_subtitles(index: Index) -> None:
    frames = np.stack([drawn(place) for place in range(SECONDS * FPS)])
    index.add([Video(frames, fps=FPS, uri="db://7")])
    assert kinds(index) == {"image": 3}


# --- spaces of other modalities -------------------------------------------------------------------


def some(plain: ModuleType, *wanted: Modality) -> Space:
    return Space([plain.KINDS[kind]() for kind in wanted], name="some")


def test_each_space_encodes_what_it_can(plain: ModuleType, video: Path, tmp_path: Path) -> None:
    counts = {}
    for kind in (Modality.IMAGE, Modality.AUDIO):
        index = Index.create(tmp_path / f"{kind}.lance", some(plain, kind))
        index.add(video)
        counts[kind] = kinds(index)
    assert counts == {Modality.IMAGE: {"image": 3}, Modality.AUDIO: {"audio": 1}}


def test_a_silent_video_in_a_space_of_audio_is_a_failure(plain: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "silent.mp4"
    path.write_bytes(clip())
    index = Index.create(tmp_path / "i.lance", some(plain, Modality.AUDIO))
    assert index.add(path).failed[0].reason == (
        f"{path}: has no audio track, the only part of a video that the space 'some' encodes; use a space with image "
        "or video"
    )


def test_a_space_of_text_refuses_videos(plain: ModuleType, video: Path, tmp_path: Path) -> None:
    index = Index.create(tmp_path / "i.lance", some(plain, Modality.TEXT))
    assert "video given to a space with text: 'some' cannot encode it" in index.add(video).failed[0].reason


# --- subtitles ------------------------------------------------------------------------------------


def test_subtitles_beside_a_video_belong_to_it_and_others_are_files(video: Path) -> None:
    (video.parent / "alone.srt").write_text(SRT)
    assert [path.name for path in files_in(video.parent)] == ["alone.srt", "video.mp4"]
    assert (
        subtitles_of(video) == [video.with_suffix(".srt")] and subtitles_of(video.with_suffix(".png")) == []
    )
    assert without_subtitles(["a.vtt", "A.MKV", "A.vtt"]) == ["a.vtt", "A.MKV"]


def test_subtitles_are_joined_up_to_a_size(video: Path) -> None:
    video.with_suffix(".srt").unlink()
    video.with_suffix(".vtt").write_text(
        "WEBVTT - a title\r\n\r\nNOTE nothing\r\n\r\n00:01.000 --> 00:02.000 align:start\r\n<v Ann>one two\r\n\r\n"
        "b\r\n01:00:03.500 --> 01:00:04.000\r\nthree\r\n\r\n01:00:05.000 --> 01:00:06.000\r\n{\\an8}four five six\r\n"
    )  # fmt: skip
    assert list(subtitle_passages(video, 14)) == [
        Cue("one two three", 1.0, 3604.0),
        Cue("four five six", 3605.0, 3606.0),
    ]
    assert len(list(subtitle_passages(video, 5))) == 3
    assert list(subtitle_passages(video, 500)) == [Cue("one two three four five six", 1.0, 3606.0)]


@pytest.mark.parametrize(("content", "message"), [
    (b"1\n00:00:00,000 --> 00:00:01,000\na\0b", "subtitles are not text in UTF-8 or Latin-1"),
    (b" " * ((8 << 20) + 1), "larger than 8,388,608 bytes, too much for subtitles; rename it"),
], ids=["no text", "too large"])  # fmt: skip
def test_unreadable_subtitles_are_a_failure(index: Index, video: Path, content: bytes, message: str) -> None:
    video.with_suffix(".srt").write_bytes(content)
    reason = index.add(video).failed[0].reason
    assert reason.startswith(f"{video.with_suffix('.srt')}: {message}")
