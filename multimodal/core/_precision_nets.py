"""Layers whose weights are bfloat16 and whose inputs and outputs are float32, and the exchange of a model's layers.

What lies between the large products (the sum that runs through a transformer, norms, softmax) stays as exact as it was.
bfloat16 keeps 8 bits: rounding that sum at every layer is what turns vectors when a whole model is cast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class NearLinear(nn.Linear):
    """nn.Linear on rounded inputs. One product: bfloat16 in and out, summed in float32 inside."""

    # open_clip asks a layer for this where its weights are of another type than what passes through the model
    int8_original_dtype = torch.float32

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.bfloat16(), self.weight, self.bias).float()


class NearWideLinear(NearLinear):
    """Its outputs stay bfloat16: for what goes through an activation, or attention, into the next product, which rounds
    it anyway. In float32 that activation, the largest thing a transformer makes, costs a ViT-L/14 a quarter of its
    speed (measured)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.bfloat16(), self.weight, self.bias)


class NearConv1d(nn.Conv1d):
    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input.bfloat16(), self.weight, self.bias).float()


class NearConv2d(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input.bfloat16(), self.weight, self.bias).float()


class NearConv3d(nn.Conv3d):
    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input.bfloat16(), self.weight, self.bias).float()


class NearAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention, all of it in bfloat16 inside: its fused kernel wants one type throughout."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Any:
        rounded: dict[int, Tensor] = {}  # the same tensor stays the same, which the fused kernel asks for
        asked = [rounded.setdefault(id(one), one.bfloat16()) for one in (query, key, value)]
        for name in ("key_padding_mask", "attn_mask"):
            if (mask := options.get(name)) is not None and mask.is_floating_point():
                options[name] = mask.bfloat16()
        mixed, weights = super().forward(asked[0], asked[1], asked[2], *rest, **options)
        return mixed.float(), weights


NEAR: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: NearLinear,
    nn.Conv1d: NearConv1d,
    nn.Conv2d: NearConv2d,
    nn.Conv3d: NearConv3d,
    nn.MultiheadAttention: NearAttention,
}


@dataclass
class Lightened:
    """Layers that were exchanged, with what they held before."""

    layers: list[tuple[nn.Module, type[nn.Module], dict[str, nn.Parameter | None]]]

    def restore(self) -> None:
        """Every layer as it was."""
        for module, kind, own in self.layers:
            module.__class__ = kind
            module._parameters.update(own)


@contextlib.contextmanager
def called(nets: Iterable[nn.Module]) -> Iterator[list[nn.Module]]:
    """Collects the layers of NEAR that are called within. Some models take the weights of a layer and never call it
    (EVA, the pooling of OpenAI's ResNets): those must stay as they are."""
    found: dict[nn.Module, None] = {}
    layers = {one: None for net in nets for one in net.modules() if type(one) in NEAR and _is_plain(one)}
    hooks = [one.register_forward_hook(lambda module, *_: found.setdefault(module)) for one in layers]
    into: list[nn.Module] = []
    try:
        yield into
    finally:
        for hook in hooks:
            hook.remove()
        into += found


def lighten(layers: Iterable[nn.Module], *, wide: float) -> Lightened:
    """Exchanges layers that `called` collected, in place. What widens its input so many times takes NearWideLinear.

    Parameters are made anew, not changed: another layer may hold the same one (tied weights).
    """
    done: list[tuple[nn.Module, type[nn.Module], dict[str, nn.Parameter | None]]] = []
    for module in layers:
        kind = type(module)
        # An attention's output layer is a part of it, and never called
        for holder in module.modules():
            done.append((holder, type(holder), dict(holder._parameters)))
            for name, one in holder._parameters.items():
                if one is not None:
                    holder._parameters[name] = nn.Parameter(one.detach().bfloat16(), requires_grad=False)
        widens = isinstance(module, nn.Linear) and module.out_features >= wide * module.in_features
        module.__class__ = NearWideLinear if widens else NEAR[kind]
    return Lightened(done)


def is_batch_normed(net: nn.Module) -> bool:
    """Whether a model is normalised by BatchNorm throughout, as ResNets and FastViTs are."""
    batch = sum(isinstance(one, _BatchNorm) for one in net.modules())
    return batch > sum(isinstance(one, nn.LayerNorm | nn.RMSNorm) for one in net.modules())


def _is_plain(module: nn.Module) -> bool:
    """Whether its weights are its own and in float32: not computed from others before each call."""
    own = [one for holder in module.modules() for one in holder._parameters.values() if one is not None]
    return bool(own) and all(one.dtype is torch.float32 for one in own) and not module._forward_pre_hooks


def layers_of(net: nn.Module) -> set[int]:
    """The layers that `lighten` would exchange, by identity: models that share one are lightened together."""
    return {id(one) for one in net.modules() if type(one) in NEAR or type(one) in NEAR.values()}
