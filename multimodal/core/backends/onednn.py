"""float32 layers by oneDNN, where PyTorch's own choice is slow.

On x86 PyTorch gives float32 products to MKL, which on AMD's CPUs reached 116 GFLOP/s of a core, and oneDNN, which
PyTorch brings too, 253 (measured: Zen 5, 1600x768x3072). Both are float32 throughout and differ in the order of their
sums: vectors of length one change by some 1e-7. Weights stay where they are, so that a model keeps its state and its
fingerprint; what is computed with gradients, on an accelerator or in another type goes PyTorch's way. But for attention
of a model cast to bfloat16, where PyTorch copies for each item of a batch: a text tower took ten times as long by it.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.core.backends.mixed_precision import attend, is_usual

FEWEST = 8  # rows below which MKL is as fast


class OneDnnLinear(nn.Linear):
    """nn.Linear by oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class OneDnnAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention whose products are oneDNN's, or in bfloat16 those of contiguous rows; what transformers
    seldom ask of it goes PyTorch's way."""

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
        usual = is_usual(self, query, key_padding_mask, need_weights) and not self.training
        if usual and _is_bfloat16(query, self.in_proj_weight):
            mask = None if attn_mask is None or not attn_mask.is_floating_point() else attn_mask.bfloat16()
            return attend(self, query, key, value, attn_mask if mask is None else mask, _of_rows), None
        if not usual or not _is_for_onednn(query, self.in_proj_weight):
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        return attend(self, query, key, value, attn_mask, linear), None


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear, by oneDNN where that is meant."""
    if not _is_for_onednn(input, weight):
        return F.linear(input, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(input.contiguous(), weight, bias, "none", [], "")
    return found


def _of_rows(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.linear(input.contiguous(), weight, bias)


def _is_bfloat16(input: Tensor, weight: Tensor) -> bool:
    return (
        input.dtype is torch.bfloat16
        and weight.dtype is torch.bfloat16
        and input.device.type == "cpu"
        and not torch.is_grad_enabled()
    )


def _is_for_onednn(input: Tensor, weight: Tensor) -> bool:
    return (
        input.dtype is torch.float32
        and weight.dtype is torch.float32
        and input.device.type == "cpu"
        and input.numel() >= FEWEST * weight.shape[1]
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


FAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: OneDnnLinear,
    nn.MultiheadAttention: OneDnnAttention,
}


def hasten(nets: Iterable[nn.Module]) -> None:
    """Exchanges layers of models on this CPU, in place: those of float32 if it is one where oneDNN is the faster, and
    attention in bfloat16."""
    for net in nets:
        for module in net.modules():
            # hooks may compute weights before a call
            if type(module) in FAST and not module._forward_pre_hooks and _is_slow(module):
                module.__class__ = FAST[type(module)]


def _is_slow(module: nn.Module) -> bool:
    cast = isinstance(module, nn.MultiheadAttention) and module.out_proj.weight.dtype is torch.bfloat16
    return cast or is_onednn_faster()


@functools.cache
def is_onednn_faster() -> bool:
    """Whether this is a CPU by AMD and PyTorch has oneDNN. Looked up, not timed: the same vectors each day."""
    known = hasattr(torch.ops.mkldnn, "_linear_pointwise") if torch.backends.mkldnn.is_available() else False
    return known and "AuthenticAMD" in _cpu()


def _cpu() -> str:
    """Who made the CPU, as the system tells it."""
    told = Path("/proc/cpuinfo")
    return told.read_text(errors="replace")[:4096] if told.is_file() else platform.processor()
