"""LanguageBind's audio tower: a CLIP vision transformer applied to log-mels as images.

Zhu et al. 2023 (arXiv 2310.01852) and Radford et al. 2021 (arXiv 2103.00020). Modules have the names of upstream's
checkpoints, so that tensors load unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from multimodal.encoders.languagebind.checkpoint import TowerConfig


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation of GELU, which some checkpoints were trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


class SelfAttention(nn.Module):
    """Multi-head self-attention, (n, tokens, width) -> (n, tokens, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class OneFrameAttention(nn.Module):
    """Temporal attention over a single frame, (n, tokens, width) -> (n, tokens, width).

    A softmax over one weight is 1, so only the value and output projections remain.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(self.v_proj(x))


class Mlp(nn.Module):
    """Two-layer MLP, (n, tokens, width) -> (n, tokens, width)."""

    def __init__(self, sizes: TowerConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[sizes.activation]
        self.fc1 = nn.Linear(sizes.width, sizes.mlp_width)
        self.fc2 = nn.Linear(sizes.mlp_width, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Layer(nn.Module):
    """Transformer layer, (n, tokens, width) -> (n, tokens, width); temporal modules come first, if there are any."""

    def __init__(self, sizes: TowerConfig) -> None:
        super().__init__()
        norm = partial(nn.LayerNorm, sizes.width, eps=sizes.epsilon)
        self.self_attn = SelfAttention(sizes.width, sizes.heads)
        self.layer_norm1, self.layer_norm2 = norm(), norm()
        self.mlp = Mlp(sizes)
        self.temporal_layer_norm1 = norm() if sizes.time_attention else None
        self.temporal_attn = OneFrameAttention(sizes.width) if sizes.time_attention else None
        self.temporal_layer_norm2 = norm() if sizes.time_mlp else None
        self.temporal_mlp = Mlp(sizes) if sizes.time_mlp else None

    def forward(self, x: Tensor) -> Tensor:
        if self.temporal_attn is not None and self.temporal_layer_norm1 is not None:
            x = x + self.temporal_attn(self.temporal_layer_norm1(x))
        if self.temporal_mlp is not None and self.temporal_layer_norm2 is not None:
            x = x + self.temporal_mlp(self.temporal_layer_norm2(x))
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    """Log-mels (n, 3, mels, frames) -> tokens (n, 1 + patches, width): class token, then patches in row-major order."""

    def __init__(self, sizes: TowerConfig) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(sizes.width))
        self.patch_embedding = nn.Conv2d(3, sizes.width, sizes.patch, stride=sizes.patch, bias=False)
        self.position_embedding = nn.Embedding(1 + sizes.grid[0] * sizes.grid[1], sizes.width)

    def forward(self, mels: Tensor) -> Tensor:
        patches = self.patch_embedding(mels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class TransformerEncoder(nn.Module):
    """A stack of layers, (n, tokens, width) -> (n, tokens, width)."""

    def __init__(self, sizes: TowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionModel(nn.Module):
    """Log-mels (n, 3, mels, frames) -> (n, width): the normalised class token of the last layer."""

    def __init__(self, sizes: TowerConfig) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes)
        self.pre_layrnorm = nn.LayerNorm(
            sizes.width, eps=sizes.epsilon
        )  # upstream's spelling, from transformers
        self.encoder = TransformerEncoder(sizes)
        self.post_layernorm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)

    def forward(self, mels: Tensor) -> Tensor:
        tokens = self.encoder(self.pre_layrnorm(self.embeddings(mels)))
        return self.post_layernorm(tokens[:, 0])


class AudioTower(nn.Module):
    """Scaled log-mels (n, 3, mels, frames) -> vectors (n, dim), not normalised."""

    def __init__(self, sizes: TowerConfig) -> None:
        super().__init__()
        self.vision_model = VisionModel(sizes)
        self.visual_projection = nn.Linear(sizes.width, sizes.dim, bias=False)

    def forward(self, mels: Tensor) -> Tensor:
        return self.visual_projection(self.vision_model(mels))
