"""LanguageBind's audio tower in torch: a CLIP vision transformer that looks at log-mels as if they were pictures.

From Zhu et al. 2023 (arXiv 2310.01852) and Radford et al. 2021 (arXiv 2103.00020). Modules bear the names upstream's
checkpoints use, so that their tensors load as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.languagebind.checkpoint import Sizes


def quick_gelu(x: Tensor) -> Tensor:
    """OpenAI's approximation of GELU, which some checkpoints were trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "quick_gelu": quick_gelu}


class SelfAttention(nn.Module):
    """(n, tokens, width) -> the same shape; every token sees every other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class OneFrameAttention(nn.Module):
    """Attention over the frames of a video, of which a sound has one: a softmax over one weight is 1, so what is left
    of it are the value and output projections. (n, tokens, width) -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(self.v_proj(x))


class Mlp(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[sizes.activation]
        self.fc1 = nn.Linear(sizes.width, sizes.mlp_width)
        self.fc2 = nn.Linear(sizes.mlp_width, sizes.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Layer(nn.Module):
    """(n, tokens, width) -> the same shape. The temporal parts come first, where the checkpoint has them."""

    def __init__(self, sizes: Sizes) -> None:
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
    """Pictures (n, 3, mels, frames) -> tokens (n, 1 + patches, width): a class token, then the patches row by row."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(sizes.width))
        self.patch_embedding = nn.Conv2d(3, sizes.width, sizes.patch, stride=sizes.patch, bias=False)
        self.position_embedding = nn.Embedding(1 + sizes.grid[0] * sizes.grid[1], sizes.width)

    def forward(self, pictures: Tensor) -> Tensor:
        patches = self.patch_embedding(pictures).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(len(patches), 1, -1)
        return torch.cat([first, patches], dim=1) + self.position_embedding.weight


class Encoder(nn.Module):
    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionModel(nn.Module):
    """Pictures (n, 3, mels, frames) -> (n, width), the class token after the last layer, normed."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes)
        self.pre_layrnorm = nn.LayerNorm(
            sizes.width, eps=sizes.epsilon
        )  # upstream's spelling, from transformers
        self.encoder = Encoder(sizes)
        self.post_layernorm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)

    def forward(self, pictures: Tensor) -> Tensor:
        tokens = self.encoder(self.pre_layrnorm(self.embeddings(pictures)))
        return self.post_layernorm(tokens[:, 0])


class AudioTower(nn.Module):
    """Normed log-mels as pictures (n, 3, mels, frames) -> vectors (n, dim), of any length."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.vision_model = VisionModel(sizes)
        self.visual_projection = nn.Linear(sizes.width, sizes.dim, bias=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.visual_projection(self.vision_model(pictures))
