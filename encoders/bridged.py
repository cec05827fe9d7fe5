"""Encoders made by `adapt.bridge`: an encoder of one space followed by a projector into another.

As in C-MCR (Wang et al. 2023, arXiv:2305.14381) and Ex-MCR (Zhang et al. 2024, arXiv:2310.08884), both models stay
unchanged and a small projector between their spaces is learned. Bridges have no names; they are saved as spaces and
loaded from their folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from multimodal.core.backends.runtime import Runtime
from multimodal.core.card import Card
from multimodal.core.encoder import Encoder, EncoderState
from multimodal.core.errors import SpaceMismatch, UnknownModel
from multimodal.core.items import Item

if TYPE_CHECKING:
    import torch

    from multimodal.core.projector import Projector

CARDS: tuple[Card, ...] = ()
INNER, PROJECTOR = "encoder.", "projector."


def load(rest: str = "", **options: object) -> NoReturn:
    """Always raises UnknownModel: bridges are loaded from the folder they were saved in."""
    name = f"bridged/{rest}" if rest else "bridged"
    raise UnknownModel(
        f"{name!r} is not a model: create a bridge of two spaces with multimodal.adapt.bridge(a, b, corpus=…, "
        "out='my-bridge') and load it from its folder, load('./my-bridge')"
    )


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """Rebuilds the inner encoder by its own family, and the projector from its weights."""
    from multimodal.core import serialization
    from multimodal.core.projector import Projector

    tensors: dict[str, dict[str, torch.Tensor]] = {INNER: {}, PROJECTOR: {}}
    for name, tensor in saved.tensors.items():
        prefix, dot, rest = name.partition(".")
        tensors[prefix + dot][rest] = tensor
    config = saved.config
    projector = Projector.from_saved(config["projector"], tensors[PROJECTOR])
    inner_state = EncoderState(saved.modality, config["encoder"]["config"], tensors[INNER], saved.files)
    inner = serialization.rebuild(config["encoder"]["family"], inner_state, runtime)
    return BridgedEncoder(inner, projector)


class BridgedEncoder(Encoder):
    """An encoder followed by a projector, with the inner encoder's device and precision; the projector runs in float32.

    Raises:
        SpaceMismatch: If the projector's input size is not that of the encoder's vectors.
    """

    def __init__(self, inner: Encoder, projector: Projector) -> None:
        if inner.dim != projector.into:
            raise SpaceMismatch(
                f"the projector takes vectors of {projector.into} dimensions, but {type(inner).__name__} "
                f"({inner.modality}) returns {inner.dim}; it was made for another encoder"
            )
        self.inner, self.projector = inner, projector
        self.modality, self.dim = inner.modality, projector.out
        self.runtime, self.net, self.max_input = inner.runtime, inner.net, inner.max_input
        self.precision_decision = inner.precision_decision

    @property
    def query_encoder(self) -> Encoder:
        """The inner encoder's query encoder with the same projector; this encoder if it has none of its own."""
        queries = self.inner.query_encoder
        return self if queries is self.inner else BridgedEncoder(queries, self.projector)

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        return self.inner.prepare(items)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        import torch

        vectors = torch.nn.functional.normalize(self.inner.forward(batch).float(), dim=-1)
        projected: torch.Tensor = self.projector.to(vectors.device)(vectors)
        return projected

    def with_network(self, net: Any) -> BridgedEncoder:
        """See `Encoder.with_network`: the inner encoder's network."""
        encoder = BridgedEncoder(self.inner.with_network(net), self.projector)
        encoder.space_id = self.space_id
        return encoder

    def config(self) -> dict[str, Any]:
        inner = {"family": self.inner.family, "config": self.inner.config()}
        return {"encoder": inner, "projector": self.projector.config()}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        own = {PROJECTOR + name: tensor for name, tensor in self.projector.state_dict().items()}
        return {INNER + name: tensor for name, tensor in self.inner.state_dict().items()} | own

    def files(self) -> Mapping[str, bytes]:
        return self.inner.files()
