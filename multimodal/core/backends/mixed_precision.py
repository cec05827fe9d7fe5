"""Layers whose weights are bfloat16 and whose inputs and outputs are float32, and the exchange of a model's layers.

What lies between the large products (the sum that runs through a transformer, norms, softmax) stays as exact as it was.
bfloat16 keeps 8 bits: rounding that sum at every layer is what turns vectors when a whole model is cast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

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
    """nn.MultiheadAttention, all of it in bfloat16 inside. What transformers ask of it is written out: torch's own way
    takes products of turned views, which in bfloat16 are slower on a CPU than all of it in float32."""

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
        rounded: dict[int, Tensor] = {}  # the same tensor is rounded once
        q, k, v = (rounded.setdefault(id(one), one.bfloat16()) for one in (query, key, value))
        padding, mask = (_rounded_mask(one) for one in (key_padding_mask, attn_mask))
        if not is_usual(self, query, padding, need_weights):
            mixed, weights = super().forward(
                q, k, v, padding, need_weights, mask, average_attn_weights, is_causal
            )
            return mixed.float(), weights
        return attend(self, q, k, v, mask, F.linear).float(), None


def attend(
    attention: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor],
) -> Tensor:
    """What `attention` gives of a call that `is_usual`, its products made by `linear`."""
    own = attention._parameters["in_proj_bias"]
    biases = (None,) * 3 if own is None else own.chunk(3)
    items = (one if attention.batch_first else one.transpose(0, 1) for one in (query, key, value))
    q, k, v = (
        linear(one, weight, bias).unflatten(2, (attention.num_heads, attention.head_dim)).transpose(1, 2)
        for one, weight, bias in zip(items, attention.in_proj_weight.chunk(3), biases, strict=True)
    )
    if mask is not None and mask.dtype is torch.bool:
        mask = ~mask  # here True is what may be seen
    if mask is not None and mask.dim() == 3:
        mask = mask.unflatten(0, (len(q), attention.num_heads))
    mixed = F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
    mixed = linear(mixed, attention.out_proj.weight, attention.out_proj.bias)
    return mixed if attention.batch_first else mixed.transpose(0, 1)


def is_usual(
    attention: nn.MultiheadAttention, query: Tensor, padding: Tensor | None, need_weights: bool
) -> bool:
    """Whether a call asks for no more than `attend` gives."""
    special = attention.bias_k is not None or attention.add_zero_attn or not attention._qkv_same_embed_dim
    return not (special or need_weights or padding is not None or query.dim() != 3)


def _rounded_mask(mask: Tensor | None) -> Tensor | None:
    return mask.bfloat16() if mask is not None and mask.is_floating_point() else mask


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
