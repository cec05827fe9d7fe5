"""Videos. The oracle is PyAV alone, decoding every frame in order; each frame shows its own number."""

from __future__ import annotations

import base64
import io
import itertools
import pickle
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from multimodal.core.items import Audio, Image, Video, as_item
from multimodal.core.media import sniff
from multimodal.core.media.video import FrameReader
from multimodal.core.modality import Frames, Modality
from tests.core.media.clips import HEIGHT, WIDTH, clip, drawn, every_frame, number

av = pytest.importorskip("av")

N, FPS, GROUP = 120, 10, 30
KINDS = [
    *(
        ("mp4", "libx264"),
        ("mp4", "mpeg4"),
        ("mov", "libx264"),
        ("webm", "libvpx-vp9"),
        ("matroska", "libx264"),
    ),
    *(("avi", "mpeg4"), ("mpegts", "libx264"), ("flv", "libx264"), ("asf", "wmv2")),
]
ALL_COUNTS = (1, 2, 3, 7, 8, 40, 119, 120, 121, 300)


@pytest.fixture(scope="module")
def long() -> bytes:
    return clip(n=N, fps=FPS, group=GROUP)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The times of the frames that were decoded, as it goes."""
    seen: list[int] = []
    original = FrameReader._decoded

    def counted(self: FrameReader, *arguments: Any) -> Iterator[Any]:
        for frame in original(self, *arguments):
            seen.append(frame.pts)
            yield frame

    monkeypatch.setattr(FrameReader, "_decoded", counted)
    return seen


def on_screen(times: list[float], seconds: float, n: int) -> list[int]:
    """By definition: for each middle of n equal parts, the last frame that has begun."""
    middles = [(Fraction(seconds).limit_denominator(1000) * (2 * i + 1)) / (2 * n) for i in range(n)]
    return [
        max((k for k, time in enumerate(times) if time <= float(middle) + 1e-5), default=0)
        for middle in middles
    ]


def numbers(frames: Frames) -> list[int]:
    return [number(frame) for frame in frames.frames]


# --- which frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "codec"), KINDS)
def test_frames_are_those_of_decoding_everything(kind: str, codec: str) -> None:
    data = clip(kind, codec, n=N, fps=FPS, group=GROUP)
    truth = every_frame(data, kind)
    video = Video(data)
    assert sniff.sniff(data) is Modality.VIDEO
    every = video.load()
    assert (every.frames.shape, every.frames.dtype, len(every)) == ((N, HEIGHT, WIDTH, 3), np.uint8, N)
    assert every.seconds == pytest.approx(N / FPS)
    np.testing.assert_allclose(every.times_s, [time for time, _ in truth], atol=1e-6)
    assert every.times_s.dtype == np.float32
    assert numbers(every) == list(range(N))
    for n in ALL_COUNTS:
        picked = video.load(n_frames=n)
        expected = on_screen([time for time, _ in truth], every.seconds, n)
        assert numbers(picked) == expected, n
        np.testing.assert_array_equal(picked.frames, every.frames[expected])
        np.testing.assert_array_equal(picked.times_s, every.times_s[expected])


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_groups_that_lean_on_the_one_before_are_no_trap(codec: str) -> None:
    """Open groups: frames shown before a key frame, decoded after it, that need the group before."""
    n = 118  # of which the middles of two halves are 29 and 88, each just before a key frame
    params = "open-gop=1:keyint=30:min-keyint=30:bframes=3:b-adapt=0:scenecut=0:log-level=0"
    data = clip("mp4", codec, n=n, fps=FPS, group=GROUP, options={f"{codec[3:]}-params": params})
    with av.open(io.BytesIO(data)) as container:
        packets = [(item.pts, item.is_keyframe) for item in container.demux(video=0) if item.pts is not None]
    assert any(key and after[0] < pts for (pts, key), after in itertools.pairwise(packets))
    every = Video(data).load()
    for n_frames in (1, 2, 4, 6, 59):
        expected = on_screen(every.times_s.tolist(), every.seconds, n_frames)
        picked = Video(data).load(n_frames=n_frames)
        np.testing.assert_array_equal(picked.frames, every.frames[expected])
    assert numbers(Video(data).load(n_frames=2)) == [29, 88]


def test_frames_with_times_of_their_own_are_read_by_these() -> None:
    times = [0, 1, 2, 30, 31, 60, 90, 91]
    data = clip(n=len(times), times=times, fps=FPS, options={"bf": "0"})
    every = Video(data).load()
    np.testing.assert_allclose(every.times_s, np.array(times) / FPS, atol=1e-6)
    assert every.seconds == pytest.approx(9.2, abs=0.11)
    assert (
        numbers(Video(data).load(n_frames=4))
        == on_screen(every.times_s.tolist(), every.seconds, 4)
        == [2, 4, 4, 5]
    )


def test_a_clip_with_fewer_frames_shows_some_twice() -> None:
    assert numbers(Video(clip(n=2)).load(n_frames=5)) == [0, 0, 1, 1, 1]
    assert numbers(Video(clip(n=1)).load(n_frames=3)) == [0, 0, 0]


def test_fps_gives_as_many_frames_as_fit_at_that_rate(long: bytes) -> None:
    video = Video(long)
    for fps, n in ((1, 12), (2.5, 30), (10, 120), (0.3, 4), (0.001, 1), (20, 240), (Fraction(1, 2), 6)):
        frames = video.load(fps=fps)  # type: ignore[arg-type]
        assert len(frames) == n
        assert numbers(frames) == numbers(video.load(n_frames=n))
    assert numbers(video.load(fps=FPS)) == list(range(N))


def test_max_frames_caps_whatever_is_requested(long: bytes) -> None:
    video = Video(long)
    assert numbers(video.load(fps=1, max_frames=5)) == numbers(video.load(n_frames=5))
    assert numbers(video.load(fps=1, max_frames=12)) == numbers(video.load(n_frames=12))
    assert numbers(video.load(n_frames=9, max_frames=5)) == numbers(video.load(n_frames=5))
    assert numbers(video.load(max_frames=7)) == numbers(video.load(n_frames=7))
    assert numbers(video.load(max_frames=N)) == list(range(N))


def test_what_lies_between_is_leapt_over(long: bytes, decoded: list[int]) -> None:
    Video(clip(n=N, fps=FPS, group=10)).load(n_frames=3)
    assert len(decoded) < 40  # of 120
    decoded.clear()
    Video(long).load(n_frames=1)
    assert len(decoded) < 35


def test_leaps_that_lead_back_cost_little(decoded: list[int]) -> None:
    """A single key frame at the start: every leap would begin there again."""
    n = 400
    data = clip(n=n, fps=FPS, group=1000, options={"x264-params": "scenecut=0"})
    picked = Video(data).load(n_frames=20)
    assert numbers(picked) == [(20 * i + 10) % 256 for i in range(20)]
    assert len(decoded) < 1.5 * n


# --- sources --------------------------------------------------------------------------------------


def test_a_path_its_bytes_and_its_name_give_the_same(long: bytes, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(long)
    expected = Video(long).load(n_frames=3).frames
    for source in (path, str(path), bytearray(long)):
        np.testing.assert_array_equal(Video(source).load(n_frames=3).frames, expected)
    assert (
        Video(path).uri == str(path) and Video(path, uri="db://1").uri == "db://1" and Video(long).uri is None
    )


STACK = np.stack([drawn(k) for k in range(30)])


@given(st.integers(1, 30), st.floats(0.1, 100), st.integers(1, 70))
def test_arrays_and_lists_follow_the_same_rule_as_files(n_given: int, fps: float, n: int) -> None:
    array = STACK[:n_given]
    frames = Video(array, fps=fps).load(n_frames=n)
    places = [int((i + 0.5) * n_given / n + 1e-9) for i in range(n)]
    np.testing.assert_array_equal(frames.frames, array[places])
    np.testing.assert_allclose(frames.times_s, np.array(places) / fps, rtol=1e-6)
    assert frames.seconds == pytest.approx(n_given / fps)
    images = Video([PIL.Image.fromarray(item) for item in array], fps=fps).load(n_frames=n)
    np.testing.assert_array_equal(images.frames, frames.frames)
    np.testing.assert_array_equal(images.times_s, frames.times_s)


def test_arrays_and_lists_come_whole_at_a_rate_or_capped() -> None:
    for video in (Video(STACK, fps=10), Video([PIL.Image.fromarray(item) for item in STACK], fps=10)):
        assert numbers(video.load()) == list(range(30))
        assert numbers(video.load(fps=1)) == [5, 15, 25]
        assert numbers(video.load(max_frames=3)) == [5, 15, 25]


def test_an_array_given_by_the_caller_is_not_changed_or_shared() -> None:
    array = STACK.copy()
    for options in ({}, {"n_frames": 30}):
        Video(array, fps=5).load(**options).frames[:] = 0
    assert (array == STACK).all()


def test_images_in_a_list_are_read_as_images_are() -> None:
    """Transparent over white, greyscale as RGB."""
    half = PIL.Image.new("RGBA", (4, 2), (255, 0, 0, 0))
    grey = PIL.Image.new("L", (4, 2), 7)
    frames = Video([half, grey], fps=1).load().frames
    assert (frames[0] == 255).all() and (frames[1] == 7).all()


def test_gif_stays_an_image(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    images = [PIL.Image.fromarray(drawn(k)) for k in (0, 255)]
    images[0].save(path, "GIF", save_all=True, append_images=images[1:])
    assert isinstance(as_item(path), Image)


def test_a_video_file_is_recognised_by_its_content(long: bytes, tmp_path: Path) -> None:
    for name, data in (("x.jpg", long), ("y", clip("mpegts")), ("z.txt", clip("webm", "libvpx-vp9"))):
        (tmp_path / name).write_bytes(data)
        assert isinstance(as_item(tmp_path / name), Video)


def test_old_quicktime_files_without_a_brand_are_known() -> None:
    data = clip("mov")
    brand = int.from_bytes(data[:4], "big")
    assert data[4:8] == b"ftyp"
    old = (
        (8).to_bytes(4, "big")
        + b"wide"
        + (brand - 8).to_bytes(4, "big")
        + b"free"
        + data[16:brand]
        + data[brand:]
    )
    assert sniff.sniff(old) is Modality.VIDEO
    assert len(Video(old).load()) == 30


def test_a_stream_recorded_without_an_end_is_measured_by_its_packets() -> None:
    """What browsers record has no length in its header, and no list of key frames."""
    data = clip("webm", "libvpx-vp9", n=N, fps=FPS, group=GROUP, container={"live": "1"})
    with av.open(io.BytesIO(data)) as container:
        assert container.duration is None and container.streams.video[0].duration is None
    for n in (1, 3, 8, 40):
        frames = Video(data).load(n_frames=n)
        assert frames.seconds == pytest.approx(12.0, abs=0.11)
        assert np.abs(np.array(numbers(frames)) - [(2 * i + 1) * N // (2 * n) for i in range(n)]).max() <= 1


# --- upright --------------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_clip_filmed_with_the_phone_turned_is_set_upright(degrees: int) -> None:
    data = clip(n=20, rotation=degrees)
    (_, stored), *_ = every_frame(data, "mp4")
    expected = np.rot90(stored, degrees // 90)
    for frames in (Video(data).load(), Video(data).load(n_frames=4)):
        np.testing.assert_array_equal(frames.frames[0].shape, expected.shape)
    np.testing.assert_array_equal(Video(data).load().frames[0], expected)


def test_the_matrix_a_phone_writes_turns_a_portrait_clockwise() -> None:
    """An oracle apart from FFmpeg: in the header of a track, (0, 1, -1, 0) maps right to down: a turn clockwise."""
    data = clip(n=3)
    at = (
        data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    )  # version and flags; times, id, duration; reserved; layer … volume
    unit = 1 << 16
    plain = b"".join(n.to_bytes(4, "big", signed=True) for n in (unit, 0, 0, 0, unit, 0, 0, 0, 1 << 30))
    assert data[at : at + 36] == plain
    turned = b"".join(n.to_bytes(4, "big", signed=True) for n in (0, unit, 0, -unit, 0, 0, 0, 0, 1 << 30))
    frame = Video(data[:at] + turned + data[at + 36 :]).load().frames[0]
    plain_frame = Video(data).load().frames[0]
    assert frame.shape == (WIDTH, HEIGHT, 3)
    np.testing.assert_array_equal(
        frame, plain_frame.transpose(1, 0, 2)[:, ::-1]
    )  # rows become columns from the right


# --- sound ----------------------------------------------------------------------------------------


def test_its_audio_track_is_audio(tmp_path: Path) -> None:
    path = tmp_path / "talking.mp4"
    path.write_bytes(clip(sound=True))
    for video in (Video(path), Video(path.read_bytes(), uri="db://1")):
        track = video.audio()
        assert isinstance(track, Audio) and track.uri == video.uri
        assert track.load().seconds == pytest.approx(3.0, abs=0.1)
        assert np.abs(track.load().samples).max() > 0.3


def test_a_silent_clip_has_no_audio(long: bytes) -> None:
    assert Video(long).audio() is None
    assert Video(STACK, fps=5).audio() is None


# --- the item -------------------------------------------------------------------------------------


def test_it_is_lazy_and_says_what_it_holds(long: bytes) -> None:
    assert repr(Video("nowhere.mp4")) == "Video('nowhere.mp4')"
    assert repr(Video(long)) == f"Video({len(long):,} bytes)"
    assert repr(Video(STACK, fps=5, uri="x")) == f"Video(array {STACK.shape}, uri='x')"
    assert repr(Video([PIL.Image.fromarray(STACK[0])], fps=5)) == "Video(1 PIL images)"


def test_it_travels_to_other_processes(long: bytes) -> None:
    for video in (Video(long), Video(STACK, fps=5, uri="x")):
        again = pickle.loads(pickle.dumps(video))
        assert (again.uri, again.fps, again.modality) == (video.uri, video.fps, "video")
        np.testing.assert_array_equal(again.load(n_frames=2).frames, video.load(n_frames=2).frames)


def test_it_shows_a_strip_of_frames_in_a_notebook(long: bytes) -> None:
    page = Video(long)._repr_html_()
    assert page.startswith(
        '<img alt="6 frames of 12.00 s" title="6 frames of 12.00 s" src="data:image/png;base64,'
    )
    strip = PIL.Image.open(io.BytesIO(base64.b64decode(page.split("base64,")[1].rstrip('">'))))
    assert strip.size == (6 * 128, 96)
    parts: list[NDArray[np.uint8]] = np.split(np.asarray(strip), 6, axis=1)
    assert [number(part) for part in parts] == [10, 30, 50, 70, 90, 110]
