"""Which layers of a model get adapters.

"all-linear" is never used: on several architectures it makes adapters that never learn or that cannot be merged. A rule
names the layers of a family of architectures, each measured to train and to merge exactly:

    starter image      convolutions and `project`: a depthwise convolution takes no adapter
    starter text,      `into`, `out`, `wide`, `narrow` of the blocks, and `project`; not the captioner's `words`, which
    audio, captioner   are tied to its output
    SigLIP             the layers, not the pooling head: its attention is fused, and merges inexactly
    open_clip ViT      `attn` as a whole: `in_proj_weight` is no module, and `out_proj` alone gets no gradient
    BLIP               `query`, `value`, `key` and `qkv`: its output layer is tied to the embeddings
    diffusers          `to_q`, `to_k`, `to_v`, `to_out.0` of every attention

`check_alive` and `check_merge` verify after training what the rules promise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.core.errors import InvalidInput

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

ADAPTERS = ("lora", "dora")  # methods that train adapters

# Unit vectors of the merged model may differ by this much from those with the adapter: float32 sums in another order.
MERGE_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Rule:
    """The layers that get adapters in a family of architectures.

    Attributes:
        name: Of the architectures.
        layers: Matches the full names of layers that get adapters.
        last: Matches the full names of parameters that method="last" trains.
        dora: The layers for DoRA, where they differ.
    """

    name: str
    layers: str
    last: str
    dora: str | None = None


_TRANSFORMER = r"(?:.*\.)?(?:layers?|h|blocks?)\.\d+\."
RULES = (
    Rule(
        "starter image",
        r"maps\.\d+(?:\.(?:first|second|widen|narrow))?\.0|project",
        r"project\..*",
    ),
    Rule(
        "starter transformer",
        r"blocks\.\d+\.(?:attention\.(?:into|out)|wide|narrow)|project",
        r"project\..*",
    ),
    Rule(
        "open_clip transformer",
        r"(?:.*\.)?resblocks\.\d+\.(?:attn|mlp\.c_fc|mlp\.c_proj)",
        r"proj|text_projection(?:\.weight)?|ln_post\..*|ln_final\..*",
        r"(?:.*\.)?resblocks\.\d+\.mlp\.(?:c_fc|c_proj)",  # PEFT has no DoRA of nn.MultiheadAttention
    ),
    Rule(
        "attention with q_proj",
        _TRANSFORMER
        + r"(?:self_attn|encoder_attn|attention|attn|mlp)?\.?(?:q_proj|k_proj|v_proj|out_proj|o_proj|fc1|fc2)",
        r"visual_projection\..*|text_projection\..*|audio_projection\..*|(?:.*\.)?(?:post_layernorm|final_layer_norm)\..*",
    ),
    Rule(
        "attention with query",
        r"(?:.*\.)?(?:query|key|value|qkv)",
        r"(?:visual|text|audio)_projection(?:\..*)?|(?:.*\.)?pooler\..*",
    ),
    Rule(
        "attention with q_lin",
        r"(?:.*\.)?(?:q_lin|k_lin|v_lin|Wqkv|c_attn)",
        r"(?:.*\.)?(?:dense|projection|linear)\.\d*.*",
    ),
    Rule("diffusers attention", r"(?:.*\.)?(?:to_q|to_k|to_v|to_out\.0)", r"(?:conv_out|proj_out)\..*"),
    Rule(
        "timm vision transformer",
        r"(?:.*\.)?blocks\.\d+\.(?:attn\.(?:qkv|proj)|mlp\.(?:fc1|fc2))",
        r"head\..*",
    ),
    Rule("tensor projections", r"(?:.*\.)?(?:q|k|v|o)", r"(?:.*\.)?final_layer_norm\..*"),
)


def rule_for(net: nn.Module) -> Rule:
    """The first rule that names a layer of the model which can take an adapter.

    Raises:
        InvalidInput: If none does.
    """
    layers = adaptable(net)
    for rule in RULES:
        if any(re.fullmatch(rule.layers, name) for name in layers):
            return rule
    raise InvalidInput(
        f"no layers for adapters are known in {type(net).__name__}: name them with targets=, as a regular expression "
        f"or a list; it has {', '.join(list(layers)[:6])} … (or use method='full', 'last' or 'probe')"
    )


def adaptable(net: nn.Module) -> list[str]:
    """Full names of the layers that can take an adapter."""
    from torch import nn as layers

    kinds = (layers.Linear, layers.Embedding, layers.Conv1d, layers.Conv2d, layers.MultiheadAttention)
    attentions = [
        name for name, module in net.named_modules() if isinstance(module, layers.MultiheadAttention)
    ]
    return [
        name
        for name, module in net.named_modules()
        if (isinstance(module, kinds) or type(module).__name__ == "Conv1D")
        and getattr(module, "groups", 1) == 1
        and not any(name.startswith(f"{attention}.") for attention in attentions)
    ]


def target_layers(
    net: nn.Module, targets: str | list[str] | None, *, use_dora: bool = False
) -> str | list[str]:
    """What PEFT's `target_modules` is set to: the given targets, or those of the model's rule.

    Raises:
        InvalidInput: For "all-linear", for a target that names no layer, or if no rule fits.
    """
    if targets is None:
        rule = rule_for(net)
        return rule.dora if use_dora and rule.dora is not None else rule.layers
    if targets == "all-linear":
        raise InvalidInput(
            "targets='all-linear' makes adapters that never learn or cannot be merged in several architectures; "
            "leave out targets=, or name the layers"
        )
    named = _matches(net, targets)
    if not named:
        raise InvalidInput(
            f"targets={targets!r} names no layer of {type(net).__name__} that can take an adapter; it has "
            f"{', '.join(adaptable(net)[:8])} …"
        )
    return targets


def _matches(net: nn.Module, targets: str | list[str]) -> list[str]:
    if isinstance(targets, str):
        return [name for name in adaptable(net) if re.fullmatch(targets, name)]
    return [
        name
        for name in adaptable(net)
        if any(name == target or name.endswith(f".{target}") for target in targets)
    ]


def last_parameters(net: nn.Module) -> list[str]:
    """Names of the parameters that method="last" trains.

    Raises:
        InvalidInput: If the model's rule names none of its parameters.
    """
    pattern = rule_for(net).last
    names = [name for name, _ in net.named_parameters() if re.fullmatch(pattern, name)]
    if not names:
        raise InvalidInput(
            f"the last layer of {type(net).__name__} is not known; use method='lora', 'probe' or 'full'"
        )
    return names


def adapter_outputs(net: nn.Module) -> dict[str, torch.Tensor]:
    """The second matrix of each adapter by name: zero until it learns, and scaling it scales the adapter."""
    return {
        name: parameter
        for name, parameter in net.named_parameters()
        if re.search(r"lora_B\.|lora_embedding_B\.", name)
    }


def check_alive(net: nn.Module) -> None:
    """Verifies that every adapter has learned something.

    Raises:
        InvalidInput: Naming the layers whose adapters got no gradient.
    """
    outputs = adapter_outputs(net)
    dead = [
        re.sub(r"\.lora_(embedding_)?B\..*", "", name) for name, value in outputs.items() if not value.any()
    ]
    if dead:
        raise InvalidInput(
            f"{len(dead)} of {len(outputs)} adapters got no gradient, so they would never learn: "
            f"{', '.join(dead[:4])}{' …' * (len(dead) > 4)}; leave these layers out of targets="
        )


def check_merge(with_adapter: NDArray[np.float32], merged: NDArray[np.float32]) -> None:
    """Verifies that the merged model computes what the model with its adapter did.

    Args:
        with_adapter: Outputs (n, dim) of the model with its adapter.
        merged: Those of the merged model.

    Raises:
        InvalidInput: If they differ.
    """
    import numpy as np

    difference = float(np.abs(with_adapter - merged).max())
    if not difference <= MERGE_TOLERANCE:
        raise InvalidInput(
            f"merging the adapter changes the vectors by {difference:.1g} (at most {MERGE_TOLERANCE:g} is rounding): a "
            "target is tied to another weight or belongs to a fused layer; leave it out of targets="
        )
