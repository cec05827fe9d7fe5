"""Audio: wav, flac, ogg, opus, mp3 … by libsndfile; m4a, aac and other containers by PyAV -> mono float32.

The length in the header is checked against the limits first. Then the file is read in blocks, each mixed to mono, and
reading stops at the limit even if the header is wrong. A truncated file gives the audio that is there, as players do,
unless its decoder loses synchronisation.
"""

from __future__ import annotations

import functools
import html
import io
import os
from collections.abc import Iterator, Mapping
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from multimodal.core.errors import InvalidInput, MediaCorrupt, MediaUnsupported
from multimodal.core.limits import get_limits
from multimodal.core.media.ffmpeg import import_av, open_av
from multimodal.core.media.sniff import HEAD_BYTES, Source, open_source, signature, unsupported
from multimodal.core.media.thumbnail import data_uri
from multimodal.core.modality import Waveform

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

BLOCK_SAMPLES = 1 << 18  # 262,144: 5.5 s at 48 kHz
UNKNOWN_LENGTH = 1 << 62  # libsndfile gives 2**63 - 1 for a stream without a length
MAX_KERNEL = 4_000_000  # the largest product of a resampling ratio kept exact; see _ratio
SIGNED_FULL_SCALE = {"int16": 2.0**15, "int32": 2.0**31}


def decode_audio(source: Source | Mapping[str, Any]) -> Waveform:
    """Implements Audio.load."""
    if isinstance(source, Mapping):
        return _from_array(source["array"], source["sampling_rate"])
    blocks = list(stream_audio(source))
    return Waveform(np.concatenate([block.samples for block in blocks]), blocks[0].rate_hz)


def stream_audio(source: Source) -> Iterator[Waveform]:
    """Yields the audio in blocks of some seconds, for files that may not fit in memory. At least one block.

    Raises as `Audio.load` does, when it reaches what is wrong.
    """
    with open_source(source) as (file, name):
        head = file.read(HEAD_BYTES)
        decoder = signature(head).decoder
        if decoder in ("pillow", "heif"):
            raise unsupported(name, head, "audio")
        by_av = decoder.startswith("av:")
        yield from _decode_av(file, name, decoder) if by_av else _decode_soundfile(file, name, head)


def read_seconds(blocks: Iterator[Waveform], start_s: float, seconds: float) -> Waveform:
    """At most `seconds` of audio that comes in blocks, from `start_s` on. No later block is read."""
    pieces: list[NDArray[np.float32]] = []
    position, rate_hz = 0, 1
    for block in blocks:
        rate_hz = block.rate_hz
        first, last = round(start_s * rate_hz), round((start_s + seconds) * rate_hz)
        pieces.append(block.samples[max(0, first - position) : max(0, last - position)])
        position += len(block.samples)
        if position >= last:
            break
    return Waveform(np.concatenate(pieces), rate_hz)


def _decode_soundfile(file: BinaryIO, name: str, head: bytes) -> Iterator[Waveform]:
    import soundfile

    try:
        with _open_soundfile(file) as reader:
            n_samples, rate_hz = reader.frames, reader.samplerate
            if n_samples < UNKNOWN_LENGTH:
                get_limits().check_seconds(n_samples, rate_hz, name)
            yield from _mono(_blocks(reader), rate_hz, name)
    except soundfile.LibsndfileError as error:
        if not signature(head).decoder:
            raise unsupported(name, head, "audio") from error
        raise MediaCorrupt(
            f"{name}: starts like audio but cannot be decoded ({error.error_string}); "
            "copy or download it again"
        ) from error


def _open_soundfile(file: BinaryIO) -> Any:
    import soundfile

    file.seek(0)
    if isinstance(file, io.BytesIO):
        return soundfile.SoundFile(file)
    # By descriptor, libsndfile reads without calling back into Python and ignores the suffix (.raw …).
    # Rewound by lseek: seek(0) inside Python's buffer leaves the descriptor where it was.
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    return soundfile.SoundFile(file.fileno(), closefd=False)


def _blocks(reader: Any) -> Iterator[NDArray[np.float32]]:
    """Blocks (n, channels), to the end of the file."""
    while len(block := reader.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)):
        yield block


def _mono(blocks: Iterator[NDArray[np.float32]], rate_hz: int, name: str) -> Iterator[Waveform]:
    """Mixes blocks (n, channels) to mono (n,), checks them, and stops at the limits."""
    n_samples = 0
    for block in blocks:
        n_samples += len(block)
        get_limits().check_seconds(n_samples, rate_hz, name)
        mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise MediaCorrupt(f"{name}: its samples hold NaN or infinity; export it again as 16-bit PCM")
        yield Waveform(mono, rate_hz)
    if n_samples == 0:
        raise MediaCorrupt(f"{name}: holds no audio samples; record or export it again")


def _decode_av(file: BinaryIO, name: str, decoder: str) -> Iterator[Waveform]:
    av = import_av(name)
    with open_av(file, name, decoder) as container:
        if not container.streams.audio:
            raise MediaUnsupported(f"{name}: has no audio track")
        stream = container.streams.audio[0]
        rate_hz = int(stream.rate or 0)
        if rate_hz < 1:
            raise MediaCorrupt(f"{name}: its audio track states no sampling rate; export it again")
        if stream.duration is not None and stream.time_base is not None:
            get_limits().check_seconds(int(stream.duration * stream.time_base * rate_hz), rate_hz, name)
        elif container.duration is not None:
            get_limits().check_seconds(container.duration * rate_hz // av.time_base, rate_hz, name)
        try:
            yield from _mono(_av_blocks(av, container, stream), rate_hz, name)
        except av.FFmpegError as error:
            raise MediaCorrupt(
                f"{name}: its audio track cannot be decoded ({error.strerror}); copy or download it again"
            ) from error


def _av_blocks(av: Any, container: Any, stream: Any) -> Iterator[NDArray[np.float32]]:
    """Blocks (n, channels), converted to float; rate and channels stay as they are."""
    to_float = av.AudioResampler(format="fltp", rate=stream.rate)
    for frame in container.decode(stream):
        for converted in to_float.resample(frame):
            yield converted.to_ndarray().T
    for converted in to_float.resample(None):
        yield converted.to_ndarray().T


def _from_array(array: Any, sampling_rate: Any) -> Waveform:
    """{"array", "sampling_rate"} -> Waveform. Raises InvalidInput for an ambiguous, empty or infinite array."""
    if (
        isinstance(sampling_rate, bool)
        or not isinstance(sampling_rate, int | float | np.integer | np.floating)
        or not (sampling_rate >= 1 and sampling_rate == int(sampling_rate))
    ):
        raise InvalidInput(f"sampling_rate must be a whole number of Hz above 0, got {sampling_rate!r}")
    rate_hz = int(sampling_rate)
    values = np.asarray(array)
    if values.ndim not in (1, 2):
        raise InvalidInput(f"audio as an array must be (n,) or (channels, n), got shape {values.shape}")
    if values.size == 0:
        raise InvalidInput(f"the waveform is empty (shape {values.shape}); give at least one sample")
    samples = _to_float(values)
    if samples.ndim == 2:  # both (channels, n) and (n, channels) are in use; the shorter axis is channels
        samples = samples.mean(axis=0 if samples.shape[0] <= samples.shape[1] else 1, dtype=np.float32)
    get_limits().check_seconds(len(samples), rate_hz, "<array>")
    finite = np.isfinite(samples)
    if not finite.all():
        raise InvalidInput(
            f"the waveform holds NaN or infinity, first at sample {int((~finite).argmax()):,} of {len(samples):,}; "
            "replace them with numpy.nan_to_num if they are meant"
        )
    return Waveform(samples, rate_hz)


def _to_float(values: NDArray[Any]) -> NDArray[np.float32]:
    """A float32 copy, PCM scaled to -1 .. 1."""
    kind = values.dtype.name
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if kind in SIGNED_FULL_SCALE:
        return (values / SIGNED_FULL_SCALE[kind]).astype(np.float32)
    if kind == "uint8":
        return ((values.astype(np.float32) - 128.0) / 128.0).astype(np.float32)
    raise InvalidInput(
        f"audio as an array must be float, or PCM as uint8, int16 or int32, got {kind}, whose full scale is unknown; "
        "divide it by its full scale and pass floats in -1 to 1"
    )


def resample(waveform: Waveform, rate_hz: int) -> Waveform:
    """Resamples to `rate_hz` (windowed sinc, torchaudio). Raises InvalidInput for a rate below 1."""
    if rate_hz < 1 or rate_hz != int(rate_hz):
        raise InvalidInput(f"rate_hz must be a whole number above 0, got {rate_hz!r}")
    if rate_hz == waveform.rate_hz:
        return waveform
    import torch

    get_limits().check_bytes(len(waveform.samples) * rate_hz // waveform.rate_hz * 4, "<resampled audio>")
    ratio = _ratio(waveform.rate_hz, rate_hz)
    with torch.inference_mode():
        resampled = _resampler(ratio.denominator, ratio.numerator)(torch.from_numpy(waveform.samples))
    return Waveform(resampled.numpy(), rate_hz)


def _ratio(old_hz: int, new_hz: int) -> Fraction:
    """new / old in lowest terms, exact for every usual pair of rates.

    The kernel has about as many taps as the product of both terms: 44,101 -> 16,000 Hz would need gigabytes. Such a
    ratio is rounded to the nearest with smaller terms; tempo and pitch then change by less than 3 parts in 10,000 (half
    a hundredth of a semitone). Raises InvalidInput if the rates are too far apart for that.
    """
    exact = Fraction(new_hz, old_hz)
    if prod(exact.as_integer_ratio()) <= MAX_KERNEL:
        return exact
    rounded = exact.limit_denominator(max(1, int((MAX_KERNEL / exact) ** 0.5)))
    if rounded == 0 or rounded > MAX_KERNEL:
        raise InvalidInput(f"cannot resample from {old_hz:,} to {new_hz:,} Hz: the rates are too far apart")
    return rounded


@functools.lru_cache(maxsize=32)
def _resampler(old: int, new: int) -> torch.nn.Module:
    import torchaudio.transforms

    resampler: torch.nn.Module = torchaudio.transforms.Resample(old, new)
    return resampler


def player_html(waveform: Waveform) -> str:
    """An <audio> element that holds the waveform as 16-bit WAV, for notebooks."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.samples.clip(-1, 1), waveform.rate_hz, format="WAV", subtype="PCM_16")
    title = html.escape(f"{waveform.seconds:.2f} s at {waveform.rate_hz} Hz")
    return f'<audio controls title="{title}" src="{data_uri("audio/wav", buffer.getvalue())}"></audio>'
