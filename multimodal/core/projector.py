"""Projector: what brings the unit vectors of one space into another. Learned in `adapt/`, run in `encoders/bridged.py`.

Always a linear map; where asked for, one of two corrections besides. A network of two layers, which is all zeros where
training begins. Or a memory of the same things in both spaces: for each, what the linear map leaves over, and a vector
gets the mean of what is left over by those it lies near. It follows any shape, where it has something to remember.
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
    """Rows (n, into) of length one -> rows (n, out) of any length.

    hidden: the width of the network, 0 for none. remembered: how many things are in the memory, 0 for none; it is
    `here` (m, into), what is left over `there` (m, out), and `sharpness`, the factor of the cosines in the softmax.
    `shift` is added before the linear map and the network, and the sum scaled to length one again: it carries the
    vectors of one modality to where the modality lies that they were learned on. The memory is asked without it, since
    which text a sound is near is what its space was trained to tell.
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
        found: Tensor = self.linear(moved)
        if self.hidden:
            found = found + self.narrow(F.gelu(self.wide(moved)))
        if self.remembered:
            found = found + torch.softmax(self.sharpness * (rows @ self.here.T), dim=-1) @ self.there
        return found

    def unshifted(self) -> Self:
        """The same for the modality that it was learned on."""
        other = copy.deepcopy(self)
        other.shift.zero_()
        return other

    def config(self) -> dict[str, Any]:
        """JSON values from which `from_saved` makes a projector of the same shape."""
        return {"into": self.into, "out": self.out, "hidden": self.hidden, "remembered": self.remembered}

    @classmethod
    def from_saved(cls, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The projector with these weights. Raises CorruptSpace naming the first that is missing or does not fit."""
        made = cls(config["into"], config["out"], config["hidden"], config["remembered"])
        wanted = made.state_dict()
        for name, own in wanted.items():
            if name not in tensors or tensors[name].shape != own.shape:
                found = f"has shape {tuple(tensors[name].shape)}" if name in tensors else "is missing"
                raise CorruptSpace(
                    f"the bridge's weight {name!r} {found} where {tuple(own.shape)} is due; make the bridge again"
                )
        made.load_state_dict({name: tensors[name].float() for name in wanted})
        return made.eval().requires_grad_(False)
