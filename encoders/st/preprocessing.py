"""Converts items to inputs of sentence-transformers, in groups that share a forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.media.pillow import load_pil
from multimodal.core.media.windows import windows
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

CHARACTERS_PER_TOKEN = 4  # approximately
UNBOUNDED = 1_000_000  # tokens; models without a limit report more
MAX_FRAMES = 64  # per video; the model's own processor may sample from these


def groups(
    model: SentenceTransformer, items: Sequence[Item], *, fast: bool, name: str
) -> tuple[list[list[Any]], list[int]]:
    """Converts items of one modality to inputs of `model.preprocess`.

    Text and image items form one group. Audio and video items form one group each, because the pooling of some models
    includes padding. Audio beyond the extractor's limit is split into windows that cover it; the extractor would crop
    it at random.

    Returns:
        The groups, and for each input the position of its item.
    """
    owners = list(range(len(items)))
    if isinstance(items[0], Text):
        return [[_text(model, str(item.load())) for item in items]], owners
    if isinstance(items[0], Image):
        side = shortest_side(model) if fast else None
        edge = shortest_edge(model)
        return [
            [load_pil(item, side, shortest_edge=edge) for item in items if isinstance(item, Image)]
        ], owners
    if isinstance(items[0], Audio):
        rate_hz, limit = sampling_rate(model, name), window_samples(model)
        segments = [
            (owner, window)
            for owner, item in enumerate(items)
            if isinstance(item, Audio)
            for window in audio_windows(item.load(rate_hz=rate_hz).samples, limit)
        ]
        inputs = [[{"array": window, "sampling_rate": rate_hz}] for _, window in segments]
        return inputs, [owner for owner, _ in segments]
    return [[_video(item)] for item in items if isinstance(item, Video)], owners


def audio_windows(samples: NDArray[np.float32], limit: int | None) -> list[NDArray[np.float32]]:
    """Splits a waveform (n,) into windows of `limit` samples; one window if there is no limit."""
    return [samples[start:stop] for start, stop in windows(len(samples), limit or len(samples))]


def max_input(model: SentenceTransformer, modality: Modality) -> float | None:
    """Audio in seconds, or text in (approximate) characters, that is encoded without truncation or averaging."""
    if modality is Modality.AUDIO:
        audio_extractor = extractor(model)
        limit = window_samples(model) or getattr(audio_extractor, "n_samples", None)
        rate_hz = audio_extractor.sampling_rate
        return None if limit is None else limit / rate_hz
    tokens = (
        getattr(module_for(model, modality), "max_seq_length", None) if modality is Modality.TEXT else None
    )
    return None if tokens is None or tokens > UNBOUNDED else CHARACTERS_PER_TOKEN * tokens


def window_samples(model: SentenceTransformer) -> int | None:
    """The longest waveform that is not cropped at random, as CLAP's extractor does, in samples; None if unlimited."""
    audio_extractor = extractor(model)
    return (
        getattr(audio_extractor, "nb_max_samples", None)
        if getattr(audio_extractor, "truncation", "")
        else None
    )


def shortest_edge(model: SentenceTransformer) -> int | None:
    """The length to which the processor resizes the shorter side; None if it bounds the longer side too."""
    sides = _resize_sizes(model)
    return sides["shortest_edge"] if sides.keys() == {"shortest_edge"} else None


def _resize_sizes(model: SentenceTransformer) -> dict[str, int]:
    """What the processor of images says of their size, as far as it is set."""
    processor = getattr(module_for(model, Modality.IMAGE), "processor", None)
    size = getattr(getattr(processor, "image_processor", processor), "size", None)
    return {
        key: size[key]
        for key in ("shortest_edge", "longest_edge", "height", "width")
        if size and size.get(key)
    }


def shortest_side(model: SentenceTransformer) -> int | None:
    """The size in pixels to which the processor resizes images, if it is the same for all; else None."""
    sides = _resize_sizes(model)
    if sides.keys() in ({"shortest_edge"}, {"height", "width"}):
        return max(sides.values())
    return None


def _text(model: SentenceTransformer, text: str) -> Any:
    """Models for media would download or open a plain str that looks like the address of an image."""
    return text if list(model.modalities) == ["text"] else {"text": text}


def _video(item: Video) -> dict[str, Any]:
    frames = item.load(max_frames=MAX_FRAMES)
    return video_input(frames.frames, frames.seconds)


def module_for(model: SentenceTransformer, modality: Modality) -> Any:
    """The module that processes a modality: the first of a router's that supports it."""
    first = model[0]
    for route in getattr(first, "sub_modules", {}).values():
        if str(modality) in getattr(route[0], "modalities", ["text"]):
            return route[0]
    return first


def sample(model: SentenceTransformer, modality: Modality, name: str) -> Any:
    """A small input of a modality, to test a model with."""
    import numpy as np
    import PIL.Image

    noise = np.random.default_rng(0)
    if modality is Modality.TEXT:
        return "a"
    if modality is Modality.IMAGE:
        return PIL.Image.fromarray(noise.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    if modality is Modality.AUDIO:
        rate_hz = sampling_rate(model, name)
        return {"array": noise.standard_normal(rate_hz).astype(np.float32), "sampling_rate": rate_hz}
    return video_input(noise.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8), 2.0)


def video_input(frames: Any, seconds: float) -> dict[str, Any]:
    """Frames (t, h, w, 3) uint8 -> a video input of upstream."""
    n = len(frames)
    times = {"fps": n / seconds, "duration": seconds, "total_num_frames": n, "frames_indices": list(range(n))}
    return {"video": {"array": frames, "video_metadata": times}}


def sampling_rate(model: SentenceTransformer, name: str) -> int:
    """The feature extractor's sampling rate in Hz. Raises CheckpointError if it has none."""
    rate_hz = getattr(extractor(model), "sampling_rate", None)
    if not isinstance(rate_hz, int) or rate_hz < 1:
        raise CheckpointError(f"{name!r} supports audio, but its processor has no sampling_rate")
    return rate_hz


def extractor(model: SentenceTransformer) -> Any:
    """The feature extractor for waveforms: part of the processor, or all of it."""
    processor = getattr(module_for(model, Modality.AUDIO), "processor", None)
    return getattr(processor, "feature_extractor", processor)
