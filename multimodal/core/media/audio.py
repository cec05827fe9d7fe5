"""Audio: wav, flac, ogg, opus, mp3 … by libsndfile; m4a, aac and other containers by PyAV -> mono float32.

The length in the header is checked against the limits first. Then the file is read in blocks, each mixed to mono, and
reading stops at the limit even if the header is wrong. A truncated file gives the audio that is there, as players do.
`audio_decoders` decodes files; this module decodes arrays too.
"""

from __future__ import annotations

import html
import io
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.core.errors import InvalidInput
from multimodal.core.limits import get_limits
from multimodal.core.media.audio_decoders import decode_file
from multimodal.core.media.inputs import to_array
from multimodal.core.media.resampling import resample as resample
from multimodal.core.media.sniff import Source, open_source
from multimodal.core.media.thumbnail import data_uri
from multimodal.core.modality import Waveform

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DRAWN_S = 120.0  # of a recording whose waveform is drawn
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
        yield from decode_file(file, name)


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


def peaks(blocks: Iterator[Waveform], start_s: float | None, end_s: float | None, bars: int) -> list[float]:
    """The heights, 0 to 1, of the bars of a drawing of audio that comes in blocks, or of a part of it."""
    start = start_s or 0.0
    seconds = MAX_DRAWN_S if end_s is None else min(MAX_DRAWN_S, end_s - start)
    samples = read_seconds(blocks, start, seconds).samples
    heights = [float(np.abs(part).max(initial=0)) for part in np.array_split(samples, bars)]
    loudest = max(heights) or 1.0
    return [height / loudest for height in heights]


def _from_array(array: Any, sampling_rate: Any) -> Waveform:
    """{"array", "sampling_rate"} -> Waveform. Raises InvalidInput for an ambiguous, empty or infinite array."""
    if (
        isinstance(sampling_rate, bool)
        or not isinstance(sampling_rate, int | float | np.integer | np.floating)
        or not (sampling_rate >= 1 and sampling_rate == int(sampling_rate))
    ):
        raise InvalidInput(f"sampling_rate must be a whole number of Hz above 0, got {sampling_rate!r}")
    rate_hz = int(sampling_rate)
    values = np.asarray(to_array(array))
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


def player_html(waveform: Waveform) -> str:
    """An <audio> element that holds the waveform as 16-bit WAV, for notebooks."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.samples.clip(-1, 1), waveform.rate_hz, format="WAV", subtype="PCM_16")
    title = html.escape(f"{waveform.seconds:.2f} s at {waveform.rate_hz} Hz")
    return f'<audio controls title="{title}" src="{data_uri("audio/wav", buffer.getvalue())}"></audio>'
