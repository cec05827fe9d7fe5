"""The trial of an exported tower: encodes a sample with it and with the source, and compares the vectors."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.core.backends.runtime import Runtime
from multimodal.core.encoder import Encoder
from multimodal.core.errors import EncoderError
from multimodal.core.items import Audio, Image, Item, Text
from multimodal.core.modality import Modality
from multimodal.core.paths import assets
from multimodal.encoders.onnx.encoders import build

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_COSINE = 0.98
MAX_RECALL_LOSS = 0.01
MAX_BATCH_CHANGE = 1e-5
BATCH = 8  # items of the test that a vector does not depend on its batch
RUNS = 15
FLAT_COLOURS = (
    0,
    128,
    255,
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (0, 255, 255),
    (255, 0, 255),
)
SUFFIXES = {Modality.IMAGE: "pictures", Modality.AUDIO: "sounds"}


@dataclass(frozen=True)
class TrialResult:
    """The measures of `TowerReport`."""

    load_ms: float
    item_ms: float
    worst_cosine: float
    recall: float
    batch_change: float

    @property
    def fault(self) -> str:
        """Why the tower is refused; empty if it is not."""
        if not self.worst_cosine >= MIN_COSINE:  # true for nan too
            return f"worst cosine {self.worst_cosine:.3f}, at least {MIN_COSINE} is required"
        if self.recall < 1 - MAX_RECALL_LOSS:
            return f"R@1 {self.recall:.1%}, at most {MAX_RECALL_LOSS:.0%} may be lost"
        if self.batch_change > MAX_BATCH_CHANGE:
            return f"a vector changes by {self.batch_change:.1e} with its batch, at most {MAX_BATCH_CHANGE:.0e} may be"
        return ""


def run_trial(
    config: Mapping[str, Any],
    files: Mapping[str, bytes],
    items: Sequence[Item],
    expected: NDArray[np.float32],
) -> TrialResult:
    """Compares an exported tower with the vectors (n, dim) of its source. Raises EncoderError if it cannot run."""
    start = time.perf_counter()
    encoder = build(config, files, runtime=Runtime("cpu"), threads=1)
    load_ms = 1e3 * (time.perf_counter() - start)
    try:
        vectors = encoder.encode(items, batch_size=BATCH)
    except EncoderError:
        return TrialResult(load_ms, float("nan"), float("nan"), 0.0, float("inf"))
    cosines = vectors @ expected.T
    # Items with equal vectors, such as twins, are as good as one another
    own = np.diagonal(cosines)
    recall = float((own >= cosines.max(axis=1) - 1e-6).mean())
    alone = np.concatenate([encoder.encode([item]) for item in items[:BATCH]])
    change = float(np.abs(alone - vectors[:BATCH]).max())
    return TrialResult(load_ms, _item_ms(encoder, items), float(own.min()), recall, change)


def _item_ms(encoder: Encoder, items: Sequence[Item]) -> float:
    batch = encoder.prepare(items[:1])
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        encoder.encode_prepared(batch, items[:1])
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def default_sample(modality: Modality) -> list[Item]:
    """Items that ship with the package: the gallery's images and recordings, and texts made of its names and notes."""
    gallery = assets() / "gallery"
    if modality is Modality.IMAGE:
        return [Image(path) for path in _files(gallery / "pictures")]
    if modality is Modality.AUDIO:
        return [Audio(path) for path in _files(gallery / "sounds")]
    names = [path.stem.replace("-", " ") for folder in SUFFIXES.values() for path in _files(gallery / folder)]
    notes = [path.read_text(encoding="utf-8") for path in _files(gallery / "notes")]
    sentences = [sentence.strip() for note in notes for sentence in note.replace("\n", " ").split(". ")]
    texts = [*names, *(f"a photo of the {name}" for name in names), *filter(None, sentences), *notes]
    return [Text(text) for text in dict.fromkeys(texts)]


def plain_images() -> list[NDArray[np.uint8]]:
    """Flat colours, gradients, patterns and noise, which belong to every sample: int8 rounds them worst.

    Where all pixels are alike, rounding errors are alike too, and pooling does not average them out.
    """
    side = 64
    rows, columns = np.mgrid[:side, :side]
    flat = [np.full((side, side, 3), colour, np.uint8) for colour in FLAT_COLOURS]
    grey = [4 * rows, 4 * columns, 255 * ((rows // 8 + columns // 8) % 2), 255 * ((rows + columns) % 8 < 4)]
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return [*flat, *(np.repeat(levels[..., None], 3, axis=2).astype(np.uint8) for levels in grey), noise]


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())
