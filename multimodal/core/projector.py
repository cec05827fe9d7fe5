"""Projector: maps the unit vectors of one space into another. Fitted in `adapt`, applied by `encoders/bridged.py`.

It is a linear map with one of two optional corrections. The first is a two-layer network whose output is zero when
training begins. The second is a kernel regression on residuals: it keeps vectors of the same items in both spaces, and
adds the residuals of the linear map, averaged with softmax weights over the nearest kept vectors. The kernel fits any
shape if it has enough items to keep.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.core.errors import CorruptSpace


class Projector(nn.Module):
    """Rows (n, into) of length one to rows (n, out) of any length.

    Args:
        into: The length of the source vectors.
        out: The length of the target vectors.
        hidden: The width of the network; 0 for none.
        remembered: The number of items m that the kernel keeps; 0 for none. Their source vectors are `here` (m, into),
            the residuals of the linear map `there` (m, out), and `sharpness` is the factor of the cosines in the
            softmax.

    `shift` is added before the linear map and the network, and the sum is scaled to length one again. It moves the
    vectors of one modality to the region of the modality that the projector was fitted on. The kernel uses unshifted
    vectors, because their neighbourhoods are what the source space was trained on.
    """

    shift: Tensor
    here: Tensor
    there: Tensor
    sharpness: Tensor

    def __init__(self, into: int, out: int, hidden: int = 0, remembered: int = 0) -> None:
        super().__init__()
        self.into, self.out, self.hidden, self.remembered = into, out, hidden, remembered
        self.register_buffer("shift", torch.zeros(into))
        self.linear = nn.Linear(into, out)
        if hidden:
            self.wide, self.narrow = nn.Linear(into, hidden), nn.Linear(hidden, out)
            nn.init.zeros_(self.narrow.weight)
            nn.init.zeros_(self.narrow.bias)
        if remembered:
            self.register_buffer("here", torch.zeros(remembered, into))
            self.register_buffer("there", torch.zeros(remembered, out))
            self.register_buffer("sharpness", torch.ones(()))

    def forward(self, rows: Tensor) -> Tensor:
        moved = F.normalize(rows + self.shift, dim=-1)
        projected: Tensor = self.linear(moved)
        if self.hidden:
            projected = projected + self.narrow(F.gelu(self.wide(moved)))
        if self.remembered:
            projected = projected + torch.softmax(self.sharpness * (rows @ self.here.T), dim=-1) @ self.there
        return projected

    def unshifted(self) -> Self:
        """The same projector for the modality that it was fitted on."""
        other = copy.deepcopy(self)
        other.shift.zero_()
        return other

    def config(self) -> dict[str, Any]:
        """JSON values from which `from_saved` builds a projector of the same shape."""
        return {"into": self.into, "out": self.out, "hidden": self.hidden, "remembered": self.remembered}

    @classmethod
    def from_saved(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The projector with these weights. Raises CorruptSpace naming the first that is missing or does not fit."""
        made = cls(config["into"], config["out"], config["hidden"], config["remembered"])
        wanted = made.state_dict()
        for name, own in wanted.items():
            if name not in tensors or tensors[name].shape != own.shape:
                problem = f"has shape {tuple(tensors[name].shape)}" if name in tensors else "is missing"
                raise CorruptSpace(
                    f"the bridge's weight {name!r} {problem}, expected shape {tuple(own.shape)}; fit the bridge again"
                )
        made.load_state_dict({name: tensors[name].float() for name in wanted})
        return made.eval().requires_grad_(False)
