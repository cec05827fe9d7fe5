"""Layers with bfloat16 weights and float32 inputs and outputs, and the exchange of a model's layers for them.

Only the large matrix products run in bfloat16. The residual stream, norms and softmax stay in float32: bfloat16 has 8
significant bits, and rounding the residual stream at every layer is what changes vectors when a whole model is cast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from multimodal.core.backends.attention import RowAttention, attend, is_plain_attention

Parameters = dict[str, nn.Parameter | None]


class Bf16Linear(nn.Linear):
    """nn.Linear computed in bfloat16 (accumulated in float32), with a float32 output."""

    # open_clip reads this attribute of layers whose weights have another dtype than the activations
    int8_original_dtype = torch.float32

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.bfloat16(), self.weight, self.bias).float()


class Bf16WideLinear(Bf16Linear):
    """Bf16Linear with a bfloat16 output.

    For outputs that pass through an activation or attention into the next product, which rounds them anyway. Converting
    this activation, the largest of a transformer, to float32 costs a ViT-L/14 a quarter of its speed (measured).
    """

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.bfloat16(), self.weight, self.bias)


class Bf16Conv1d(nn.Conv1d):
    """nn.Conv1d computed in bfloat16, with a float32 output."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input.bfloat16(), self.weight, self.bias).float()


class Bf16Conv2d(nn.Conv2d):
    """nn.Conv2d computed in bfloat16, with a float32 output."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input.bfloat16(), self.weight, self.bias).float()


class Bf16Conv3d(nn.Conv3d):
    """nn.Conv3d computed in bfloat16, with a float32 output."""

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input.bfloat16(), self.weight, self.bias).float()


class Bf16Attention(RowAttention):
    """nn.MultiheadAttention computed in bfloat16, with a float32 output.

    The usual call is written out in `attention.attend`: PyTorch's own implementation multiplies transposed views,
    which in bfloat16 on a CPU is slower than float32.
    """

    def project(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(input.bfloat16(), weight, bias)

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
        rounded: dict[int, Tensor] = {}  # self-attention passes one tensor three times: round it once
        q, k, v = (rounded.setdefault(id(tensor), tensor.bfloat16()) for tensor in (query, key, value))
        padding, mask = (_rounded_mask(given) for given in (key_padding_mask, attn_mask))
        if not is_plain_attention(self, query, padding, need_weights):
            mixed, weights = super().forward(
                q, k, v, padding, need_weights, mask, average_attn_weights, is_causal
            )
            return mixed.float(), weights
        return attend(self, q, k, v, mask, self.project).float(), None


def _rounded_mask(mask: Tensor | None) -> Tensor | None:
    return mask.bfloat16() if mask is not None and mask.is_floating_point() else mask


BF16_CLASSES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Bf16Linear,
    nn.Conv1d: Bf16Conv1d,
    nn.Conv2d: Bf16Conv2d,
    nn.Conv3d: Bf16Conv3d,
    nn.MultiheadAttention: Bf16Attention,
}


@dataclass
class ExchangedLayers:
    """Layers that were exchanged, each with its former class and parameters."""

    layers: list[tuple[nn.Module, type[nn.Module], Parameters]]

    def restore(self) -> None:
        """Gives every layer its former class and parameters back."""
        for module, former_class, parameters in self.layers:
            module.__class__ = former_class
            module._parameters.update(parameters)


@contextlib.contextmanager
def record_called_layers(nets: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Collects the exchangeable layers that are called inside the `with` block.

    Some models read the weights of a layer without calling it (EVA, the attention pooling of OpenAI's ResNets); such a
    layer must stay as it is. The list is filled when the block ends.
    """
    called: dict[nn.Module, None] = {}
    layers = {
        module: None
        for net in nets
        for module in net.modules()
        if type(module) in BF16_CLASSES and _owns_float32(module)
    }
    hooks = [layer.register_forward_hook(lambda module, *_: called.setdefault(module)) for layer in layers]
    result: list[nn.Module] = []
    try:
        yield result
    finally:
        for hook in hooks:
            hook.remove()
        result += called


def exchange_layers(layers: Iterable[nn.Module], *, wide: float) -> ExchangedLayers:
    """Gives layers that `record_called_layers` collected bfloat16 weights and a class of this module, in place.

    Args:
        layers: the layers to exchange.
        wide: a linear layer with at least `wide` times as many outputs as inputs becomes a Bf16WideLinear.

    Returns:
        What undoes the exchange. Parameters are replaced, not changed, since another layer may share them (tied
        weights).
    """
    exchanged: list[tuple[nn.Module, type[nn.Module], Parameters]] = []
    for module in layers:
        former_class = type(module)
        # The output layer of an attention is a submodule of it that is never called itself
        for holder in module.modules():
            exchanged.append((holder, type(holder), dict(holder._parameters)))
            for name, parameter in holder._parameters.items():
                if parameter is not None:
                    rounded = nn.Parameter(parameter.detach().bfloat16(), requires_grad=False)
                    holder._parameters[name] = rounded
        widens = isinstance(module, nn.Linear) and module.out_features >= wide * module.in_features
        module.__class__ = Bf16WideLinear if widens else BF16_CLASSES[former_class]
    return ExchangedLayers(exchanged)


def is_batch_normed(net: nn.Module) -> bool:
    """Whether most norms of a model are BatchNorm, as in ResNets and FastViTs."""
    n_batch_norms = sum(isinstance(module, _BatchNorm) for module in net.modules())
    return n_batch_norms > sum(isinstance(module, nn.LayerNorm | nn.RMSNorm) for module in net.modules())


def _owns_float32(module: nn.Module) -> bool:
    """Whether the weights are float32 and not computed from other tensors before each call."""
    own = [
        parameter
        for holder in module.modules()
        for parameter in holder._parameters.values()
        if parameter is not None
    ]
    return (
        bool(own)
        and all(parameter.dtype is torch.float32 for parameter in own)
        and not module._forward_pre_hooks
    )


def exchangeable_layers(net: nn.Module) -> set[int]:
    """The ids (`id()`) of layers that can be or were exchanged; models that share one are decided together."""
    classes = {*BF16_CLASSES, *BF16_CLASSES.values()}
    return {id(module) for module in net.modules() if type(module) in classes}
