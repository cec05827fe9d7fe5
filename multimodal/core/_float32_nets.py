"""float32 layers by oneDNN, where PyTorch's own choice is slow.

On x86 PyTorch gives float32 products to MKL, which on AMD's CPUs reached 116 GFLOP/s of a core, and oneDNN, which
PyTorch brings too, 253 (measured: Zen 5, 1600x768x3072). Both are float32 throughout and differ in the order of their
sums: vectors of length one change by some 1e-7. Weights stay where they are, so that a model keeps its state and its
fingerprint; what is computed with gradients, on an accelerator or in another type goes PyTorch's way.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.core._precision_nets import attend, is_usual

FEWEST = 8  # rows below which MKL is as fast


class OneDnnLinear(nn.Linear):
    """nn.Linear by oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class OneDnnAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention whose products are oneDNN's; what transformers seldom ask of it goes PyTorch's way."""

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
    """Exchanges the float32 layers of models on this CPU, in place, if it is one where oneDNN is the faster."""
    if not is_onednn_faster():
        return
    for net in nets:
        for module in net.modules():
            if (
                type(module) in FAST and not module._forward_pre_hooks
            ):  # which may compute weights before a call
                module.__class__ = FAST[type(module)]


@functools.cache
def is_onednn_faster() -> bool:
    """Whether this is a CPU by AMD and PyTorch has oneDNN. Looked up, not timed: the same vectors each day."""
    known = hasattr(torch.ops.mkldnn, "_linear_pointwise") if torch.backends.mkldnn.is_available() else False
    return known and "AuthenticAMD" in _cpu()


def _cpu() -> str:
    """Who made the CPU, as the system tells it."""
    told = Path("/proc/cpuinfo")
    return told.read_text(errors="replace")[:4096] if told.is_file() else platform.processor()
