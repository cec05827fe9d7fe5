"""LogitScale: the scale, bias and activation that turn cosine similarities into probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from multimodal.core.deprecation import deprecated_property
from multimodal.core.errors import InvalidInput
from multimodal.core.modality import Modality

Activation = Literal["softmax", "sigmoid"]
Pair = tuple[Modality, Modality]


@dataclass(frozen=True)
class LogitScale:
    """How a model turns cosines into probabilities, as trained: `activation(scale * cosine + bias)`.

    Attributes:
        scale: The factor itself (CLIP's `logit_scale.exp()`), above 0.
        bias: Added to the scaled cosine.
        activation: "softmax" over the candidates (CLIP), or "sigmoid" for each pair independently (SigLIP).

    Raises:
        InvalidInput: If scale or bias is not finite, scale is not above 0, or the activation is unknown.
    """

    scale: float
    bias: float = 0.0
    activation: Activation = "softmax"
    kind = deprecated_property("LogitScale.kind", "LogitScale.activation")

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise InvalidInput(
                f"scale must be finite and above 0, got {self.scale!r}; is it still a logarithm?"
            )
        if not abs(self.bias) < float("inf"):
            raise InvalidInput(f"bias must be finite, got {self.bias!r}")
        if self.activation not in ("softmax", "sigmoid"):
            raise InvalidInput(f"activation must be 'softmax' or 'sigmoid', got {self.activation!r}")

    def to_dict(self) -> dict[str, Any]:
        """Converts the scale to plain values.

        Returns:
            JSON values.
        """
        return asdict(self)


LogitScales = LogitScale | Mapping[Pair | None, LogitScale] | None


def by_pair(logit_scale: LogitScales) -> dict[Pair | None, LogitScale]:
    """Logit scales by the pair of modalities they apply to; the key None is the default for every other pair."""
    if logit_scale is None:
        return {}
    if isinstance(logit_scale, LogitScale):
        return {None: logit_scale}
    return {
        None if pair is None else (Modality(pair[0]), Modality(pair[1])): value
        for pair, value in logit_scale.items()
    }
