"""Packs segments of different shapes into rectangular tensors, and unpacks them into batches of one shape.

Models never see the padding: it changes the vectors of some (PE's audio convolutions reach past the end of a clip),
and a mask does not always prevent that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SIZE = "size of "


def pack(segments: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stacks the inputs (1, …) of segments.

    Returns:
        By name, the inputs (n, …), zero-padded at the end of each dimension; under "size of <name>", the size of each
        segment (n, dims) int64.
    """
    import torch

    batch: dict[str, Tensor] = {}
    for name in segments[0]:
        sizes = torch.tensor([segment[name].shape[1:] for segment in segments], dtype=torch.int64)
        stacked = segments[0][name].new_zeros(len(segments), *sizes.amax(0).tolist())
        for row, segment in zip(stacked, segments, strict=True):
            row[tuple(slice(n) for n in segment[name].shape[1:])] = segment[name][0]
        batch |= {name: stacked, SIZE + name: sizes}
    return batch


def uniform_batches(batch: Mapping[str, Tensor], max_rows: int) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Unpacks what `pack` returned: (row numbers (n,), inputs (n, …) without padding), n at most `max_rows`."""
    import torch

    names = [name for name in batch if SIZE + name in batch]
    sizes = torch.cat([batch[SIZE + name] for name in names], dim=1)
    for size in sizes.unique(dim=0):
        for rows in (sizes == size).all(dim=1).nonzero()[:, 0].split(max_rows):
            inputs = {}
            for name in names:
                own = tuple(slice(int(n)) for n in batch[SIZE + name][rows[0]])
                inputs[name] = batch[name][rows][(slice(None), *own)]
            yield rows, inputs
