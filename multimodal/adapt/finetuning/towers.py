"""The trainable copy of an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.adapt.finetuning.weights import METHODS, TrainableNetwork
from multimodal.core.adapters import with_merged
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput
from multimodal.core.families import family_module
from multimodal.core.projector import Projector

BRIDGED = "bridged"  # the family of an encoder followed by a projector


class Tower(TrainableNetwork):
    """A copy of an encoder of which some parameters train.

    Args:
        encoder: The encoder, which is not changed.
        method: As of `TrainableNetwork`, or "probe" (a linear map of the vectors, which starts as the identity).
        **options: As of `TrainableNetwork`.

    Attributes:
        encoder: The copy, with adapters where the method is "lora" or "dora".
        base: The encoder it was made from.
        projector: The linear map of "probe"; None for the other methods.
    """

    def __init__(self, encoder: Encoder, method: str, **options: Any) -> None:
        _check_trainable(encoder, method)
        self.base = encoder
        self.projector: Projector | None = None
        if method == "probe":
            self._make_probe(encoder)
        else:
            super().__init__(encoder.net, method, **options)
            self.encoder = encoder.with_network(self.net)

    def _make_probe(self, encoder: Encoder) -> None:
        projector = Projector(encoder.dim, encoder.dim)
        with torch.no_grad():
            projector.linear.weight.copy_(torch.eye(encoder.dim))
            projector.linear.bias.zero_()
        self.net, self.peft, self.projector = projector, None, projector
        self.encoder = self._projected(projector)
        self._set_parameters(dict(projector.named_parameters()))

    def _projected(self, projector: Any) -> Encoder:
        encoder: Encoder = family_module(BRIDGED).BridgedEncoder(self.base, projector)
        encoder.space_id = self.base.space_id
        return encoder

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        """Prepared items -> unit rows (n, dim) with gradients."""
        return F.normalize(self.encoder.forward(dict(batch)).float(), dim=1)

    def forward_vectors(self, rows: Tensor) -> Tensor:
        """For "probe": the base's unit rows (n, dim) -> unit rows (n, dim) with gradients."""
        assert self.projector is not None
        return F.normalize(self.projector(rows), dim=1)

    def merged(self) -> Encoder:
        """The encoder with the trained weights, without adapters or gradients."""
        net = self.merged_network()
        if self.projector is not None:
            return self._projected(net)
        return self.base.with_network(net) if self.peft is None else with_merged(self.base, net)


def _check_trainable(encoder: Encoder, method: str) -> None:
    if method not in METHODS:
        raise InvalidInput(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    if encoder.net is None and method != "probe":
        raise InvalidInput(
            f"{type(encoder).__name__} keeps no torch module in `net`: only method='probe' can train it"
        )
    if encoder.runtime.engine != "torch":
        raise InvalidInput(
            f"the {encoder.modality} encoder runs by {encoder.runtime.engine}; load it with engine='torch' to train it"
        )
    if encoder.runtime.precision != "float32":
        raise InvalidInput(
            f"the {encoder.modality} encoder has precision={encoder.runtime.precision!r}: load it with "
            "precision='float32' to train it, and give mixed_precision=True for speed"
        )
