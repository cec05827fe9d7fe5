"""Losses on vectors (n, dim) of length one, whose rows match by position.

Each takes `positives`, a boolean matrix (n, m) that marks every pair that belongs together: two captions of one image,
or all images of a class, are no negatives of each other. Columns from n on are hard negatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.core.errors import InvalidInput

Loss = Literal["clip", "siglip"]
LossFunction = Callable[[Tensor, Tensor, Tensor], Tensor]  # (a (n, dim), b (m, dim), positives (n, m)) -> ()


def clip_loss(a: Tensor, b: Tensor, positives: Tensor, *, scale: float) -> Tensor:
    """Cross-entropy in both directions (Radford et al. 2021). Several positives share the target evenly.

    Args:
        a: Unit rows (n, dim).
        b: Unit rows (m, dim), m >= n: the partners of `a`, then hard negatives.
        positives: Boolean (n, m).
        scale: Factor of the cosines.

    Returns:
        The mean of both directions (). Hard negatives are candidates of `a` alone.
    """
    logits = scale * (a @ b.T)
    n = len(a)
    forward = _soft_cross_entropy(logits, positives)
    backward = _soft_cross_entropy(logits[:, :n].T, positives[:, :n].T)
    return (forward + backward) / 2


def _soft_cross_entropy(logits: Tensor, positives: Tensor) -> Tensor:
    target = positives.to(logits.dtype)
    target = target / target.sum(dim=1, keepdim=True)
    return -(target * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


def siglip_loss(a: Tensor, b: Tensor, positives: Tensor, *, scale: float, bias: float) -> Tensor:
    """Each pair independently: -log sigmoid(±(scale * cosine + bias)), summed per row (Zhai et al. 2023).

    Args:
        a: Unit rows (n, dim).
        b: Unit rows (m, dim), m >= n.
        positives: Boolean (n, m).
        scale: Factor of the cosines.
        bias: Added to the scaled cosines.

    Returns:
        The sum over columns, averaged over rows ().
    """
    signs = 2.0 * positives.to(a.dtype) - 1.0
    return -F.logsigmoid(signs * (scale * (a @ b.T) + bias)).sum(dim=1).mean()


def matryoshka(loss: LossFunction, dims: Sequence[int]) -> LossFunction:
    """The mean of a loss over prefixes of the vectors (Kusupati et al. 2022), so that these can be truncated.

    Args:
        loss: A loss on unit rows.
        dims: Lengths of the prefixes, each scaled to length one again.

    Returns:
        The combined loss.
    """

    def combined(a: Tensor, b: Tensor, positives: Tensor) -> Tensor:
        parts = [
            loss(F.normalize(a[:, :dim], dim=1), F.normalize(b[:, :dim], dim=1), positives) for dim in dims
        ]
        return torch.stack(parts).mean()

    return combined


def pull(rows: Tensor, anchors: Tensor) -> Tensor:
    """Mean of 1 - cosine between unit rows (n, dim) and the vectors they had before training (n, dim)."""
    return (1.0 - (rows * anchors).sum(dim=1)).mean()


def make_loss(
    kind: str, scale: float, bias: float, dims: Sequence[int] | None, full_dim: int
) -> LossFunction:
    """The loss of a name.

    Args:
        kind: "clip" or "siglip".
        scale: Factor of the cosines.
        bias: For "siglip".
        dims: Prefixes for Matryoshka; None for none. The full length is added.
        full_dim: The length of the vectors.

    Raises:
        InvalidInput: For an unknown name or a prefix that is too long.
    """
    if kind == "clip":

        def loss(a: Tensor, b: Tensor, positives: Tensor) -> Tensor:
            return clip_loss(a, b, positives, scale=scale)

    elif kind == "siglip":

        def loss(a: Tensor, b: Tensor, positives: Tensor) -> Tensor:
            return siglip_loss(a, b, positives, scale=scale, bias=bias)

    else:
        raise InvalidInput(f"loss must be 'clip', 'siglip' or 'auto', got {kind!r}")
    if dims is None:
        return loss
    wrong = [dim for dim in dims if not 0 < dim <= full_dim]
    if wrong:
        raise InvalidInput(f"matryoshka needs prefixes of 1 to {full_dim} dimensions, got {wrong}")
    return matryoshka(loss, sorted({*dims, full_dim}))
