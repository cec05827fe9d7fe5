"""Parts of a space: its encoders by modality, and the origin that lets `|` join parts again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput, SpaceMismatch
from multimodal.core.modality import Modality


@dataclass(frozen=True, eq=False)
class Origin:
    """The whole space that a part was selected from."""

    address: str | None
    options: dict[str, Any]
    revisions: dict[str, str]
    modalities: tuple[Modality, ...]

    def is_same(self, other: Origin | None) -> bool:
        """Whether both are one space, or one loaded twice from the same address."""
        if self is other or other is None or self.address is None:
            return self is other
        return (self.address, self.options, self.revisions) == (other.address, other.options, other.revisions)


def by_modality(encoders: Mapping[Modality, Encoder] | Iterable[Encoder]) -> dict[Modality, Encoder]:
    """The encoders by modality. Raises InvalidInput if two have the same, SpaceMismatch if their dimensions differ."""
    pairs = list(encoders.items()) if isinstance(encoders, Mapping) else [(e.modality, e) for e in encoders]
    if not pairs:
        raise InvalidInput("a space needs at least one encoder, got none")
    result: dict[Modality, Encoder] = {}
    for key, encoder in pairs:
        modality = Modality(key)
        if modality != encoder.modality:
            raise InvalidInput(f"the encoder given for {modality} encodes {encoder.modality}")
        if modality in result:
            raise InvalidInput(f"two encoders of {modality} given; a space has one for each modality")
        result[modality] = encoder
    dims = {modality: encoder.dim for modality, encoder in result.items()}
    if len(set(dims.values())) > 1:
        shown = ", ".join(f"{modality} {dim}" for modality, dim in dims.items())
        raise SpaceMismatch(f"these encoders do not share one space, their vectors differ in size: {shown}")
    return result
