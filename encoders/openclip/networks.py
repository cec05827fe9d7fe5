"""open_clip's towers: built empty from a configuration, filled with weights, and run without wasted work.

The modules are open_clip's own, so their numbers are. What is added is the trimming of texts: a batch is sorted by
length and cut in groups, each as long as its longest text, where that changes nothing:

    causal mask, pooled at the end of the text      later positions are never looked at
    transformers' encoders with a padding mask      masked positions weigh exactly nothing
    everything else                                 not trimmed: SigLIP and CLIPA pool the last position, padding or
                                                    not; MobileCLIP-S looks at padding; CoCa appends its class token
                                                    behind it
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.hf_configs import arch_dict
from open_clip.hf_model import ClsLastHiddenStatePooler, ClsPooler, HFTextEncoder, MeanPooler
from open_clip.model import CustomTextCLIP
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError
from multimodal.encoders.openclip.tensors import check_fit

# The other tower of a model of which only one is wanted
NO_TEXT = {"layers": 1, "width": 8, "heads": 1, "vocab_size": 1, "context_length": 1}
NO_IMAGE = {"layers": 1, "width": 8, "head_width": 8, "patch_size": 8, "image_size": 8}
BUILD_ERRORS = (
    TypeError,
    ValueError,
    RuntimeError,
    KeyError,
    AttributeError,
    AssertionError,
    ZeroDivisionError,
)
GROUP = 8  # texts whose lengths differ by less are encoded together


def image_tower(config: Mapping[str, Any], title: str) -> nn.Module:
    """config: "embed_dim", "quick_gelu" and "tower", open_clip's vision_cfg. Raises CheckpointError."""
    tower = dict(config["tower"]) | {"output_tokens": False}
    if "timm_model_name" in tower:
        tower["timm_model_pretrained"] = False
    return _built(lambda: _model(config, tower, NO_TEXT).visual, f"the image tower of {title}")


def text_tower(config: Mapping[str, Any], title: str) -> nn.Module:
    """config: as above with open_clip's text_cfg, and "transformer" for one of transformers': its config.json."""
    tower = dict(config["tower"]) | {"output_tokens": False}
    what = f"the text tower of {title}"
    if "transformer" not in config:
        return _built(lambda: _model(config, NO_IMAGE, tower).text, what)
    # open_clip takes the configuration from a folder, and takes from the model it makes what it needs
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config["transformer"]), encoding="utf-8")
        tower |= {"hf_model_name": folder, "hf_model_pretrained": False}
        return _built(lambda: _model(config, NO_IMAGE, tower).text, what)


def _model(config: Mapping[str, Any], image: dict[str, Any], text: dict[str, Any]) -> CustomTextCLIP:
    return CustomTextCLIP(config["embed_dim"], image, text, quick_gelu=config["quick_gelu"])


def _built(build: Callable[[], nn.Module], what: str) -> nn.Module:
    """Without memory, for the weights replace it all; in memory if it holds something that is no weight."""
    try:
        with torch.device("meta"):
            net = build()
        return build() if _needs_memory(net) else net
    except BUILD_ERRORS as error:
        raise CheckpointError(
            f"{what} cannot be built by open_clip {open_clip.__version__}: {error}; upgrade open_clip_torch, or "
            "correct its configuration"
        ) from error


def _needs_memory(net: nn.Module) -> bool:
    weights = set(net.state_dict())
    buffers = (name for name, _ in net.named_buffers() if name not in weights and name != "attn_mask")
    loose = (
        value for module in net.modules() for value in vars(module).values() if isinstance(value, Tensor)
    )
    return any(True for _ in buffers) or any(True for _ in loose)


def fill(net: nn.Module, tensors: dict[str, Tensor], runtime: Runtime, prefix: str, title: str) -> nn.Module:
    """Gives a tower its weights and puts it where it runs. Empties `tensors`, so that memory is free early.

    Raises CheckpointError for weights that do not fit.
    """
    expected = net.state_dict()
    check_fit(expected, tensors, prefix, title)
    if isinstance(net, TextTransformer) and net.attn_mask is not None:
        net.attn_mask = torch.full((net.num_pos, net.num_pos), float("-inf")).triu_(1)
    # torch's kernels take the statistics of a BatchNorm in float32 beside another input
    exact = {name for name, module in net.named_modules() if isinstance(module, _BatchNorm)}
    dtype, own = runtime.cast, {}
    for name in expected:
        given = tensors.pop(name)  # a copy, always: what was read may be the file itself
        wanted = torch.float32 if name.rpartition(".")[0] in exact else dtype
        own[name] = given.to(wanted if given.is_floating_point() else given.dtype, copy=True)
    net.load_state_dict(own, assign=True)
    for name, buffer in net.named_buffers():
        if name not in own and buffer.is_floating_point():
            buffer.data = buffer.to(dtype)
    return net.eval().requires_grad_(False).to(runtime.torch_device)


def lengths(net: Any, tokens: Tensor) -> Tensor:
    """(n,) int64: how many of the positions of tokens (n, context) each text needs; all, if trimming is not exact."""
    n, context = tokens.shape
    if is_causal(net):
        marked = tokens if net.pool_type == "argmax" else tokens.eq(net.eos_id).int()
        return marked.argmax(-1) + 1
    if is_masked(net):
        kept = tokens.ne(net.config.pad_token_id)
        return (kept * torch.arange(1, context + 1)).amax(-1).clamp(min=1)
    return torch.full((n,), context)


def size_of(net: Any) -> tuple[int, int]:
    """Height and width of what an image tower takes, in pixels."""
    size = net.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def is_causal(net: nn.Module) -> bool:
    """Whether what is pooled has seen nothing behind itself."""
    return (
        isinstance(net, TextTransformer)
        and net.attn_mask is not None
        and net.cls_emb is None
        and net.pool_type in ("argmax", "eos")
    )


def is_masked(net: nn.Module) -> bool:
    """Whether padding is masked, in attention and in pooling."""
    return (
        isinstance(net, HFTextEncoder)
        and net.config.model_type in arch_dict
        and isinstance(net.pooler, MeanPooler | ClsPooler | ClsLastHiddenStatePooler)
    )


def grouped(run: Callable[[Tensor], Tensor], tokens: Tensor, needed: Tensor) -> Tensor:
    """tokens (n, context) and what `lengths` says of them -> (n, dim), in the order given, where `run` takes those of
    about one length at a time, cut to it."""
    groups = (needed - 1).div(GROUP, rounding_mode="floor")
    rows, order = [], []
    for group in groups.unique():
        where = (groups == group).nonzero()[:, 0]
        rows.append(run(tokens[where, : int(needed[where].max())]))
        order.append(where)
    return torch.cat(rows)[torch.cat(order).argsort().to(rows[0].device)]


def encode_text(net: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """tokens (n, t) -> (n, dim)."""
    tokens = inputs["tokens"]
    if is_causal(net):
        return _causal(net, tokens)
    found: Tensor = net(tokens)
    return found


def _causal(net: TextTransformer, tokens: Tensor) -> Tensor:
    """What TextTransformer.forward does with a causal mask, for fewer positions than its context."""
    n = tokens.shape[1]
    x = net.token_embedding(tokens) + net.positional_embedding[:n]
    x = net.transformer(x, attn_mask=net.attn_mask[:n, :n])
    # The last norm is for each position on its own: only the pooled one needs it
    x = net.ln_final(text_global_pool(x, tokens, net.pool_type, eos_token_id=net.eos_id))
    if net.text_projection is None:
        return x
    return net.text_projection(x) if isinstance(net.text_projection, nn.Linear) else x @ net.text_projection
