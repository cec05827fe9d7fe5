"""Files that libsndfile refuses or reads in part: the second decoder, joined streams, and bytes that stay unread."""

from __future__ import annotations

import builtins
import io
import shutil
import struct
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multimodal.core.errors import MediaCorrupt, MediaError, MediaTooLarge, MediaWarning
from multimodal.core.items import Audio
from multimodal.core.limits import limits

RATE = 16_000
FILES = Path(__file__).parent / "files"
# Seconds by ffmpeg, of files whose lengths its log states too
RIGHT_SECONDS = {
    "joined.ogg": 2.5, "joined.opus": 2.5, "piped.flac": 0.5, "flac.oga": 0.5, "id3.aac": 0.58, "speex.spx": 0.5,
    "zero.wav": 0.5, "mp2.wav": 0.52, "ac3.wav": 0.52, "g726.wav": 0.5,
}  # fmt: skip


def tone(seconds: float, hz: float = 440, rate: int = RATE) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encoded(samples: NDArray[np.float32], kind: str, subtype: str | None = None, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def by_ffmpeg(source: Path, *options: str) -> NDArray[np.float32]:
    """Mono samples at RATE."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is missing")
    command = [
        "ffmpeg",
        "-v",
        "quiet",
        "-i",
        str(source),
        *options,
        "-ac",
        "1",
        "-ar",
        str(RATE),
        "-f",
        "f32le",
        "-",
    ]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=False).stdout, np.float32)


def wav(samples: NDArray[np.float32], data_bytes: int | None = None, riff_bytes: int | None = None) -> bytes:
    """16-bit PCM, whose header may state other sizes."""
    pcm = (samples * 32_767).astype("<i2").tobytes()
    stated = len(pcm) if data_bytes is None else data_bytes
    riff = 36 + len(pcm) if riff_bytes is None else riff_bytes
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", riff, b"WAVE", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    return head + struct.pack("<4sI", b"data", stated) + pcm


def ape_tag(content: bytes) -> bytes:
    """With a header and a footer."""
    ends = b"APETAGEX" + struct.pack("<III", 2_000, len(content) + 32, 1) + bytes(12)
    return ends + content + ends


@pytest.mark.parametrize("name", sorted(RIGHT_SECONDS))
def test_a_file_that_libsndfile_does_not_read_is_as_long_as_ffmpeg_says(name: str) -> None:
    pytest.importorskip("av")
    for source in (FILES / name, (FILES / name).read_bytes()):
        assert Audio(source).load().seconds == pytest.approx(RIGHT_SECONDS[name], abs=0.02)


@pytest.mark.parametrize("name", sorted(RIGHT_SECONDS))
def test_a_file_that_libsndfile_does_not_read_has_the_samples_of_ffmpeg(name: str) -> None:
    pytest.importorskip("av")
    theirs = by_ffmpeg(FILES / name)
    ours = Audio(FILES / name).load(RATE).samples
    n = min(len(ours), len(theirs))
    assert n == pytest.approx(max(len(ours), len(theirs)), abs=0.02 * RATE)
    spectra = [np.abs(np.fft.rfft(samples[:n])) for samples in (ours, theirs)]
    cosine = spectra[0] @ spectra[1] / np.prod([np.linalg.norm(spectrum) for spectrum in spectra])
    assert cosine > 0.99


@pytest.mark.parametrize(
    "codec",
    ["mp2", "ac3", "eac3", "g722", "adpcm_yamaha", "adpcm_ima_wav", "adpcm_ms", "libmp3lame", "wmav2"],
)
def test_every_codec_in_a_wav_is_read_as_ffmpeg_reads_it(codec: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is missing")
    source, made = tmp_path / "tone.wav", tmp_path / "made.wav"
    source.write_bytes(wav(tone(0.5)))
    rate = "44100" if codec in ("mp2", "ac3", "eac3", "wmav2") else str(RATE)
    subprocess.run(["ffmpeg", "-v", "quiet", "-i", source, "-ar", rate, "-c:a", codec, made], check=True)
    assert Audio(made).load().seconds == pytest.approx(len(by_ffmpeg(made)) / RATE, abs=0.01)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")]),
    st.lists(st.sampled_from([0.3, 0.5, 1.1]), min_size=1, max_size=4),
    st.booleans(),
)
def test_streams_joined_end_to_end_are_all_there(
    kind: tuple[str, str], lengths: list[float], tagged: bool
) -> None:
    tag = b"ID3\x04\0\0\0\0\x07\x76" + bytes(1_014) if tagged else b""
    parts = [encoded(tone(seconds), *kind) for seconds in lengths]
    waveform = Audio(tag + b"".join(parts)).load()
    assert waveform.seconds == pytest.approx(sum(lengths), abs=0.01 + 0.03 * (len(lengths) - 1))


def test_a_joined_stream_of_another_rate_or_codec_is_given_at_the_first_rate(tmp_path: Path) -> None:
    path = tmp_path / "mixed.ogg"
    path.write_bytes(
        encoded(tone(0.5), "OGG", "VORBIS")
        + encoded(tone(1.0, rate=44_100), "OGG", "VORBIS", 44_100)
        + encoded(tone(0.25), "OGG", "OPUS")
    )
    waveform = Audio(path).load()
    assert waveform.rate_hz == RATE and waveform.seconds == pytest.approx(1.75, abs=0.02)


@pytest.mark.parametrize("stated", [(0, 0), (0, None), (0xFFFFFFFF, 0xFFFFFFFF)])
def test_a_wav_of_a_recorder_that_was_killed_is_read_to_its_end(stated: tuple[int, int | None]) -> None:
    pytest.importorskip("av")
    samples = Audio(wav(tone(0.5), *stated)).load().samples
    np.testing.assert_allclose(samples, tone(0.5), atol=1e-4)


@pytest.mark.parametrize("on_disk", [True, False])
def test_bytes_after_the_stated_audio_are_named_in_a_warning(on_disk: bool, tmp_path: Path) -> None:
    (tmp_path / "cut.wav").write_bytes(wav(tone(0.5), data_bytes=8_000, riff_bytes=8_036))
    source: Path | bytes = tmp_path / "cut.wav" if on_disk else (tmp_path / "cut.wav").read_bytes()
    with pytest.warns(
        MediaWarning, match=r"8,000 bytes after the audio that its header states were not read"
    ):
        assert Audio(source).load().seconds == 0.25


@pytest.mark.parametrize("tail", [b"LIST\x06\0\0\0INFO\0\0", b"id3 \x04\0\0\0abcd", b"", bytes(2_048)])
def test_metadata_after_the_audio_is_no_loss(tail: bytes) -> None:
    assert Audio(wav(tone(0.5)) + tail).load().seconds == 0.5


@pytest.mark.parametrize(
    "tail",
    [
        b"TAG" + b"x" * 125,
        ape_tag(b"abcd"),
        ape_tag(b"abcd")[32:],
        b"LYRICSBEGININD0000200000034LYRICS200",
        bytes(512),
    ],
)  # fmt: skip
def test_tags_after_an_mp3_are_no_loss(tail: bytes) -> None:
    assert Audio(encoded(tone(0.5), "MP3") + tail).load().seconds == pytest.approx(0.5, abs=0.01)


def test_what_follows_an_mp3_and_is_no_tag_is_named_in_a_warning() -> None:
    with pytest.warns(MediaWarning, match=r"1,000 bytes after the audio"):
        Audio(encoded(tone(0.5), "MP3") + b"\x01\x02\x03\x04" * 250).load()


def test_a_joined_stream_that_is_broken_leaves_the_first_and_is_named() -> None:
    first, second = encoded(tone(0.5), "OGG"), encoded(tone(1.0), "OGG")
    with pytest.warns(
        MediaWarning, match=rf"100 bytes at its end, from byte {len(first):,} on, were not read"
    ):
        assert Audio(first + second[:100]).load().seconds == pytest.approx(0.5, abs=0.02)


def test_the_length_of_all_joined_streams_counts_for_the_limit() -> None:
    joined = encoded(tone(0.5), "OGG") * 3
    with (
        limits(max_seconds=1),
        pytest.raises(MediaTooLarge, match=r"seconds of audio, more than the limit of 1"),
    ):
        Audio(joined).load()


def test_a_damaged_flac_gives_what_is_left_and_a_warning() -> None:
    pytest.importorskip("av")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, RATE).astype(np.float32)
    data = bytearray(encoded(noise, "FLAC"))
    data[len(data) // 2 : len(data) // 2 + 300] = b"\x55" * 300
    with pytest.warns(MediaWarning, match=r"damaged"):
        assert 0.5 < Audio(bytes(data)).load().seconds < 1


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(["FLAC", "OGG", "MP3", "WAV", "AIFF", "CAF"]),
    st.floats(0.02, 0.98),
    st.binary(min_size=1, max_size=400),
)
def test_damage_anywhere_gives_audio_or_a_media_error_and_never_another_error(
    kind: str, where: float, patch: bytes
) -> None:
    data = bytearray(encoded(tone(0.4), kind))
    start = int(where * len(data))
    data[start : start + len(patch)] = patch[: len(data) - start]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaWarning)
        try:
            assert len(Audio(bytes(data)).load().samples) > 0
        except MediaError as error:
            assert "bytes>" in str(error)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "CAF", "AU", "W64", "RF64", "FLAC", "OGG", "MP3"])
def test_a_file_may_be_read_partly_and_then_again(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(encoded(tone(0.5), kind))
    next(Audio(path).stream())
    assert Audio(path).load().seconds == pytest.approx(0.5, abs=0.02)


def test_without_pyav_the_error_says_that_pyav_may_read_it(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_av(name: str, *args: object, **kwargs: object) -> object:
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
        return original(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(MediaCorrupt, match=r"PyAV may read it: pip install 'multimodal\[av\]'$"):
        Audio(FILES / "speex.spx").load()
