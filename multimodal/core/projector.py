"""Projector: what brings the unit vectors of one space into another. Learned in `adapt/`, run in `encoders/bridged.py`.

It is a linear map and, where `hidden` is above 0, a correction by two layers on top of it. A correction that is all
zeros leaves the linear map: that is where training begins, so a learned bridge starts as good as a solved one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.core.errors import CorruptSpace


class Projector(nn.Module):
    """Rows (n, into) of length one -> rows (n, out) of any length.

    `shift` is added first, and the sum scaled to length one again: it carries the vectors of one modality to where the
    modality lies that the map was learned on.
    """

    shift: Tensor

    def __init__(self, into: int, out: int, hidden: int = 0) -> None:
        super().__init__()
        self.into, self.out, self.hidden = into, out, hidden
        self.register_buffer("shift", torch.zeros(into))
        self.linear = nn.Linear(into, out)
        if hidden:
            self.wide, self.narrow = nn.Linear(into, hidden), nn.Linear(hidden, out)
            nn.init.zeros_(self.narrow.weight)
            nn.init.zeros_(self.narrow.bias)

    def forward(self, rows: Tensor) -> Tensor:
        rows = F.normalize(rows + self.shift, dim=-1)
        mapped: Tensor = self.linear(rows)
        return mapped + self.narrow(F.gelu(self.wide(rows))) if self.hidden else mapped

    def config(self) -> dict[str, Any]:
        """JSON values from which `from_saved` makes a projector of the same shape."""
        return {"into": self.into, "out": self.out, "hidden": self.hidden}

    @classmethod
    def from_saved(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The projector with these weights. Raises CorruptSpace naming the first that is missing or does not fit."""
        made = cls(config["into"], config["out"], config["hidden"])
        wanted = made.state_dict()
        for name, own in wanted.items():
            if name not in tensors or tensors[name].shape != own.shape:
                found = f"has shape {tuple(tensors[name].shape)}" if name in tensors else "is missing"
                raise CorruptSpace(
                    f"the bridge's weight {name!r} {found} where {tuple(own.shape)} is due; make the bridge again"
                )
        made.load_state_dict({name: tensors[name].float() for name in wanted})
        return made.eval().requires_grad_(False)
