"""The starter's captioning network: a vector of the shared space as a prefix, then words.

The network does not depend on the modality: an image, an audio and a text with the same meaning have nearly the same
vector. (ClipCap, Mokady et al. 2021, with a small decoder of its own instead of GPT-2.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multimodal.encoders.starter.networks import Block
from multimodal.encoders.starter.parameters import DIM

PREFIX = 4  # prefix states made from the vector
WIDTH, LAYERS, HEADS = 144, 3, 4
LONGEST = 24  # words, the end included; a caption of two coloured objects takes 19
END = 0  # the id of the word that ends a caption


class CaptionNet(nn.Module):
    """A causal transformer over whole words, with tied input and output embeddings."""

    blocked: Tensor

    def __init__(self, words: int, dim: int = DIM) -> None:
        super().__init__()
        self.prefix = nn.Linear(dim, PREFIX * WIDTH)
        self.words = nn.Embedding(words, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(PREFIX + LONGEST - 1, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH, HEADS) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        nn.init.normal_(self.words.weight, std=WIDTH**-0.5)
        length = PREFIX + LONGEST - 1
        later = torch.ones(length, length).triu(1).bool()
        later[:PREFIX, :PREFIX] = False  # prefix states attend to each other in both directions
        self.register_buffer(
            "blocked", torch.zeros(length, length).masked_fill(later, -torch.inf), persistent=False
        )

    def forward(self, vectors: Tensor, words: Tensor) -> Tensor:
        """Unit vectors (n, dim) and word ids (n, t), t < LONGEST -> logits (n, t + 1, words).

        The logits at position k are of the word after the first k.
        """
        prefix = self.prefix(vectors).view(len(vectors), PREFIX, WIDTH)
        states = torch.cat([prefix, self.words(words).to(prefix.dtype)], dim=1)
        length = states.shape[1]
        states = states + self.positions[:length].to(states.dtype)
        for block in self.blocks:
            states = block(states, self.blocked[:length, :length])
        return self.norm(states[:, PREFIX - 1 :]) @ self.words.weight.T
