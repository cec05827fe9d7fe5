"""Head: how a model turns cosines into probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality

Kind = Literal["softmax", "sigmoid"]
Pair = tuple[Modality, Modality]


@dataclass(frozen=True)
class Head:
    """How a model turns cosines into probabilities, as it was trained: `kind(scale * cosine + bias)`.

    scale: the factor itself (CLIP's `logit_scale.exp()`), above 0. kind: softmax over the candidates (CLIP), or a
    sigmoid for each pair on its own (SigLIP).
    """

    scale: float
    bias: float = 0.0
    kind: Kind = "softmax"

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise InvalidInput(
                f"scale must be finite and above 0, got {self.scale!r}; is it still a logarithm?"
            )
        if not abs(self.bias) < float("inf"):
            raise InvalidInput(f"bias must be finite, got {self.bias!r}")
        if self.kind not in ("softmax", "sigmoid"):
            raise InvalidInput(f"kind must be 'softmax' or 'sigmoid', got {self.kind!r}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def by_pair(head: Head | Mapping[Pair | None, Head] | None) -> dict[Pair | None, Head]:
    """Heads by the pair of modalities they are for; None for every other pair. One Head alone is for all."""
    if head is None:
        return {}
    if isinstance(head, Head):
        return {None: head}
    return {
        None if pair is None else (Modality(pair[0]), Modality(pair[1])): one for pair, one in head.items()
    }
