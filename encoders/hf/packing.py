"""Pieces of different shapes in one batch of rectangular tensors, and out of it again in lots of one shape.

Nothing is computed on the zeros between: a model that sees them gives another vector (PE's audio encoder has
convolutions, which look past the end of a clip), and a mask does not always keep it from looking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SIZE = "size of "


def packed(pieces: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Inputs (1, …) of single pieces, by name -> (n, …) with zeros behind what is smaller, and the sizes of each, (n,
    dims) int64, under "size of <name>"."""
    import torch

    batch: dict[str, Tensor] = {}
    for name in pieces[0]:
        sizes = torch.tensor([piece[name].shape[1:] for piece in pieces], dtype=torch.int64)
        whole = pieces[0][name].new_zeros(len(pieces), *sizes.amax(0).tolist())
        for row, piece in zip(whole, pieces, strict=True):
            row[tuple(slice(n) for n in piece[name].shape[1:])] = piece[name][0]
        batch |= {name: whole, SIZE + name: sizes}
    return batch


def lots(batch: Mapping[str, Tensor], at_once: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Of a batch that `packed` made: rows of one shape, at most so many, and their inputs without the zeros."""
    import torch

    names = [name for name in batch if SIZE + name in batch]
    sizes = torch.cat([batch[SIZE + name] for name in names], dim=1)
    for one in sizes.unique(dim=0):
        for rows in (sizes == one).all(dim=1).nonzero()[:, 0].split(at_once):
            inputs = {}
            for name in names:
                own = tuple(slice(int(n)) for n in batch[SIZE + name][rows[0]])
                inputs[name] = batch[name][rows][(slice(None), *own)]
            yield rows, inputs
