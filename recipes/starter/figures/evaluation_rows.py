"""The held-out items of the model card as rows of `multimodal.evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multimodal.core.items import Audio, Image, Item
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.starter.encoders import StarterAudio
from multimodal.encoders.starter.parameters import RATE_HZ
from recipes.starter.figures import judges

Row = dict[str, Any]


class StoredSpeech(StarterAudio):
    """The speech tower for clips that are stored as log-mels, as `judges.clips` holds them."""

    def prepare(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Reads mels (clips, frames, 64), lengths and owners; every clip is one window."""
        mels = [mel_of(item) for item in items]
        return {
            "mels": nn.utils.rnn.pad_sequence(mels, batch_first=True),
            "lengths": torch.tensor([len(mel) for mel in mels]),
            "owners": torch.arange(len(mels)),
        }


def for_stored_speech(space: Space) -> Space:
    """The same space, whose audio items are those of `clips`."""
    audio = space.encoders[Modality.AUDIO]
    stored = StoredSpeech(audio.state_dict(), audio.runtime)
    return Space([space.encoders[Modality.TEXT], space.encoders[Modality.IMAGE], stored], name=space.name)


def mel_of(item: Any) -> Tensor:
    """The log-mels (frames, 64) of an item of `clips`, -1 to 1."""
    return torch.from_numpy(item.source["array"]).float() / 127.5 - 1


def clips(work: Path, speaker: str, every: int = 1) -> list[tuple[Audio, int]]:
    """The clips of one speaker, uint8 log-mels (frames, 64) each, with the concept that each names."""
    data = judges.clips(work)
    rows = np.flatnonzero(data["speakers"] == speaker)[::every]
    starts = data["starts"]
    items = [
        Audio({"array": data["mels"][starts[row] : starts[row + 1]], "sampling_rate": RATE_HZ})
        for row in rows
    ]
    return list(zip(items, data["concepts"][rows].tolist(), strict=True))


def pictures(pixels: Tensor) -> list[Image]:
    """uint8 (n, 3, h, w) as image items."""
    return [Image(picture.permute(1, 2, 0).contiguous().numpy()) for picture in pixels]


def numbered(column: str, items: Iterable[Any], concepts: Iterable[int] | None = None) -> list[Row]:
    """Rows of one column; rows of the same concept are right answers of each other.

    Args:
        column: "text", "image" or "audio".
        items: One for each row.
        concepts: The concept of each item; by default its place.
    """
    if concepts is None:
        return [{column: item, "id": place} for place, item in enumerate(items)]
    return [{column: item, "id": concept} for item, concept in zip(items, concepts, strict=True)]


def paired(**columns: Iterable[Any]) -> list[Row]:
    """Rows of several columns: item n of each belongs to item n of the others."""
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
