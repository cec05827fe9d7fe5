"""Small towers that train in minutes: text, image and speech, each returning unit rows of any width.

They are built from the starter's blocks, fewer and narrower; `recipes/bridge/family/small.py` wraps them in encoders.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.starter.networks import Block, Residual, convolution, padding, sinusoids
from multimodal.encoders.starter.parameters import ALPHABET as ALPHABET
from multimodal.encoders.starter.parameters import AUDIO_STRIDE, CTC_STEPS, MAX_FRAMES, MAX_TOKENS, N_MELS

SIDE = 32  # pixels
TEXT_WIDTH, TEXT_LAYERS = 96, 1
AUDIO_WIDTH, AUDIO_LAYERS = 128, 3
HEADS = 4


class TextTower(nn.Module):
    """Word pieces -> one transformer block -> mean."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, TEXT_WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(MAX_TOKENS, TEXT_WIDTH))
        self.blocks = nn.ModuleList(Block(TEXT_WIDTH, HEADS) for _ in range(TEXT_LAYERS))
        self.norm, self.project = nn.LayerNorm(TEXT_WIDTH), nn.Linear(TEXT_WIDTH, dim)
        nn.init.normal_(self.tokens.weight, std=0.1)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens (n, t) int64, zero-padded; lengths (n,) -> (n, dim) unit rows."""
        real, blocked = padding(lengths, tokens.shape[1])
        states = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            states = block(states, blocked)
        pooled = (self.norm(states) * real.to(states.dtype)).sum(1) / lengths[:, None].clamp(min=1)
        return F.normalize(self.project(pooled).float(), dim=-1)


class ImageTower(nn.Module):
    """A residual ConvNet; SIDE px in, grids of 16, 8 and 4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            convolution(3, 48, stride=2), nn.ReLU(),
            convolution(48, 96, stride=2), nn.ReLU(), Residual(96),
            convolution(96, 192, stride=2), nn.ReLU(), Residual(192),
        )  # fmt: skip
        self.project = nn.Linear(2 * 192, dim)

    def forward(self, images: Tensor) -> Tensor:
        """pictures (n, 3, h, w) uint8 RGB, squares -> (n, dim) unit rows."""
        rows = images.float()
        if rows.shape[-1] != SIDE:
            rows = F.interpolate(rows, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        maps = self.maps(rows / 127.5 - 1)
        return F.normalize(
            self.project(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)).float(), dim=-1
        )


class AudioTower(nn.Module):
    """Log-mels -> strided convolutions -> transformer; a CTC head on the states reads the characters in training."""

    positions: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(N_MELS, AUDIO_WIDTH, 5, 2, 2)
        self.second = nn.Conv1d(AUDIO_WIDTH, AUDIO_WIDTH, 5, 2, 2)
        places = sinusoids(MAX_FRAMES // AUDIO_STRIDE + 1, AUDIO_WIDTH)
        self.register_buffer("positions", places, persistent=False)
        self.blocks = nn.ModuleList(Block(AUDIO_WIDTH, HEADS) for _ in range(AUDIO_LAYERS))
        self.norm, self.attend = nn.LayerNorm(AUDIO_WIDTH), nn.Linear(AUDIO_WIDTH, 1)
        self.project = nn.Linear(2 * AUDIO_WIDTH, dim)
        self.read = nn.Linear(AUDIO_WIDTH, CTC_STEPS * (1 + len(ALPHABET)))

    def states(self, mels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """mels (n, frames, N_MELS) -> states (n, frames/4, width), lengths in states."""
        maps = mels.transpose(1, 2)
        for conv in (self.first, self.second):
            maps, lengths = F.gelu(conv(maps)), (lengths + 1) // 2
            maps = maps * padding(lengths, maps.shape[2])[0].transpose(1, 2).to(maps.dtype)
        states = maps.transpose(1, 2) + self.positions[: maps.shape[2]]
        blocked = padding(lengths, states.shape[1])[1]
        for block in self.blocks:
            states = block(states, blocked)
        return self.norm(states), lengths

    def pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(n, dim) unit rows."""
        real, blocked = padding(lengths, states.shape[1])
        weights = torch.softmax(self.attend(states)[..., 0].float() + blocked[:, 0, 0], dim=1)[..., None]
        mean = (states * real).sum(1) / lengths[:, None].clamp(min=1)
        return F.normalize(self.project(torch.cat([(states * weights).sum(1), mean], dim=1)).float(), dim=-1)

    def characters(self, states: Tensor) -> Tensor:
        """Log-probabilities (n, CTC_STEPS * t, 1 + len(ALPHABET)) of the CTC classes."""
        n, t, _ = states.shape
        return torch.log_softmax(self.read(states).float().view(n, t * CTC_STEPS, -1), dim=-1)

    def forward(self, mels: Tensor, lengths: Tensor) -> Tensor:
        """mels (n, frames, N_MELS) -> (n, dim) unit rows."""
        return self.pool(*self.states(mels, lengths))
