"""Multi-head attention with the matrix products of a given library, for batches and for sequences without padding.

PyTorch's own implementation projects a transposed view of a batch. F.linear of a view that is not contiguous becomes
one product per item, for which it copies the weights: a text tower spent 62 % of its time there in bfloat16, 32 % in
float32 (measured per operator on an Intel CPU with AMX). Here every product is one of contiguous rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class RowAttention(nn.MultiheadAttention):
    """Base class of exchanged attention layers: `project` computes the matrix products.

    `attend_causal` and `attend_from_last` take sequences of different lengths as rows one after another, so that no
    product is computed for padding.
    """

    def project(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The product of `F.linear`, in the dtype of the weight."""
        raise NotImplementedError

    def attend_causal(self, rows: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
        """Causal self-attention within each sequence.

        Args:
            rows: (sum of n * length, width), sequences one after another.
            spans: (n, length) of neighbouring sequences of one length, in the order of `rows`.

        Returns:
            As many rows, in the dtype of `rows`.
        """
        projected = self.project(rows, self.in_proj_weight, self._parameters["in_proj_bias"])
        mixed = []
        for part, (n, length) in zip(
            projected.split([n * length for n, length in spans]), spans, strict=True
        ):
            q, k, v = part.view(n, length, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
            output = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            mixed.append(output.transpose(1, 2).reshape(n * length, self.embed_dim))
        return self._output(torch.cat(mixed), rows.dtype)

    def attend_from_last(self, rows: Tensor, spans: Sequence[tuple[int, int]]) -> Tensor:
        """`attend_causal` for the last row of each sequence alone.

        Args:
            rows: As for `attend_causal`.
            spans: As for `attend_causal`.

        Returns:
            (number of sequences, width), in the dtype of `rows`.
        """
        width, bias = self.embed_dim, self._parameters["in_proj_bias"]
        q_bias, kv_bias = (None, None) if bias is None else (bias[:width], bias[width:])
        sizes = [n * length for n, length in spans]
        last = torch.cat(
            [part[length - 1 :: length] for part, (_, length) in zip(rows.split(sizes), spans, strict=True)]
        )
        queries = self.project(last, self.in_proj_weight[:width], q_bias)
        projected = self.project(rows, self.in_proj_weight[width:], kv_bias)
        mixed = []
        for q, part, (n, length) in zip(
            queries.split([n for n, _ in spans]), projected.split(sizes), spans, strict=True
        ):
            k, v = part.view(n, length, 2, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
            output = F.scaled_dot_product_attention(q.view(n, self.num_heads, 1, self.head_dim), k, v)
            mixed.append(output.reshape(n, width))
        return self._output(torch.cat(mixed), rows.dtype)

    def _output(self, mixed: Tensor, dtype: torch.dtype) -> Tensor:
        return self.project(mixed, self.out_proj.weight, self.out_proj.bias).to(dtype)


def attend(
    attention: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    linear: Linear,
) -> Tensor:
    """Multi-head attention with the projections computed by `linear`.

    Args:
        attention: the layer that holds the weights.
        query, key, value: (n, t, width) if `attention.batch_first`, else (t, n, width).
        mask: boolean (True hides a position) or additive, (t, t) or (n * heads, t, t).
        linear: called as linear(input, weight, bias), with a contiguous input.

    Returns:
        The output of `attention` for a call that `is_plain_attention` accepts, in the layout of `query`.
    """
    weight, bias = attention.in_proj_weight, attention._parameters["in_proj_bias"]
    if query is key and key is value:
        projected = linear(_rows_first(attention, query), weight, bias).chunk(3, dim=2)
    else:
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        projected = tuple(
            linear(_rows_first(attention, tensor), own_weight, own_bias)
            for tensor, own_weight, own_bias in zip((query, key, value), weight.chunk(3), biases, strict=True)
        )
    heads = (attention.num_heads, attention.head_dim)
    q, k, v = (tensor.unflatten(2, heads).transpose(1, 2) for tensor in projected)
    if mask is not None and mask.dtype is torch.bool:
        mask = ~mask  # scaled_dot_product_attention reads True as visible
    if mask is not None and mask.dim() == 3:
        mask = mask.unflatten(0, (len(q), attention.num_heads))
    mixed = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
    mixed = linear(mixed, attention.out_proj.weight, attention.out_proj.bias)
    return mixed if attention.batch_first else mixed.transpose(0, 1)


def is_plain_attention(
    attention: nn.MultiheadAttention, query: Tensor, padding: Tensor | None, need_weights: bool
) -> bool:
    """Whether `attend` implements everything that this call of `attention` needs."""
    special = attention.bias_k is not None or attention.add_zero_attn or not attention._qkv_same_embed_dim
    return not (special or need_weights or padding is not None or query.dim() != 3)


def _rows_first(attention: nn.MultiheadAttention, tensor: Tensor) -> Tensor:
    return (tensor if attention.batch_first else tensor.transpose(0, 1)).contiguous()
