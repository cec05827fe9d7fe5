"""Items as sentence-transformers takes them, in groups that may go through a model together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from multimodal.core.errors import CheckpointError
from multimodal.core.items import Audio, Image, Item, Text, Video
from multimodal.core.media.windows import windows
from multimodal.core.modality import Modality

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer

CHARACTERS = 4  # of a word piece, about
MANY = 1_000_000  # word pieces: so many are said where there is no limit
MAX_FRAMES = 64  # of a video; among them the model's own processor may choose again


def groups(
    model: SentenceTransformer, items: Sequence[Item], *, fast: bool, name: str
) -> tuple[list[list[Any]], list[int]]:
    """Items of one modality -> inputs of `model.preprocess` in groups, and the position of the item each is of.

    Texts and pictures go together. Sounds and videos go alone: some models' poolings count the padding that company
    brings. A sound longer than the extractor takes is cut into equal windows that cover it, where it would take a piece
    at random.
    """
    owners = list(range(len(items)))
    if isinstance(items[0], Text):
        return [[_text(model, str(item.load())) for item in items]], owners
    if isinstance(items[0], Image):
        side = shortest_side(model) if fast else None
        return [[_picture(item, side) for item in items if isinstance(item, Image)]], owners
    if isinstance(items[0], Audio):
        rate_hz, limit = sampling_rate(model, name), window_samples(model)
        cut = [
            (owner, part)
            for owner, item in enumerate(items)
            if isinstance(item, Audio)
            for part in parts(item.load(rate_hz=rate_hz).samples, limit)
        ]
        return [[{"array": part, "sampling_rate": rate_hz}] for _, part in cut], [owner for owner, _ in cut]
    return [[_video(item)] for item in items if isinstance(item, Video)], owners


def parts(samples: NDArray[np.float32], limit: int | None) -> list[NDArray[np.float32]]:
    """A sound in windows of `limit` samples; the whole where there is no limit."""
    return [samples[start:stop] for start, stop in windows(len(samples), limit or len(samples))]


def takes(model: SentenceTransformer, modality: Modality) -> float | None:
    """How much of a sound (seconds) or a text (about characters) is read; what is beyond is cut off or averaged."""
    if modality is Modality.AUDIO:
        found = extractor(model)
        limit, rate_hz = window_samples(model) or getattr(found, "n_samples", None), found.sampling_rate
        return None if limit is None else limit / rate_hz
    pieces = getattr(part_for(model, modality), "max_seq_length", None) if modality is Modality.TEXT else None
    return None if pieces is None or pieces > MANY else CHARACTERS * pieces


def window_samples(model: SentenceTransformer) -> int | None:
    """The longest sound that is not cut at random: CLAP's extractor takes a random piece of a longer one."""
    found = extractor(model)
    return getattr(found, "nb_max_samples", None) if getattr(found, "truncation", "") else None


def shortest_side(model: SentenceTransformer) -> int | None:
    """Pixels to which pictures are shrunk, if the processor has one size for all; None otherwise."""
    processor = getattr(part_for(model, Modality.IMAGE), "processor", None)
    size = getattr(getattr(processor, "image_processor", processor), "size", None)
    given = {
        key: size[key]
        for key in ("shortest_edge", "longest_edge", "height", "width")
        if size and size.get(key)
    }
    if given.keys() in ({"shortest_edge"}, {"height", "width"}):
        return max(given.values())
    return None


def _text(model: SentenceTransformer, text: str) -> Any:
    """Where a model takes media, a str that reads like the address of a picture would be fetched or opened as one."""
    return text if list(model.modalities) == ["text"] else {"text": text}


def _picture(item: Image, side: int | None) -> Any:
    import PIL.Image

    return PIL.Image.fromarray(item.load() if side is None else item.load(min_side=side))


def _video(item: Video) -> dict[str, Any]:
    frames = item.load(max_frames=MAX_FRAMES)
    return moving(frames.frames, frames.seconds)


def part_for(model: SentenceTransformer, modality: Modality) -> Any:
    """The module that reads a modality: of a router's, the first whose own modalities hold it."""
    first = model[0]
    for route in getattr(first, "sub_modules", {}).values():
        if str(modality) in getattr(route[0], "modalities", ["text"]):
            return route[0]
    return first


def sample(model: SentenceTransformer, modality: Modality, name: str) -> Any:
    """Something small to encode."""
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
    return moving(noise.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8), 2.0)


def moving(frames: Any, seconds: float) -> dict[str, Any]:
    """Frames (t, h, w, 3) uint8 -> a video as upstream takes it."""
    n = len(frames)
    times = {"fps": n / seconds, "duration": seconds, "total_num_frames": n, "frames_indices": list(range(n))}
    return {"video": {"array": frames, "video_metadata": times}}


def sampling_rate(model: SentenceTransformer, name: str) -> int:
    """Hz, that of the feature extractor. Raises CheckpointError if there is none."""
    rate_hz = getattr(extractor(model), "sampling_rate", None)
    if not isinstance(rate_hz, int) or rate_hz < 1:
        raise CheckpointError(f"{name!r} takes sounds, but its processor does not say at which sampling rate")
    return rate_hz


def extractor(model: SentenceTransformer) -> Any:
    """What turns waveforms into features: part of a processor, or all of it."""
    processor = getattr(part_for(model, Modality.AUDIO), "processor", None)
    return getattr(processor, "feature_extractor", processor)
