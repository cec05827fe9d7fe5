"""Card: what is known about a model before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from multimodal.core.modality import Modality


@dataclass(frozen=True)
class Card:
    """A model that `multimodal.load(name)` loads.

    Attributes:
        name: The address.
        modalities: Those it encodes.
        dim: The length of its vectors.
        licence: Its SPDX name, or the wording of its authors.
        source: Where the weights come from: a hub repository, or the recipe that trained them.
        size_mb: Size of the download or file, in megabytes.
        description: One sentence.
        figure: The published zero-shot figure with its benchmark, as "ImageNet 72.7", or "".
        commercial: Whether the licence permits commercial use; False for an unclear or research-only licence.
        revision: The commit of `source` that the name stands for, or "" for the newest.
        base: The model whose weights this one continues (fine-tuned, adapted, bridged, quantised), or "".
        teacher: The model whose vectors it was trained to match, or "".
        matryoshka: Shorter lengths of vectors that it was trained for: the first so many numbers of a vector, made
            unit length again, are a vector of the model too. () if it was not trained so.
    """

    name: str
    modalities: tuple[Modality, ...]
    dim: int
    licence: str
    source: str
    size_mb: float
    description: str = ""
    figure: str = ""
    commercial: bool = True
    revision: str = ""
    base: str = ""
    teacher: str = ""
    matryoshka: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))
        object.__setattr__(self, "matryoshka", tuple(sorted(self.matryoshka)))

    def to_dict(self) -> dict[str, Any]:
        """Converts the card to plain values, from which `Card.from_dict` restores it.

        Returns:
            JSON values.
        """
        lists = {
            "modalities": [str(m) for m in self.modalities],
            "matryoshka": list(self.matryoshka),
        }
        return asdict(self) | lists

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """Restores a card. Unknown keys, of a later version, are ignored.

        Args:
            values: What `to_dict` returned.

        Returns:
            The card.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})
