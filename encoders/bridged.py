"""An encoder of one space with a projector behind it, so that its vectors lie in another: what `adapt.bridge` makes.

After C-MCR (Wang et al. 2023, arXiv:2305.14381) and Ex-MCR (Zhang et al. 2024, arXiv:2310.08884), which leave both
models as they are and learn a small projector between their spaces. A bridge has no name of its own: it is saved as a
space, and its folder is what `load` takes.
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
    """Raises UnknownModel: bridges are made, and loaded from where they were saved."""
    name = f"bridged/{rest}" if rest else "bridged"
    raise UnknownModel(
        f"{name!r} is no model: a bridge is made from two spaces with multimodal.adapt.bridge(a, b, corpus=…, "
        "out='my-bridge') and loaded by its folder, load('./my-bridge')"
    )


def from_config(saved: EncoderState, runtime: Runtime) -> Encoder:
    """The encoder inside is rebuilt by its own family, the projector beside it from its weights."""
    from multimodal.core import serialization
    from multimodal.core.projector import Projector

    parts: dict[str, dict[str, torch.Tensor]] = {INNER: {}, PROJECTOR: {}}
    for name, tensor in saved.tensors.items():
        prefix, dot, rest = name.partition(".")
        parts[prefix + dot][rest] = tensor
    config = saved.config
    projector = Projector.from_saved(config["projector"], parts[PROJECTOR])
    within = EncoderState(saved.modality, config["encoder"]["config"], parts[INNER], saved.files)
    inner = serialization.rebuild(config["encoder"]["family"], within, runtime)
    return BridgedEncoder(inner, projector)


class BridgedEncoder(Encoder):
    """Another encoder's vectors, projected. Runs where, and as, that encoder runs; the projector in float32.

    Raises SpaceMismatch if the projector takes vectors of another size.
    """

    def __init__(self, inner: Encoder, projector: Projector) -> None:
        if inner.dim != projector.into:
            raise SpaceMismatch(
                f"the projector takes vectors of {projector.into} numbers, and {type(inner).__name__} "
                f"({inner.modality}) gives {inner.dim}; it was made for another encoder"
            )
        self.inner, self.projector = inner, projector
        self.modality, self.dim = inner.modality, projector.out
        self.runtime, self.net, self.max_input = inner.runtime, inner.net, inner.max_input
        self.precision_decision = inner.precision_decision

    @property
    def query_encoder(self) -> Encoder:
        """What searches, where the encoder inside tells it from what is found: projected as that is."""
        asking = self.inner.query_encoder
        return self if asking is self.inner else BridgedEncoder(asking, self.projector)

    def prepare(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        return self.inner.prepare(items)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        import torch

        vectors = torch.nn.functional.normalize(self.inner.forward(batch).float(), dim=-1)
        projected: torch.Tensor = self.projector.to(vectors.device)(vectors)
        return projected

    def config(self) -> dict[str, Any]:
        inside = {"family": self.inner.family, "config": self.inner.config()}
        return {"encoder": inside, "projector": self.projector.config()}

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        own = {PROJECTOR + name: tensor for name, tensor in self.projector.state_dict().items()}
        return {INNER + name: tensor for name, tensor in self.inner.state_dict().items()} | own

    def files(self) -> Mapping[str, bytes]:
        return self.inner.files()
