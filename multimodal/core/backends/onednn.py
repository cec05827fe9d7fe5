"""float32 layers by oneDNN where that is faster than PyTorch's default, and bfloat16 attention on contiguous rows.

On x86 PyTorch computes float32 products with MKL, which reaches 116 GFLOP/s per core on an AMD CPU where oneDNN, also
part of PyTorch, reaches 253 (measured: Zen 5, 1600x768x3072). Both compute in float32 and differ in summation order:
unit vectors change by about 1e-7. Weights stay in place, so that a model keeps its state dict and its fingerprint.
Calls with gradients, on accelerators or in other dtypes use PyTorch's default. The exception is attention of a model
cast to bfloat16: PyTorch copies there for each item of a batch, which made a text tower ten times slower.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.core.backends.mixed_precision import attend, is_plain_attention

MIN_ROWS = 8  # with fewer rows MKL is as fast


class OneDnnLinear(nn.Linear):
    """nn.Linear by oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class OneDnnAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention with products by oneDNN or, in bfloat16, on contiguous rows.

    Calls that `is_plain_attention` refuses use PyTorch's implementation.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        plain = is_plain_attention(self, query, key_padding_mask, need_weights) and not self.training
        if plain and _is_bfloat16(query, self.in_proj_weight):
            mask = attn_mask
            if mask is not None and mask.is_floating_point():
                mask = mask.bfloat16()
            return attend(self, query, key, value, mask, _contiguous_linear), None
        if not plain or not _can_use_onednn(query, self.in_proj_weight):
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        return attend(self, query, key, value, attn_mask, linear), None


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear, by oneDNN for float32 on the CPU without gradients."""
    if not _can_use_onednn(input, weight):
        return F.linear(input, weight, bias)
    output: Tensor = torch.ops.mkldnn._linear_pointwise(input.contiguous(), weight, bias, "none", [], "")
    return output


def _contiguous_linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(input.contiguous(), weight, bias)


def _is_bfloat16(input: Tensor, weight: Tensor) -> bool:
    return (
        input.dtype is torch.bfloat16
        and weight.dtype is torch.bfloat16
        and input.device.type == "cpu"
        and not torch.is_grad_enabled()
    )


def _can_use_onednn(input: Tensor, weight: Tensor) -> bool:
    return (
        input.dtype is torch.float32
        and weight.dtype is torch.float32
        and input.device.type == "cpu"
        and input.numel() >= MIN_ROWS * weight.shape[1]
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


ONEDNN_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: OneDnnLinear,
    nn.MultiheadAttention: OneDnnAttention,
}


def use_onednn(nets: Iterable[nn.Module]) -> None:
    """Exchanges layers of models on the CPU for those of this module, in place.

    float32 layers are exchanged where `is_onednn_faster`, attention in bfloat16 on every CPU.
    """
    for net in nets:
        for module in net.modules():
            # A forward pre-hook may compute the weights before each call
            if type(module) in ONEDNN_CLASSES and not module._forward_pre_hooks and _is_faster(module):
                module.__class__ = ONEDNN_CLASSES[type(module)]


def _is_faster(module: nn.Module) -> bool:
    is_cast = isinstance(module, nn.MultiheadAttention) and module.out_proj.weight.dtype is torch.bfloat16
    return is_cast or is_onednn_faster()


@functools.cache
def is_onednn_faster() -> bool:
    """Whether this is an AMD CPU and PyTorch has oneDNN. Looked up, not timed, so that vectors are reproducible."""
    has_operator = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return has_operator and "AuthenticAMD" in _cpu()


def _cpu() -> str:
    """A description of the CPU that names its vendor."""
    path = Path("/proc/cpuinfo")
    return path.read_text(errors="replace")[:4096] if path.is_file() else platform.processor()
