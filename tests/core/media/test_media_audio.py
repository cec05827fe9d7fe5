from __future__ import annotations

import builtins
import io
import threading
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multimodal.core.errors import InvalidInput, MediaTooLarge, MissingExtra
from multimodal.core.items import Audio
from multimodal.core.limits import limits
from multimodal.core.media import audio_decoders, resampling, sniff
from multimodal.core.modality import Modality, Waveform

RATE = 16_000


def tone(hz: float, seconds: float = 0.5, rate: int = RATE) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def encoded(
    samples: NDArray[np.generic], rate: int = RATE, kind: str = "WAV", subtype: str | None = None
) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def by_av(samples: NDArray[np.float32], kind: str, codec: str, rate: int = RATE) -> bytes:
    """(n,) or (n, channels) through FFmpeg."""
    av = pytest.importorskip("av")
    planes = np.atleast_2d(samples.T)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout={1: "mono", 2: "stereo"}[len(planes)])
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(planes), format="fltp", layout=stream.layout.name
        )
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def loudest_hz(waveform: Waveform) -> float:
    spectrum = np.abs(np.fft.rfft(waveform.samples * np.hanning(len(waveform.samples))))
    return float(spectrum.argmax() * waveform.rate_hz / len(waveform.samples))


PCM_STEP = {
    "PCM_U8": 2**-7,
    "PCM_16": 2**-15,
    "PCM_24": 2**-23,
    "PCM_32": 2**-23,
    "FLOAT": 1e-7,
    "DOUBLE": 1e-7,
}


@settings(max_examples=15)
@given(
    st.sampled_from(sorted(PCM_STEP)),
    st.integers(1, 400_000),
    st.integers(1, 9),
    st.integers(1, 300),
    st.randoms(),
)
def test_wav_of_any_rate_channels_and_depth_comes_back_as_its_mean(
    subtype: str, rate: int, channels: int, n: int, random: object
) -> None:
    samples = np.random.default_rng(random.getrandbits(32)).uniform(-0.9, 0.9, (n, channels))  # type: ignore[attr-defined]
    waveform = Audio(encoded(samples, rate, subtype=subtype)).load()
    assert (waveform.rate_hz, waveform.samples.dtype, waveform.samples.shape) == (rate, np.float32, (n,))
    np.testing.assert_allclose(waveform.samples, samples.mean(axis=1), rtol=0, atol=PCM_STEP[subtype] + 1e-6)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "CAF", "AU", "W64", "RF64"])
def test_lossless_formats_come_back_exactly(kind: str, tmp_path: Path) -> None:
    samples = np.round(tone(440) * 2**15).astype(np.int16)
    path = tmp_path / "misleading.raw"
    path.write_bytes(encoded(samples, kind=kind, subtype="PCM_16"))
    assert sniff.sniff(path) is Modality.AUDIO
    for source in (path, path.read_bytes()):
        np.testing.assert_array_equal(Audio(source).load().samples, (samples / 2**15).astype(np.float32))


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_formats_keep_the_tone_and_the_length(kind: str, subtype: str) -> None:
    data = encoded(tone(440), kind=kind, subtype=subtype)
    assert sniff.sniff(data) is Modality.AUDIO
    waveform = Audio(data).load(RATE)
    assert waveform.seconds == pytest.approx(0.5, abs=0.1)
    assert loudest_hz(waveform) == pytest.approx(440, abs=5)


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [
        ("ipod", "aac", RATE),
        ("mp4", "aac", 44_100),
        ("adts", "aac", RATE),
        ("matroska", "flac", RATE),
        ("webm", "libopus", 48_000),
    ],
)
def test_containers_are_read_by_pyav(kind: str, codec: str, rate: int, tmp_path: Path) -> None:
    data = by_av(tone(440, rate=rate), kind, codec, rate)
    path = tmp_path / "x"
    path.write_bytes(data)
    assert sniff.sniff(path) is Modality.AUDIO
    for source in (path, data):
        waveform = Audio(source).load()
        assert waveform.rate_hz == rate
        assert waveform.seconds == pytest.approx(0.5, abs=0.1)
        assert loudest_hz(waveform) == pytest.approx(440, abs=5)


def test_the_channels_of_a_container_are_averaged() -> None:
    left = tone(440)
    waveform = Audio(by_av(np.stack([left, -left], axis=1), "matroska", "flac")).load()
    assert np.abs(waveform.samples).max() < 1e-3  # the two cancel, as only a mean makes them


def test_a_container_needs_the_extra_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = by_av(tone(440), "ipod", "aac")
    original = builtins.__import__

    def without_av(name: str, *args: object, **kwargs: object) -> object:
        if name == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
        return original(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(
        MissingExtra, match=r"reading this container \(m4a, .*\) needs av: pip install 'multimodal\[av\]'$"
    ):
        Audio(data).load()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_float_arrays_are_taken_as_they_are(dtype: str) -> None:
    array = np.array([0.0, 0.5, -1.0, 1.5], dtype=dtype)
    waveform = Audio({"array": array, "sampling_rate": 8_000}).load()
    assert waveform.samples.tolist() == [0.0, 0.5, -1.0, 1.5] and waveform.samples.dtype == np.float32
    waveform.samples[:] = 9
    assert array.max() == 1.5  # the caller's array is not written to


def test_pcm_arrays_are_scaled_by_their_full_scale() -> None:
    for array, expected in [
        (np.array([0, -32_768, 16_384], dtype=np.int16), [0, -1, 0.5]),
        (np.array([0, -(2**31)], dtype=np.int32), [0, -1]),
        (np.array([128, 0, 192], dtype=np.uint8), [0, -1, 0.5]),
    ]:
        assert Audio({"array": array, "sampling_rate": 8_000}).load().samples.tolist() == expected
    assert Audio({"array": [0.25, 0.5], "sampling_rate": 8_000.0}).load().rate_hz == 8_000


def test_channels_of_an_array_are_its_shorter_axis() -> None:
    stereo = np.stack([np.ones(10), np.zeros(10)])
    for array in (stereo, stereo.T):
        assert Audio({"array": array, "sampling_rate": 8_000}).load().samples.tolist() == [0.5] * 10


@pytest.mark.parametrize(
    ("array", "rate", "text"),
    [
        ([0.0], 0, r"^sampling_rate must be a whole number of Hz above 0, got 0$"),
        ([0.0], 44_100.5, r"^sampling_rate must be a whole number of Hz above 0, got 44100.5$"),
        ([0.0], "8000", r"^sampling_rate must be a whole number of Hz above 0, got '8000'$"),
        ([0.0], float("nan"), r"^sampling_rate must be a whole number of Hz above 0, got nan$"),
        ([0.0], None, r"^sampling_rate must be a whole number of Hz above 0, got None$"),
        (
            np.zeros((2, 2, 2)),
            8_000,
            r"^audio as an array must be \(n,\) or \(channels, n\), got shape \(2, 2, 2\)$",
        ),
        (
            [1, 2, 3],
            8_000,
            r"^audio as an array must be float, or PCM as uint8, int16 or int32, got int64, whose full",
        ),
        (["a"], 8_000, r"^audio as an array must be float, or PCM"),
    ],
)
def test_arrays_that_are_no_audio_are_refused(array: object, rate: object, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        Audio({"array": array, "sampling_rate": rate}).load()


@pytest.mark.parametrize(
    ("old", "new"), [(44_100, 16_000), (8_000, 16_000), (48_000, 22_050), (11_127, 16_000), (96_000, 16_000)]
)
def test_resampling_keeps_the_tone_the_length_and_the_loudness(old: int, new: int) -> None:
    original = tone(440, 1.0, old)
    waveform = Audio({"array": original, "sampling_rate": old}).load(rate_hz=new)
    assert waveform.rate_hz == new and waveform.samples.dtype == np.float32
    assert len(waveform.samples) == pytest.approx(new, abs=2)
    inner = slice(new // 10, -new // 10)  # the window rings at the ends
    np.testing.assert_allclose(
        waveform.samples[inner], tone(440, 1.0, new)[: len(waveform.samples)][inner], atol=2e-3
    )


def test_resampling_is_torchaudios() -> None:
    import torch
    import torchaudio

    samples = np.random.default_rng(0).normal(size=4_410).astype(np.float32)
    ours = Audio({"array": samples, "sampling_rate": 44_100}).load(16_000).samples
    theirs = torchaudio.functional.resample(torch.from_numpy(samples), 44_100, 16_000).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_same_rate_leaves_every_bit() -> None:
    samples = tone(440)
    assert Audio({"array": samples, "sampling_rate": RATE}).load(RATE).samples.tobytes() == samples.tobytes()


@settings(max_examples=30)
@given(st.integers(1, 2**31 - 1), st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]))
@example(44_101, 16_000)
@example(8_001, 16_000)
@example(2**31 - 1, 8_000)
def test_no_rate_needs_a_kernel_without_bounds_and_none_is_bent_audibly(old: int, new: int) -> None:
    ratio = resampling._ratio(old, new)
    assert ratio.numerator * ratio.denominator <= 1.01 * resampling.MAX_KERNEL
    assert abs(ratio * old / new - 1) < 3e-4


def test_rates_too_far_apart_are_refused() -> None:
    with pytest.raises(
        InvalidInput, match=r"^cannot resample from 2,147,483,647 to 1 Hz: the rates are too far apart$"
    ):
        Audio({"array": np.zeros(9), "sampling_rate": 2**31 - 1}).load(1)


def test_an_awkward_rate_is_resampled_without_gigabytes() -> None:
    waveform = Audio({"array": tone(440, 1.0, 44_101), "sampling_rate": 44_101}).load(RATE)
    assert len(waveform.samples) == pytest.approx(RATE, abs=5)
    assert loudest_hz(waveform) == pytest.approx(440, abs=1)


def test_usual_rates_are_resampled_in_their_exact_ratio() -> None:
    for old in (
        8_000,
        11_025,
        12_000,
        16_000,
        22_050,
        24_000,
        32_000,
        44_100,
        48_000,
        88_200,
        96_000,
        192_000,
    ):
        for new in (16_000, 24_000, 44_100, 48_000):
            assert float(resampling._ratio(old, new)) == new / old


@pytest.mark.parametrize("rate", [0, -1, 0.5])
def test_a_rate_that_cannot_be_is_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match=r"^rate_hz must be a whole number above 0, got"):
        Audio({"array": [0.0], "sampling_rate": RATE}).load(rate)  # type: ignore[arg-type]


def test_audio_loads_alike_in_many_threads() -> None:
    data = encoded(tone(440, rate=44_100), 44_100, "FLAC")
    results: list[bytes] = []

    def work() -> None:
        results.append(Audio(data).load(RATE).samples.tobytes())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6 and len(set(results)) == 1


def test_long_audio_is_read_in_blocks_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_decoders, "BLOCK_SAMPLES", 1_000)
    samples = np.round(tone(440) * 2**15).astype(np.int16)
    np.testing.assert_array_equal(
        Audio(encoded(samples)).load().samples, (samples / 2**15).astype(np.float32)
    )


def test_audio_that_was_cut_short_gives_what_is_there() -> None:
    data = encoded(np.arange(1_000, dtype=np.int16))
    assert len(Audio(data[:1_044]).load().samples) == 500


def test_reading_stops_at_the_limit_whatever_the_header_said() -> None:
    with limits(max_seconds=0.1), pytest.raises(MediaTooLarge, match=r"more than the limit of 0\.1"):
        list(audio_decoders._mono(iter([np.zeros((1_000, 1), np.float32)] * 2), RATE, "liar.mp3"))
