"""float32 layers by oneDNN where that is faster than MKL, and attention on contiguous rows everywhere.

On x86 PyTorch computes float32 products with MKL. On an AMD CPU it reaches 116 GFLOP/s per core where oneDNN, also part
of PyTorch, reaches 253 (measured: Zen 5, 1600x768x3072); on an Intel CPU 150 where oneDNN reaches 121 to 150. A trial
of some milliseconds decides. Both compute in float32 and differ in summation order: unit vectors change by about 1e-7.
Weights stay in place, so that a model keeps its state dict and its fingerprint. Calls with gradients, on accelerators
or in other dtypes use PyTorch's default. Attention is exchanged whatever the trial says, in float32 and in bfloat16:
see `attention`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.core.backends.attention import RowAttention, attend, is_plain_attention

MIN_ROWS = 8  # with fewer rows MKL is as fast
TRIAL_SHAPE = (128, 512, 1024)  # rows, inputs, outputs: 1 to 2 ms on a core
TRIAL_ROUNDS = 5
# What oneDNN must gain in the trial. On the CPUs measured it gains 2 or nothing, so that the same machine decides the
# same way at every start and its vectors are reproducible.
MIN_GAIN = 1.25


class OneDnnLinear(nn.Linear):
    """nn.Linear by oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class OneDnnAttention(RowAttention):
    """nn.MultiheadAttention on contiguous rows, in float32 by the faster library, in bfloat16 by oneDNN.

    Calls that `is_plain_attention` refuses use PyTorch's implementation.
    """

    def project(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return linear(input, weight, bias)

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
        if not plain or not _can_exchange(query, self.in_proj_weight):
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        mask = attn_mask
        if mask is not None and mask.is_floating_point():
            mask = mask.to(query.dtype)
        return attend(self, query, key, value, mask, self.project), None


def linear(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.linear, by oneDNN for float32 on the CPU without gradients where that is faster."""
    if not _can_use_onednn(input, weight):
        return F.linear(input, weight, bias)
    output: Tensor = torch.ops.mkldnn._linear_pointwise(input.contiguous(), weight, bias, "none", [], "")
    return output


def _can_exchange(input: Tensor, weight: Tensor) -> bool:
    return (
        input.dtype in (torch.float32, torch.bfloat16)
        and weight.dtype is input.dtype
        and input.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _can_use_onednn(input: Tensor, weight: Tensor) -> bool:
    return (
        input.dtype is torch.float32
        and _can_exchange(input, weight)
        and input.numel() >= MIN_ROWS * weight.shape[1]
        and is_onednn_faster()
    )


ONEDNN_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: OneDnnLinear,
    nn.MultiheadAttention: OneDnnAttention,
}


def use_onednn(nets: Iterable[nn.Module]) -> None:
    """Exchanges layers of models on the CPU for those of this module, in place.

    Linear layers are exchanged where `is_onednn_faster`, attention in float32 or bfloat16 on every CPU.
    """
    for net in nets:
        for module in net.modules():
            # A forward pre-hook may compute the weights before each call
            if type(module) in ONEDNN_CLASSES and not module._forward_pre_hooks and _is_faster(module):
                module.__class__ = ONEDNN_CLASSES[type(module)]


def _is_faster(module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return module._qkv_same_embed_dim
    return is_onednn_faster()


@functools.cache
def is_onednn_faster() -> bool:
    """Whether a trial product in float32 is faster by oneDNN than by PyTorch's default, by MIN_GAIN."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return False
    rows, n_inputs, n_outputs = TRIAL_SHAPE
    input, weight = torch.ones(rows, n_inputs), torch.ones(n_outputs, n_inputs)
    with torch.inference_mode():
        default = _seconds(lambda: F.linear(input, weight))
        onednn = _seconds(lambda: torch.ops.mkldnn._linear_pointwise(input, weight, None, "none", [], ""))
    return default >= MIN_GAIN * onednn


def _seconds(run: Callable[[], Tensor]) -> float:
    """The shortest of some runs: other work on the machine only makes a run longer."""
    run()
    times = []
    for _ in range(TRIAL_ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
