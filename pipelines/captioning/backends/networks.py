"""The starter's captioner as a plain torch module: a vector of the shared space as a prefix, and words after it.

It knows nothing of modalities: a picture, a clip and a text that mean the same lie at nearly the same point, and it is
the point that is put into words. (ClipCap, Mokady et al. 2021, with a decoder of its own instead of GPT-2.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multimodal.encoders.starter.networks import DIM, Block

PREFIX = 4  # states made of the vector
WIDTH, LAYERS, HEADS = 144, 3, 4
LONGEST = 24  # words, the end among them; two things with colours take 19
END = 0  # the number of the word that ends a caption


class CaptionNet(nn.Module):
    """A causal transformer over whole words; the matrix that reads words also writes them."""

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
        later[:PREFIX, :PREFIX] = False  # the prefix is one thing: its parts see each other
        self.register_buffer(
            "blocked", torch.zeros(length, length).masked_fill(later, -torch.inf), persistent=False
        )

    def forward(self, vectors: Tensor, words: Tensor) -> Tensor:
        """vectors (n, dim) unit rows, words (n, t) int64 with t < LONGEST -> logits (n, t + 1, words).

        Those at place k are of the word after the first k.
        """
        prefix = self.prefix(vectors).view(len(vectors), PREFIX, WIDTH)
        states = torch.cat([prefix, self.words(words).to(prefix.dtype)], dim=1)
        length = states.shape[1]
        states = states + self.positions[:length].to(states.dtype)
        for block in self.blocks:
            states = block(states, self.blocked[:length, :length])
        return self.norm(states[:, PREFIX - 1 :]) @ self.words.weight.T
