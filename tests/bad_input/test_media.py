"""Media that cannot be read: each gets one clear answer, word for word, at once and before it can do harm."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from multimodal.core.errors import (
    InvalidInput,
    MediaCorrupt,
    MediaError,
    MediaNotFound,
    MediaTooLarge,
    MediaUnsupported,
    MultimodalError,
)
from multimodal.core.items import Audio, Image, Text, as_item
from multimodal.core.limits import limits
from multimodal.core.media import sniff

NOISE = np.random.default_rng(0)
PIXELS = NOISE.integers(0, 256, (24, 32, 3), dtype=np.uint8)


def image(kind: str) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(PIXELS).save(buffer, kind)
    return buffer.getvalue()


def sound(samples: object, rate: int = 8_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """A valid header that promises far more than the file holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


GARBAGE = NOISE.integers(0, 256, 500, dtype=np.uint8).tobytes()
WORDS = "Grüße! This is not a picture.\n".encode()

FILES: dict[str, bytes] = {
    "empty.jpg": b"",
    "cut.jpg": image("JPEG")[:-200],
    "stub.jpg": image("JPEG")[:20],
    "garbage.png": b"\x89PNG\r\n\x1a\n" + GARBAGE,
    "huge.png": png_of(60_000, 60_000),
    "words.jpg": WORDS,
    "words.wav": WORDS,
    "utf16.jpg": "hello there".encode("utf-16"),
    "noise.png": b"\x01\x02\x03\x04\x05\x06\x07\x08\x80\xff",
    "silent.wav": sound(np.zeros(0)),
    "nan.wav": sound(np.array([0.0, np.nan]), subtype="FLOAT"),
    "cut.flac": sound(np.zeros(8_000), kind="FLAC")[:60],
    "tone.wav": sound(np.zeros(800)),
    "photo.png": image("PNG"),
    "headless.m4a": b"\0\0\0\x10ftypM4A \0\0\0\0" + bytes(64),
}

TEXT_CURE = "to encode the text pass Text(path.read_text())"


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


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("empty.jpg", MediaCorrupt, "is empty (0 bytes); copy or download it again"),
        (
            "cut.jpg",
            MediaCorrupt,
            "is a JPEG image of 32 x 24 pixels that cannot be decoded (image file is truncated "
            "(0 bytes not processed)); copy or download it again",
        ),
        (
            "garbage.png",
            MediaCorrupt,
            "starts like an image but its header is broken (PNG: broken PNG file); copy or download it again",
        ),
        (
            "huge.png",
            MediaTooLarge,
            "60,000 x 60,000 pixels, more than the limit of 178,956,970; if you trust it, allow it with "
            "multimodal.limits(max_pixels=3600000000)",
        ),
        ("words.jpg", MediaUnsupported, f"holds text, not an image; {TEXT_CURE}"),
        ("utf16.jpg", MediaUnsupported, f"holds text, not an image; {TEXT_CURE}"),
        (
            "noise.png",
            MediaUnsupported,
            "is not an image in a supported format (it starts with 01 02 03 04 05 06 07 08); convert it first",
        ),
        ("tone.wav", MediaUnsupported, "holds audio, not an image; use Audio(...)"),
        ("headless.m4a", MediaUnsupported, "holds audio, not an image; use Audio(...)"),
        ("folder", MediaUnsupported, "is a directory, expected a file with an image, audio or a video"),
    ],
)
def test_a_bad_image_file_gets_a_clear_answer(name: str, kind: type[Exception], text: str) -> None:
    message = refused(Image(name).load, kind)
    if name == "cut.jpg":  # how many bytes are left over is the decoder's affair
        message = message.replace(message.split("truncated (")[1].split(" bytes")[0], "0", 1)
    if name == "garbage.png":
        message = message.replace(message.split("(PNG: ")[1].split(");")[0], "broken PNG file", 1)
    assert message == f"{name}: {text}"


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("empty.jpg", MediaCorrupt, "is empty (0 bytes); copy or download it again"),
        (
            "silent.wav",
            MediaCorrupt,
            "holds no audio samples; record or export it again",
        ),
        ("nan.wav", MediaCorrupt, "its samples hold NaN or infinity; export it again as 16-bit PCM"),
        ("words.wav", MediaUnsupported, f"holds text, not audio; {TEXT_CURE}"),
        ("photo.png", MediaUnsupported, "holds an image, not audio; use Image(...)"),
        ("folder", MediaUnsupported, "is a directory, expected a file with an image, audio or a video"),
    ],
)
def test_a_bad_audio_file_gets_a_clear_answer(name: str, kind: type[Exception], text: str) -> None:
    assert refused(Audio(name).load, kind) == f"{name}: {text}"


def test_broken_audio_says_what_its_decoder_said() -> None:
    message = refused(Audio("cut.flac").load, MediaCorrupt)
    assert message.startswith("cut.flac: starts like audio but cannot be decoded (")
    assert message.endswith("; copy or download it again")
    assert "Error opening" not in message  # libsndfile's own name for a file it knows by number only


def test_a_broken_container_says_so() -> None:
    pytest.importorskip("av")
    message = refused(Audio("headless.m4a").load, MediaCorrupt)
    assert message.startswith("headless.m4a: starts like a media container but cannot be opened (")


@pytest.mark.parametrize("make", [Image, Audio])
def test_a_missing_path_says_where_it_was_looked_for(
    make: Callable[[object], Image | Audio], folder: Path
) -> None:
    item = make("gone.jpg")
    text = f"gone.jpg: no such file; check the path (the working directory is {folder})"
    assert refused(item.load, MediaNotFound) == text
    with pytest.raises(FileNotFoundError):
        item.load()
    absolute = folder / "photo.png" / "below.png"
    assert refused(make(absolute).load, MediaNotFound) == f"{absolute}: no such file; check the path"


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("words.jpg", MediaUnsupported, f"holds text, not an image, audio or a video; {TEXT_CURE}"),
        ("folder", MediaUnsupported, "is a directory, expected a file with an image, audio or a video"),
        ("empty.jpg", MediaCorrupt, "is empty (0 bytes); copy or download it again"),
    ],
)
def test_a_path_that_is_no_media_is_refused_when_it_is_sniffed(
    name: str, kind: type[Exception], text: str
) -> None:
    assert refused(lambda: as_item(Path(name)), kind) == f"{name}: {text}"
    assert refused(lambda: sniff.sniff(name), kind) == f"{name}: {text}"


def test_bytes_are_named_by_their_size() -> None:
    assert (
        refused(Image(b"hello").load, MediaUnsupported) == f"<5 bytes>: holds text, not an image; {TEXT_CURE}"
    )
    assert (
        refused(Image(b"").load, MediaCorrupt) == "<0 bytes>: is empty (0 bytes); copy or download it again"
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_and_not_waited_for() -> None:
    os.mkfifo("pipe.png")
    text = "pipe.png: is not a regular file, expected a file with an image, audio or a video"
    assert refused(Image("pipe.png").load, MediaUnsupported) == text


def test_a_name_the_system_refuses_is_a_media_error() -> None:
    message = refused(Image("n" * 5_000).load, MediaError)
    assert message.endswith(": cannot be read (File name too long); check its permissions and name")


def test_a_huge_header_costs_no_memory() -> None:
    PIL.Image.init()
    tracemalloc.start()
    try:
        refused(Image("huge.png").load, MediaTooLarge)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_pillows_own_limit_neither_warns_nor_refuses_what_ours_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    assert Image("photo.png").load().shape == (24, 32, 3)


def test_the_limit_on_pixels_can_be_raised_as_the_message_says() -> None:
    with limits(max_pixels=24 * 32 - 1):
        text = refused(Image("photo.png").load, MediaTooLarge)
        assert text.endswith("allow it with multimodal.limits(max_pixels=768)")
        with limits(max_pixels=768):
            assert Image("photo.png").load().shape == (24, 32, 3)


def test_an_image_in_memory_has_limits_too() -> None:
    with limits(max_pixels=100):
        refused(Image(PIL.Image.new("L", (101, 1))).load, MediaTooLarge)
        refused(Image(np.zeros((101, 1, 3), np.uint8)).load, MediaTooLarge)


def test_a_file_beyond_the_limit_of_bytes_is_not_opened() -> None:
    with limits(max_bytes=100):
        size = len(FILES["photo.png"])
        assert refused(Image("photo.png").load, MediaTooLarge) == (
            f"photo.png: {size:,} bytes, more than the limit of 100; if you trust it, allow it with "
            f"multimodal.limits(max_bytes={size})"
        )
        refused(Image(FILES["photo.png"]).load, MediaTooLarge)


@pytest.mark.parametrize(
    ("kind", "subtype"), [("WAV", None), ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)]
)
def test_audio_beyond_the_limit_of_seconds_is_refused_from_its_header(kind: str, subtype: str | None) -> None:
    data = sound(np.zeros(30_000), kind=kind, subtype=subtype)
    with limits(max_seconds=2):
        text = refused(Audio(data).load, MediaTooLarge)
    assert text == (
        f"<{len(data):,} bytes>: 3.8 seconds of audio, more than the limit of 2; cut it, or allow it with "
        "multimodal.limits(max_seconds=4)"
    )
    with limits(max_seconds=4):
        assert Audio(data).load().seconds == pytest.approx(3.75, abs=0.2)


def test_a_container_beyond_the_limit_of_seconds_is_refused_from_its_header() -> None:
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=8_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 24_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with limits(max_seconds=2):
        text = refused(Audio(buffer.getvalue()).load, MediaTooLarge)
    assert "seconds of audio, more than the limit of 2; cut it" in text


def test_audio_may_not_decode_to_more_bytes_than_allowed() -> None:
    data = sound(np.zeros(30_000), kind="FLAC")
    with limits(max_bytes=100_000):
        text = refused(Audio(data).load, MediaTooLarge)
    assert text.startswith(
        f"<{len(data):,} bytes> (decoded): 120,000 bytes, more than the limit of 100,000; "
    )


@pytest.mark.parametrize(
    ("array", "text"),
    [
        ([], "the waveform is empty (shape (0,)); give at least one sample"),
        (np.zeros((2, 0)), "the waveform is empty (shape (2, 0)); give at least one sample"),
        (
            [0.0, 0.0, float("nan")],
            "the waveform holds NaN or infinity, first at sample 2 of 3; replace them with numpy.nan_to_num if "
            "they are meant",
        ),
        (
            [float("inf"), 0.0],
            "the waveform holds NaN or infinity, first at sample 0 of 2; replace them with numpy.nan_to_num if "
            "they are meant",
        ),
    ],
)
def test_a_waveform_without_audio_in_it_is_refused(array: object, text: str) -> None:
    assert refused(Audio({"array": array, "sampling_rate": 8_000}).load, InvalidInput) == text


def test_an_empty_string_is_refused() -> None:
    assert refused(Text("").load, InvalidInput) == "the text is empty (''); there is nothing to encode"


SOUND_STARTS = [sound(np.zeros(50), kind=kind)[:40] for kind in ("WAV", "FLAC", "OGG")]
STARTS = [image(kind)[:60] for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF")] + SOUND_STARTS


@pytest.mark.filterwarnings("ignore::multimodal.core.errors.MediaWarning")  # of bytes after the audio
@given(st.sampled_from(STARTS), st.integers(0, 60), st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_but_a_media_error(start: bytes, keep: int, rest: bytes) -> None:
    for load in (
        Image(start[:keep] + rest).load,
        Audio(start[:keep] + rest).load,
        lambda: sniff.sniff(start[:keep] + rest),
    ):
        try:
            load()
        except (MediaError, MultimodalError) as error:
            assert str(error).startswith("<")
