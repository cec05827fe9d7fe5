"""What a space knew before: the pairs that measure forgetting, and those that are replayed against it.

Without pairs of the user, the gallery that ships with the package serves: images and spoken words with their names,
half of them as reference, half for replay. It is small, so its interval is wide; data of the old kind are better,
passed as `reference=` and `replay=`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.adapt.finetuning.data import IMAGES, SOUNDS, Pair, label_text
from multimodal.core.items import Audio, Image, Text
from multimodal.core.modality import Modality
from multimodal.core.paths import assets

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDERS = {Modality.IMAGE: "pictures", Modality.AUDIO: "sounds"}
REFERENCE, REPLAY = 0, 1  # every second file


def gallery_pairs(modality: Modality, half: int) -> list[Pair]:
    """Half of the gallery with its names.

    Args:
        modality: Image or audio; of another modality there is none.
        half: REFERENCE or REPLAY.

    Returns:
        The pairs: every second file, an image in several views.
    """
    if modality not in FOLDERS:
        return []
    files = sorted((assets() / "gallery" / FOLDERS[modality]).iterdir())
    chosen = [path for path in files if path.suffix in IMAGES | SOUNDS][half::2]
    return [
        Pair(item, Text(label_text(path.stem)))
        for path in chosen
        for item in (_views(path) if modality is Modality.IMAGE else [Audio(path)])
    ]


def _views(path: Path) -> Iterator[Image]:
    """An image as it is, smaller on a grey ground, and with noise; the same on every run."""
    import numpy as np

    pixels = Image(path).load()
    yield Image(path)
    yield Image(_on_ground(pixels))
    noise = np.random.default_rng(0).normal(0, 20, pixels.shape)
    yield Image(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def _on_ground(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import numpy as np

    height, width = pixels.shape[:2]
    ground = np.full((height * 3 // 2, width * 3 // 2, 3), 128, np.uint8)
    ground[height // 4 : height // 4 + height, width // 4 : width // 4 + width] = pixels
    return ground


def automatic_pairs(modalities: Sequence[Modality], trained: Sequence[Modality], half: int) -> list[Pair]:
    """Gallery pairs that a space encodes and a training may change; [] if there are none.

    Args:
        modalities: Of the space.
        trained: The modalities that are trained.
        half: REFERENCE or REPLAY.
    """
    if Modality.TEXT not in modalities:
        return []
    candidates: list[Any] = [m for m in trained if m in FOLDERS] or [m for m in modalities if m in FOLDERS][
        :1
    ]
    return gallery_pairs(candidates[0], half) if candidates else []
