"""Videos that cannot be read: each gets one clear answer, word for word, before it can do harm."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from multimodal.core.errors import (
    InvalidInput,
    MediaCorrupt,
    MediaNotFound,
    MediaTooLarge,
    MediaUnsupported,
    MissingExtra,
    MultimodalError,
)
from multimodal.core.items import Audio, Image, Video, as_item
from multimodal.core.limits import limits
from tests.core.media.clips import HEIGHT, WIDTH, clip, drawn

av = pytest.importorskip("av")

CLIP = clip()
WEBM = clip("webm", "libvpx-vp9")
FRAMES = np.stack([drawn(k) for k in range(4)])
IMAGES = [PIL.Image.fromarray(frame) for frame in FRAMES]
N_BYTES = HEIGHT * WIDTH * 3  # of one frame
TEXT_CURE = "to encode the text pass Text(path.read_text())"


def sound_in(kind: str, codec: str) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def wav() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(800), 8_000, format="WAV")
    return buffer.getvalue()


def png() -> bytes:
    buffer = io.BytesIO()
    IMAGES[0].save(buffer, "PNG")
    return buffer.getvalue()


def noisy(codec_data: bytes) -> bytes:
    """A clip whose header is whole and whose pictures are noise."""
    at = codec_data.index(b"mdat") + 4
    end = codec_data.index(b"moov") - 4
    return codec_data[:at] + np.random.default_rng(0).bytes(end - at) + codec_data[end:]


FILES: dict[str, bytes] = {
    "empty.mp4": b"",
    "words.mp4": "Grüße! This is no video.\n".encode(),
    "photo.mp4": png(),
    "tone.mp4": wav(),
    "song.mp4": sound_in("mp4", "aac"),
    "headless.mp4": CLIP[: len(CLIP) // 2],
    "noise.bin": b"\x01\x02\x03\x04\x05\x06\x07\x08\x80\xff",
    "good.mp4": CLIP,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(work: Callable[[], object], kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        work()
    assert type(caught.value) is kind and isinstance(caught.value, MultimodalError)
    return str(caught.value)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind", "text"), [
    ("empty.mp4", MediaCorrupt, "is empty (0 bytes); copy or download it again"),
    ("words.mp4", MediaUnsupported, f"holds text, not a video; {TEXT_CURE}"),
    ("photo.mp4", MediaUnsupported, "holds an image, not a video; use Image(...)"),
    ("tone.mp4", MediaUnsupported, "holds audio, not a video; use Audio(...)"),
    ("song.mp4", MediaUnsupported, "holds audio, not a video; use Audio(...)"),
    ("headless.mp4", MediaCorrupt, "starts like a media container but cannot be opened (Invalid data found when "
                                   "processing input); copy or download it again"),
    ("noise.bin", MediaUnsupported, "is not a video in a supported format (it starts with 01 02 03 04 05 06 07 "
                                    "08); convert it first"),
    ("folder", MediaUnsupported, "is a directory, expected a file with an image, audio or a video"),
])  # fmt: skip
def test_a_file_that_is_no_video_is_distinguished_from_one(
    name: str, kind: type[Exception], text: str
) -> None:
    for work in (Video(name).load, lambda: Video(name).load(n_frames=2), Video(name).audio):
        assert refused(work, kind) == f"{name}: {text}"


def test_a_missing_path_says_where_it_was_looked_for(folder: Path) -> None:
    text = f"gone.mp4: no such file; check the path (the working directory is {folder})"
    assert refused(Video("gone.mp4").load, MediaNotFound) == text


def test_images_that_are_noise_are_reported_with_what_the_decoder_said() -> None:
    data = noisy(clip("mp4", "mpeg4"))
    message = refused(Video(data).load, MediaCorrupt)
    assert message.startswith(f"<{len(data):,} bytes>: ")
    assert "its frames cannot be decoded (" in message or "holds no frame that can be decoded" in message


def test_a_clip_without_frames_says_so() -> None:
    """A Matroska header alone: all that is left of a recording that never began."""
    end = WEBM.index(b"\x1f\x43\xb6\x75")  # the first cluster
    assert refused(Video(WEBM[:end]).load, MediaCorrupt).startswith(f"<{end:,} bytes>: ")


@pytest.mark.parametrize("options", [{}, {"n_frames": 1}, {"n_frames": 6}, {"fps": 2}])
def test_a_clip_cut_short_is_refused_where_its_header_tells(folder: Path, options: dict[str, Any]) -> None:
    path = folder / "fast.mp4"
    with av.open(path, "w", options={"movflags": "faststart"}) as output:
        stream = output.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", 10
        for k in range(60):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(drawn(k), format="rgb24")))
        output.mux(stream.encode())
    with av.open(path) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.pos is not None]
    data = path.read_bytes()
    path.write_bytes(data[: places[10]])
    message = refused(lambda: Video("fast.mp4").load(**options), MediaCorrupt)
    assert re.fullmatch(
        r"fast\.mp4: is truncated: its header states 6\.0 seconds and its frames end at 0\.9; "
        "copy or download it again",
        message,
    )
    path.write_bytes(data[: places[10] + 5])  # in the middle of a frame
    assert refused(lambda: Video("fast.mp4").load(**options), MediaCorrupt).startswith("fast.mp4: ")


def test_a_clip_cut_short_without_a_header_that_tells_shows_its_last_frame_on() -> None:
    frames = Video(WEBM[: int(len(WEBM) * 0.7)]).load(n_frames=10)
    assert len(frames) == 10 and frames.seconds == pytest.approx(3.0)
    assert (frames.frames[-1] == frames.frames[-2]).all()


def test_the_image_and_audio_items_say_where_a_video_belongs() -> None:
    assert refused(Image("good.mp4").load, MediaUnsupported) == (
        "good.mp4: holds video or audio in a container, not an image; use Video(...) for its frames, "
        "Audio(...) for its audio"
    )
    assert refused(Audio("good.mp4").load, MediaUnsupported) == "good.mp4: has no audio track"


def test_without_pyav_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    text = "good.mp4: reading video needs av: pip install 'multimodal[av]'"
    assert refused(Video("good.mp4").load, MissingExtra) == text
    assert Video(FRAMES, fps=5).load(n_frames=2).frames.shape == (2, HEIGHT, WIDTH, 3)
    assert refused(Video("photo.mp4").load, MediaUnsupported).endswith("use Image(...)")


# --- limits ---------------------------------------------------------------------------------------


def test_limits_are_checked_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    from multimodal.core.media import video

    def unexpected(*arguments: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(video.FrameReader, "__init__", unexpected)
    with limits(max_pixels=WIDTH * HEIGHT - 1):
        assert refused(Video("good.mp4").load, MediaTooLarge) == (
            "good.mp4: 64 x 48 pixels, more than the limit of 3,071; if you trust it, allow it with "
            "multimodal.limits(max_pixels=3072)"
        )
    with limits(max_seconds=2.5):
        assert refused(lambda: Video("good.mp4").load(n_frames=1), MediaTooLarge) == (
            "good.mp4: 3.0 seconds of video, more than the limit of 2.5; cut it, or allow it with "
            "multimodal.limits(max_seconds=3)"
        )
    with limits(max_bytes=20 * N_BYTES):
        assert refused(Video("good.mp4").load, MediaTooLarge) == (
            f"good.mp4: 30 frames of 64 x 48 pixels are {30 * N_BYTES:,} bytes, more than the limit of "
            f"{20 * N_BYTES:,}; ask for fewer with load(n_frames=...), or allow it with "
            f"multimodal.limits(max_bytes={30 * N_BYTES})"
        )
    with limits(max_bytes=1_000):
        assert refused(Video("good.mp4").load, MediaTooLarge).startswith(
            f"good.mp4: {len(CLIP):,} bytes, more than"
        )


def test_what_the_messages_advise_helps() -> None:
    with limits(max_bytes=20 * N_BYTES):
        assert len(Video("good.mp4").load(n_frames=20)) == 20
        assert len(Video("good.mp4").load(fps=3)) == 9
        assert len(Video("good.mp4").load(max_frames=20)) == 20
    with limits(max_bytes=30 * N_BYTES, max_seconds=3, max_pixels=WIDTH * HEIGHT):
        assert len(Video("good.mp4").load()) == 30


def test_frames_are_counted_whatever_the_header_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from fractions import Fraction

    from multimodal.core.media import video as media_video

    monkeypatch.setattr(media_video, "_seconds", lambda container, stream: Fraction(1, 10))
    with limits(max_bytes=20 * N_BYTES):
        text = refused(Video(WEBM).load, MediaTooLarge)
    assert text.startswith(f"<{len(WEBM):,} bytes>: 21 frames of 64 x 48 pixels are ")


@pytest.mark.parametrize("source", [FRAMES, IMAGES])
def test_frames_in_memory_have_limits_too(source: Any) -> None:
    with limits(max_bytes=3 * N_BYTES):
        name = "<array>" if source is FRAMES else "<PIL images>"
        assert refused(Video(source, fps=1).load, MediaTooLarge).startswith(
            f"{name}: 4 frames of 64 x 48 pixels are"
        )
        assert len(Video(source, fps=1).load(n_frames=3)) == 3
    with limits(max_pixels=100):
        refused(Video(source, fps=1).load, MediaTooLarge)


# --- arguments ------------------------------------------------------------------------------------

NO_RATE = "a video given as frames has no frame rate: give the frames per second with fps=..."
TAKES = "Video takes a path, the bytes of a file, a uint8 array (t, h, w, 3) or a list of PIL images, got "


@pytest.mark.parametrize(("make", "text"), [
    (lambda: Video(3), TAKES + "a value of type int"),  # type: ignore[arg-type]
    (lambda: Video([]), TAKES + "a list of 0"),
    (lambda: Video([1, 2], fps=5), TAKES + "a list of 2"),  # type: ignore[list-item]
    (lambda: Video({"array": FRAMES}, fps=5), TAKES + "a mapping with keys ['array']"),  # type: ignore[arg-type]
    (lambda: Video(""), "Video got '', which cannot be a path"),
    (lambda: Video(FRAMES), NO_RATE),
    (lambda: Video(IMAGES), NO_RATE),
    (lambda: Video(FRAMES, fps=0), "fps must be a number of frames per second above 0, got 0"),
    (lambda: Video(FRAMES, fps=float("nan")), "fps must be a number of frames per second above 0, got nan"),
    (lambda: Video(FRAMES, fps="5"), "fps must be a number of frames per second above 0, got '5'"),  # type: ignore[arg-type]
    (lambda: Video("x.mp4", fps=5), "a video file states its own frame rate: leave out fps, got 5"),
    (lambda: Video(CLIP, fps=5), "a video file states its own frame rate: leave out fps, got 5"),
])  # fmt: skip
def test_a_wrong_source_is_refused_at_once(make: Callable[[], object], text: str) -> None:
    assert refused(make, InvalidInput) == text


@pytest.mark.parametrize(("options", "text"), [
    ({"n_frames": 0}, "n_frames must be a whole number of at least 1, got 0"),
    ({"n_frames": 2.0}, "n_frames must be a whole number of at least 1, got 2.0"),
    ({"n_frames": True}, "n_frames must be a whole number of at least 1, got True"),
    ({"max_frames": -1}, "max_frames must be a whole number of at least 1, got -1"),
    ({"fps": 0}, "fps must be a number of frames per second above 0, got 0"),
    ({"fps": float("inf")}, "fps must be a number of frames per second above 0, got inf"),
    ({"n_frames": 2, "fps": 1}, "give n_frames or fps, not both, got n_frames=2 and fps=1"),
])  # fmt: skip
def test_a_wrong_number_of_frames_is_refused(options: dict[str, Any], text: str) -> None:
    for video in (Video(CLIP), Video(FRAMES, fps=5), Video("gone.mp4")):
        assert refused(lambda video=video: video.load(**options), InvalidInput) == text  # type: ignore[misc]


@pytest.mark.parametrize(
    "array", [FRAMES.astype(np.float32), FRAMES[0], FRAMES[:0], FRAMES.transpose(0, 3, 1, 2)]
)
def test_an_array_of_another_shape_is_refused(array: Any) -> None:
    assert refused(Video(array, fps=5).load, InvalidInput) == (
        f"a video as an array must be uint8 of shape (t, h, w, 3) with at least one frame, got {array.dtype} "
        f"{array.shape}"
    )


def test_an_array_alone_is_not_taken_for_a_video() -> None:
    assert refused(lambda: as_item(FRAMES), InvalidInput) == (
        f"an array of uint8 with shape {FRAMES.shape} is neither an image (uint8 or floats in 0 to 1, (h, w, 3)) "
        "nor audio "
        "({'array': samples, 'sampling_rate': Hz}); a video is Video(array, fps=...)"
    )


def test_images_of_two_sizes_are_refused() -> None:
    video = Video([*IMAGES, PIL.Image.new("L", (10, 20))], fps=5)
    assert refused(video.load, InvalidInput) == (
        "the frames of a video must have one size: frame 4 is 10 x 20, frame 0 is 64 x 48; resize them first"
    )


def test_numbers_of_numpy_are_numbers() -> None:
    assert len(Video(FRAMES, fps=np.float32(2)).load(n_frames=np.int64(2))) == 2  # type: ignore[arg-type]


STARTS = [CLIP, WEBM, clip("avi", "mpeg4"), clip("mpegts"), clip("flv")]


@settings(max_examples=20)
@given(st.sampled_from(STARTS), st.floats(0, 1), st.binary(max_size=60), st.sampled_from([None, 1, 4]))
def test_no_bytes_whatever_raise_anything_but_a_media_error(
    whole: bytes, share: float, inside: bytes, n_frames: int | None
) -> None:
    at = int(share * len(whole))
    for data in (whole[:at] + inside, whole[:at] + inside + whole[at + len(inside) :]):
        try:
            Video(data).load(n_frames=n_frames)
        except MultimodalError as error:
            assert str(error).startswith("<")
