"""What an audit is made on: images and clips of the user, or the gallery that ships with the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image

from multimodal.auditing.generators.audio import RATE_HZ
from multimodal.core.encoder import Encoder
from multimodal.core.errors import MediaError, MissingExtra
from multimodal.core.items import Audio, Image
from multimodal.core.modality import Modality
from multimodal.core.paths import assets
from multimodal.evaluation.data import Row, Table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]
    Samples = NDArray[np.float32]

DEFAULT_SIDE = 224  # pixels, where the input size of a model is not known
SIDE_KEYS = ("side", "image_size", "input_size", "crop_size")
LONGEST_S = 10.0
GALLERY = "the gallery of the package"


@dataclass
class Material:
    """Images and clips with names.

    Attributes:
        name: Where they come from.
        images: RGB (side, side, 3) each.
        image_names: In words; None for those without.
        clips: Samples at RATE_HZ.
        clip_names: As `image_names`.
        rows: Of the table, one for each image or clip that was kept, where it is the user's.
        is_own: Whether they are the user's.
    """

    name: str = GALLERY
    images: list[Pixels] = field(default_factory=list)
    image_names: list[str | None] = field(default_factory=list)
    clips: list[Samples] = field(default_factory=list)
    clip_names: list[str | None] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    is_own: bool = False


def input_side(encoder: Encoder | None) -> int:
    """The side in pixels at which an image encoder sees its input, so that damage is made at that size."""
    if encoder is None:
        return DEFAULT_SIDE
    waiting: list[Any] = [encoder.config()]
    while waiting:
        values = waiting.pop(0)
        if not isinstance(values, dict):
            continue
        for key in SIDE_KEYS:
            size = values.get(key)
            size = max(size.values(), default=None) if isinstance(size, dict) else size
            size = size[0] if isinstance(size, list | tuple) and size else size
            if isinstance(size, int) and 16 <= size <= 1024:
                return size
        waiting += values.values()
    return DEFAULT_SIDE


def squared(pixels: Pixels, side: int) -> Pixels:
    """The middle square of an image, resized."""
    import numpy as np

    height, width = pixels.shape[:2]
    edge = min(height, width)
    top, left = (height - edge) // 2, (width - edge) // 2
    square = PIL.Image.fromarray(pixels[top : top + edge, left : left + edge])
    return np.asarray(square.resize((side, side), PIL.Image.Resampling.LANCZOS))


def gallery_material(side: int) -> Material:
    """The pictures and sounds that ship with the package, named by their files."""
    material = Material()
    for file in sorted((assets() / "gallery" / "pictures").iterdir()):
        material.images.append(squared(Image(file).load(), side))
        material.image_names.append(_name(file))
    for file in sorted((assets() / "gallery" / "sounds").iterdir()):
        material.clips.append(Audio(file).load(RATE_HZ).samples)
        material.clip_names.append(_name(file))
    return material


def table_material(table: Table, side: int, limit: int, seed: int) -> Material:
    """Images and clips of the user, at most `limit` of each, drawn at random."""
    material = Material(table.name, is_own=True)
    for modality in (Modality.IMAGE, Modality.AUDIO):
        for row in _sample([row for row in table.rows if modality in row.items], limit, seed):
            item = row.items[modality]
            name = row.label
            if name is None and Modality.TEXT in row.items:
                name = str(row.items[Modality.TEXT].load())
            try:
                if isinstance(item, Image):
                    material.images.append(squared(item.load(), side))
                    material.image_names.append(name)
                elif isinstance(item, Audio):
                    material.clips.append(item.load(RATE_HZ).samples[: int(LONGEST_S * RATE_HZ)])
                    material.clip_names.append(name)
            except (MediaError, MissingExtra):
                continue
            material.rows.append(row)
    return material


def _sample(rows: Sequence[Row], limit: int, seed: int) -> list[Row]:
    import numpy as np

    if len(rows) <= limit:
        return list(rows)
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))
    return [rows[place] for place in chosen]


def _name(file: Path) -> str:
    return file.stem.replace("-", " ")
