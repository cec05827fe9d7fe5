"""Card: what there is to know about a model before loading it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from multimodal.core.modality import Modality


@dataclass(frozen=True)
class Card:
    """A model that `multimodal.load(name)` takes. `size_mb` is the download or file size.

    licence: its SPDX name, or the words of its makers. commercial: whether that licence lets it be used for money; an
    unclear or research-only one does not. source: where the weights are (a hub id, or what made them). figure: the
    published zero-shot figure, with its benchmark ("ImageNet 72.7"), or "". revision: the commit of `source` that the
    name stands for, or "" for its newest.
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", tuple(Modality(m) for m in self.modalities))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON; `Card.from_dict` takes them back."""
        return asdict(self) | {"modalities": [str(m) for m in self.modalities]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """The card whose `to_dict` gave `values`; unknown keys (of a later version) are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})
