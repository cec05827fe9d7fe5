"""Sounds in pieces: the same samples as in one, whatever the blocks; and who is let in."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import multimodal as mm
from multimodal.core.errors import (
    InvalidInput,
    MediaCorrupt,
    MediaTooLarge,
    MediaUnsupported,
    UnsupportedModality,
)
from multimodal.core.limits import limits
from multimodal.pipelines.transcription.audio_stream import (
    as_audio_stream,
    overlapping_windows,
    split_at_quiet,
)
from tests.pipelines.transcription.transcription_models import noise

HOURS = 10
RATE_HZ = 16_000


def wav(samples: np.ndarray, rate_hz: int) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("seconds", [0.3, 20.9, 21.0, 67.31])
def test_blocks_resampled_are_the_whole_resampled(rate_hz: int, seconds: float) -> None:
    audio = mm.Audio(wav(noise(seconds, rate_hz=rate_hz), rate_hz))
    blocks = list(as_audio_stream(audio).blocks(RATE_HZ))
    whole = audio.load(rate_hz=RATE_HZ).samples
    assert np.concatenate(blocks).shape == whole.shape
    assert np.abs(np.concatenate(blocks) - whole).max() < 1e-6
    assert max(map(len, blocks)) <= 40 * RATE_HZ


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(4, 20), st.integers(1, 3))
def test_pieces_are_the_windows_of_the_whole(sizes: list[int], length: int, side: int) -> None:
    step = length - side
    blocks = [np.full(size, n, np.float32) for n, size in enumerate(sizes)]
    whole = np.concatenate(blocks)
    results = list(overlapping_windows(iter(blocks), length, step))
    assert [start for start, _, _ in results] == list(range(0, results[-1][0] + 1, step))
    for start, samples, last in results:
        assert (samples == whole[start : start + length]).all()
        assert last == (start + length >= len(whole))
    assert results[-1][0] + len(results[-1][1]) == len(whole)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_utterances_lose_and_double_nothing(sizes: list[int]) -> None:
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal(size).astype(np.float32) for size in sizes]
    result = list(split_at_quiet(iter(blocks), 1000, 1.0))
    assert (np.concatenate([samples for _, samples in result]) == np.concatenate(blocks)).all()
    at = 0
    for start, samples in result:
        assert start == at and 0 < len(samples) <= 1000
        at += len(samples)


def test_utterances_are_cut_where_it_is_quiet() -> None:
    samples = noise(8.0)
    samples[round(3.9 * RATE_HZ) : round(4.1 * RATE_HZ)] = 0
    (_, first), *_ = split_at_quiet(iter([samples]), RATE_HZ, 5.5)
    assert len(first) / RATE_HZ == pytest.approx(4.0, abs=0.1)


def test_ten_hours_are_read_in_little_memory(tmp_path: Path) -> None:
    """A file that is mostly a hole: its ten hours are read, and never lie in memory together."""
    path = sparse_wav(tmp_path / "long.wav")
    n_samples = 0
    with limits(max_seconds=HOURS * 3600):
        tracemalloc.start()
        for block in as_audio_stream(path).blocks(RATE_HZ):
            n_samples += len(block)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert n_samples == HOURS * 3600 * RATE_HZ
    assert peak < 16 << 20


def sparse_wav(path: Path) -> Path:
    """Ten hours of 16-bit silence at 16 kHz, 1.15 GB of which the disk holds next to nothing."""
    n_bytes = HOURS * 3600 * RATE_HZ * 2
    header = bytearray(wav_header())
    header[4:8] = (n_bytes + len(header) - 8).to_bytes(4, "little")
    header[-4:] = n_bytes.to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + n_bytes)
    return path


def wav_header() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(0, np.int16), RATE_HZ, format="WAV", subtype="PCM_16")
    return buffer.getvalue()[:44]


def test_ten_hours_are_refused_unless_the_limit_is_raised(tmp_path: Path) -> None:
    path = sparse_wav(tmp_path / "long.wav")
    with pytest.raises(MediaTooLarge) as caught:
        next(iter(as_audio_stream(path).blocks(RATE_HZ)))
    assert str(caught.value) == (
        f"{path}: 36,000.0 seconds of audio, more than the limit of 14,400; cut it, or allow it with "
        "multimodal.limits(max_seconds=36000)"
    )


# --- bad input ---------------------------------------------------------------------------------------


def first(value: object) -> Iterator[np.ndarray]:
    return next(iter(as_audio_stream(value).blocks(RATE_HZ)))  # type: ignore[return-value]


@pytest.mark.parametrize("value", [mm.Text("a red apple"), mm.Image(np.zeros((4, 4, 3), np.uint8))])
def test_a_text_or_an_image_is_no_audio(value: mm.Text | mm.Image) -> None:
    with pytest.raises(UnsupportedModality) as caught:
        as_audio_stream(value)
    assert str(caught.value) == (
        f"transcription takes audio, got {value.modality} ({value!r:.80}); give a path, or Audio(…)"
    )


def test_an_array_without_its_rate_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        as_audio_stream(np.zeros(16_000, np.float32))
    assert str(caught.value) == (
        "transcription takes a path, the bytes of a file, {'array': samples, 'sampling_rate': Hz}, (samples, Hz), "
        "Audio or Video, got a value of type ndarray; give its sampling rate: {'array': samples, 'sampling_rate': Hz}"
    )


def test_nan_in_an_array_is_refused_by_its_place() -> None:
    samples = noise(1.0)
    samples[7] = np.nan
    with pytest.raises(InvalidInput, match="holds NaN or infinity, first at sample 7 of 16,000"):
        first({"array": samples, "sampling_rate": RATE_HZ})


def test_nan_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nan.wav"
    path.write_bytes(wav(np.array([0.1, np.nan], np.float32), RATE_HZ))
    with pytest.raises(MediaCorrupt, match="its samples hold NaN or infinity"):
        first(path)


def test_an_empty_array_is_refused() -> None:
    with pytest.raises(InvalidInput, match="the waveform is empty"):
        first({"array": np.zeros(0, np.float32), "sampling_rate": RATE_HZ})


def test_an_image_by_its_path_is_refused(tmp_path: Path) -> None:
    import PIL.Image

    path = tmp_path / "x.mp3"
    PIL.Image.new("RGB", (8, 8)).save(path, format="PNG")
    with pytest.raises(MediaUnsupported, match=r"holds an image, not audio"):
        first(path)
