"""What each encoder family exports: a module with named inputs, and the preprocessing that fills them.

`spec` returns a TowerSpec for an encoder. A family has a module in this package with `spec(encoder)`; encoders that
`core` wraps around others, as those of a bridged space, are not exported.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from multimodal.core.derived.truncation import TruncatedEncoder
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor, nn

TOKENIZER_FILE = "tokenizer.json"
FAMILIES = ("starter", "hf", "openclip", "st")


@dataclass(frozen=True)
class TowerSpec:
    """A tower to export.

    Attributes:
        net: Called with the inputs in order; returns rows (n, dim).
        inputs: Example inputs of two rows, by name. The first axis is the batch.
        dynamic: The further axes of an input that may have any length, by name.
        preprocessing: As `encoders.onnx.preprocessing` takes it.
        files: Files beside the model, by name.
        licences: Notices for the folder, as of a tokenizer.
        projection: The last linear layer, by name, if every item is one row: a truncated space then keeps the first
            rows of its weight. Where items are split into windows, each window counts by the length of its whole
            vector, so that vectors are computed whole and cut.
        is_unit: Whether the rows have length one. The vector of an item always has.
    """

    net: nn.Module
    inputs: Mapping[str, Tensor]
    dynamic: Mapping[str, tuple[int, ...]]
    preprocessing: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    projection: str | None = None
    is_unit: bool = True


def spec(encoder: Encoder) -> TowerSpec:
    """What to export of an encoder. Raises InvalidInput if it cannot be exported."""
    if isinstance(encoder, TruncatedEncoder):
        return _truncated(spec(encoder.inner), encoder.dim)
    family = encoder.family
    if family not in FAMILIES:
        raise InvalidInput(
            f"{type(encoder).__name__} (family {family!r}) cannot be exported; these families can: "
            f"{', '.join(FAMILIES)}"
        )
    found: TowerSpec = importlib.import_module(f"multimodal.exporting.towers_{family}").spec(encoder)
    return found


def _truncated(tower: TowerSpec, dims: int) -> TowerSpec:
    """A tower that returns only the first numbers of its vectors."""
    import torch
    from torch import nn

    class Truncated(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            rows: torch.Tensor = self.net(*inputs)[:, :dims]
            return rows

    if tower.projection is None:
        return replace(tower, net=Truncated(tower.net).eval(), is_unit=False)
    net = copy.deepcopy(tower.net)
    layer: Any = net.get_submodule(tower.projection)
    layer.weight, layer.bias = nn.Parameter(layer.weight[:dims]), nn.Parameter(layer.bias[:dims])
    layer.out_features = dims
    return replace(tower, net=net.requires_grad_(False))


def truncated_tokens(
    max_length: int,
    *,
    padding: str,
    pad_id: int,
    pad_left: bool,
    ids: str,
    mask: str | None = None,
    types: str | None = None,
) -> dict[str, Any]:
    """The settings of `encoders.onnx.preprocessing.Tokens` for a tokenizer that truncates."""
    return {
        "kind": "tokens", "tokenizer": TOKENIZER_FILE, "special": True, "max_length": max_length,
        "overflow": "truncate", "padding": padding, "pad_id": pad_id, "pad_left": pad_left,
        "ids": ids, "mask": mask, "types": types, "lengths": None,
    }  # fmt: skip
