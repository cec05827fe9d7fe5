"""Builds open_clip's towers from a configuration, loads their weights and runs them.

The modules are open_clip's own, so vectors are identical. Text batches are sorted by length and split into groups,
each trimmed to its longest text, where that is exact:

    causal mask, pooled at the end of the text      later positions have no influence; on a CPU texts of all lengths
                                                    share a pass, without padding (`_causal_rows`)
    transformers' encoders with a padding mask      masked positions have zero weight
    all others                                      not trimmed: SigLIP and CLIPA pool the last position, even if it
                                                    is padding; MobileCLIP-S attends to padding; CoCa appends its
                                                    class token after it
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
from open_clip.transformer import (
    ResidualAttentionBlock,
    TextTransformer,
    Transformer,
    VisionTransformer,
    text_global_pool,
)
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from multimodal.core.backends.attention import RowAttention
from multimodal.core.backends.runtime import Runtime
from multimodal.core.errors import CheckpointError
from multimodal.encoders.openclip.tensors import check_fit

# A minimal configuration of the tower that is not needed
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
GROUP = 8  # texts whose lengths differ by less share a forward pass
MAX_ROWS = 640  # tokens of a forward pass without padding: more are no faster, and leave the cache


def image_tower(config: Mapping[str, Any], title: str) -> nn.Module:
    """Builds an image tower without weights.

    Args:
        config: "embed_dim", "quick_gelu" and "tower", open_clip's vision_cfg.
        title: Name of the checkpoint in error messages.

    Raises:
        CheckpointError: If open_clip cannot build it.
    """
    tower = dict(config["tower"]) | {"output_tokens": False}
    if "timm_model_name" in tower:
        tower["timm_model_pretrained"] = False
    return _built(lambda: _model(config, tower, NO_TEXT).visual, f"the image tower of {title}")


def text_tower(config: Mapping[str, Any], title: str) -> nn.Module:
    """Builds a text tower without weights.

    Args:
        config: "embed_dim", "quick_gelu", "tower", open_clip's text_cfg, and "transformer", the config.json of a
            tower of transformers.
        title: Name of the checkpoint in error messages.

    Raises:
        CheckpointError: If open_clip cannot build it.
    """
    tower = dict(config["tower"]) | {"output_tokens": False}
    name = f"the text tower of {title}"
    if "transformer" not in config:
        return _built(lambda: _model(config, NO_IMAGE, tower).text, name)
    # open_clip reads this configuration from a folder only
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config["transformer"]), encoding="utf-8")
        tower |= {"hf_model_name": folder, "hf_model_pretrained": False}
        return _built(lambda: _model(config, NO_IMAGE, tower).text, name)


def _model(config: Mapping[str, Any], image: dict[str, Any], text: dict[str, Any]) -> CustomTextCLIP:
    return CustomTextCLIP(config["embed_dim"], image, text, quick_gelu=config["quick_gelu"])


def _built(build: Callable[[], nn.Module], name: str) -> nn.Module:
    """Builds on the meta device, as weights are loaded later; in memory if there are tensors that are not loaded."""
    try:
        with torch.device("meta"):
            net = build()
        return build() if _needs_memory(net) else net
    except BUILD_ERRORS as error:
        raise CheckpointError(
            f"{name} cannot be built by open_clip {open_clip.__version__}: {error}; upgrade open_clip_torch, or "
            "correct its configuration"
        ) from error


def _needs_memory(net: nn.Module) -> bool:
    weights = set(net.state_dict())
    buffers = (name for name, _ in net.named_buffers() if name not in weights and name != "attn_mask")
    attributes = (
        value for module in net.modules() for value in vars(module).values() if isinstance(value, Tensor)
    )
    return any(True for _ in buffers) or any(True for _ in attributes)


def load_weights(
    net: nn.Module, tensors: dict[str, Tensor], runtime: Runtime, prefix: str, title: str
) -> nn.Module:
    """Loads weights into a tower and moves it to its device and precision.

    `tensors` is emptied, so that memory is freed early. Raises CheckpointError for weights that do not fit.
    """
    expected = net.state_dict()
    check_fit(expected, tensors, prefix, title)
    if isinstance(net, TextTransformer) and net.attn_mask is not None:
        net.attn_mask = torch.full((net.num_pos, net.num_pos), float("-inf")).triu_(1)
    # torch's kernels need the statistics of a BatchNorm in float32, whatever the dtype of its input
    exact = {name for name, module in net.named_modules() if isinstance(module, _BatchNorm)}
    dtype, weights = runtime.cast, {}
    for name in expected:
        tensor = tensors.pop(name)
        target = torch.float32 if name.rpartition(".")[0] in exact else dtype
        # Copied, because the tensor may be memory-mapped
        weights[name] = tensor.to(target if tensor.is_floating_point() else tensor.dtype, copy=True)
    net.load_state_dict(weights, assign=True)
    for name, buffer in net.named_buffers():
        if name not in weights and buffer.is_floating_point():
            buffer.data = buffer.to(dtype)
    return net.eval().requires_grad_(False).to(runtime.torch_device)


def effective_lengths(net: Any, tokens: Tensor) -> Tensor:
    """tokens (n, context) -> (n,) int64, the positions that affect each vector; all if trimming is not exact."""
    n, context = tokens.shape
    if is_causal(net):
        markers = tokens if net.pool_type == "argmax" else tokens.eq(net.eos_id).int()
        return markers.argmax(-1) + 1
    if is_masked(net):
        kept = tokens.ne(net.config.pad_token_id)
        return (kept * torch.arange(1, context + 1)).amax(-1).clamp(min=1)
    return torch.full((n,), context)


def image_size(net: Any) -> tuple[int, int]:
    """Height and width of the input of an image tower, in pixels."""
    size = net.image_size
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def is_causal(net: nn.Module) -> bool:
    """Whether the pooled position attends to no later position."""
    return (
        isinstance(net, TextTransformer)
        and net.attn_mask is not None
        and net.cls_emb is None
        and net.pool_type in ("argmax", "eos")
    )


def is_masked(net: nn.Module) -> bool:
    """Whether padding is masked in attention and in pooling."""
    return (
        isinstance(net, HFTextEncoder)
        and net.config.model_type in arch_dict
        and isinstance(net.pooler, MeanPooler | ClsPooler | ClsLastHiddenStatePooler)
    )


def run_by_length(run: Callable[[Tensor], Tensor], tokens: Tensor, lengths: Tensor) -> Tensor:
    """Runs texts of similar length together, each group trimmed to its longest text.

    Args:
        run: tokens (m, t) -> (m, dim).
        tokens: (n, context) int64.
        lengths: (n,) int64, from `effective_lengths`.

    Returns:
        (n, dim), in the order of `tokens`.
    """
    groups = (lengths - 1).div(GROUP, rounding_mode="floor")
    rows, order = [], []
    for group in groups.unique():
        indices = (groups == group).nonzero()[:, 0]
        rows.append(run(tokens[indices, : int(lengths[indices].max())]))
        order.append(indices)
    return torch.cat(rows)[torch.cat(order).argsort().to(rows[0].device)]


def encode_text(net: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """tokens (n, t) -> (n, dim)."""
    tokens = inputs["tokens"]
    if is_causal(net):
        return _causal(net, tokens)
    vectors: Tensor = net(tokens)
    return vectors


def can_run_rows(net: Any) -> bool:
    """Whether `encode_rows` applies: a causal tower on the CPU whose attention layers were exchanged."""
    return (
        is_causal(net)
        and type(net.transformer) is Transformer
        and all(
            type(block) is ResidualAttentionBlock and isinstance(block.attn, RowAttention)
            for block in net.transformer.resblocks
        )
        and net.positional_embedding.device.type == "cpu"
        and not torch.is_grad_enabled()
    )


def encode_rows(net: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Runs texts of all lengths together, without padding.

    Args:
        net: A tower that `can_run_rows` accepts.
        tokens: (n, context) int64.
        lengths: (n,) int64, from `effective_lengths`.

    Returns:
        (n, dim), in the order of `tokens`.
    """
    order = lengths.argsort(stable=True)
    sizes, n_rows = [0], 0
    for length in lengths[order].tolist():
        if n_rows and n_rows + length > MAX_ROWS:
            sizes.append(0)
            n_rows = 0
        sizes[-1] += 1
        n_rows += length
    vectors = [_causal_rows(net, tokens[texts], lengths[texts]) for texts in order.split(sizes)]
    return torch.cat(vectors)[order.argsort()]


def _causal_rows(net: TextTransformer, tokens: Tensor, lengths: Tensor) -> Tensor:
    """`_causal` for texts sorted by length, with the tokens of all texts as rows of one matrix.

    Only attention is computed text by text. The last block computes the pooled position, the last of each text, alone.
    """
    positions = torch.arange(int(lengths[-1])).expand(len(tokens), -1)
    kept = positions < lengths[:, None]
    n_texts = lengths.unique_consecutive(return_counts=True)
    spans = list(zip(n_texts[1].tolist(), n_texts[0].tolist(), strict=True))
    x = net.token_embedding(tokens[:, : int(lengths[-1])][kept]) + net.positional_embedding[positions[kept]]
    blocks: Any = net.transformer.resblocks
    for block in blocks[:-1]:
        x += block.ls_1(block.attn.attend_causal(block.ln_1(x), spans))
        x += block.ls_2(block.mlp(block.ln_2(x)))
    last = blocks[-1]
    mixed = last.attn.attend_from_last(last.ln_1(x), spans)
    x = x[lengths.cumsum(0) - 1] + last.ls_1(mixed)
    x += last.ls_2(last.mlp(last.ln_2(x)))
    return _projected(net, net.ln_final(x))


def _causal(net: TextTransformer, tokens: Tensor) -> Tensor:
    """`TextTransformer.forward` with a causal mask, for fewer positions than the context length."""
    n = tokens.shape[1]
    x = net.token_embedding(tokens) + net.positional_embedding[:n]
    x = net.transformer(x, attn_mask=net.attn_mask[:n, :n])
    # The last norm acts on each position separately, so only the pooled one is computed
    return _projected(net, net.ln_final(text_global_pool(x, tokens, net.pool_type, eos_token_id=net.eos_id)))


def _projected(net: TextTransformer, pooled: Tensor) -> Tensor:
    if net.text_projection is None:
        return pooled
    if isinstance(net.text_projection, nn.Linear):
        return net.text_projection(pooled)
    return pooled @ net.text_projection


def encode_image(net: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    """pixels (n, 3, h, w) -> (n, dim)."""
    pixels = inputs["pixels"]
    if not _pools_class_token(net):
        vectors: Tensor = net(pixels)
        return vectors
    x = net._embeds(pixels)
    blocks: Any = net.transformer.resblocks
    for block in blocks[:-1]:
        x = block(x)
    # Of the last block only the class token is pooled, so only that position is computed
    last = blocks[-1]
    keys = last.ln_1(x)
    x = x[:, :1] + last.ls_1(last.attn(keys[:, :1], keys, keys, need_weights=False)[0])
    x = x + last.ls_2(last.mlp(last.ln_2(x)))
    pooled = net.ln_post(x[:, 0])
    return pooled if net.proj is None else pooled @ net.proj


def _pools_class_token(net: Any) -> bool:
    return (
        type(net) is VisionTransformer
        and net.attn_pool is None
        and net.pool_type == "tok"
        and not net.output_tokens
        and type(net.transformer) is Transformer
        and net.transformer.batch_first
        and type(net.transformer.resblocks[-1]) is ResidualAttentionBlock
    )
