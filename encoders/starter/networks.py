"""The starter's three towers as torch modules: text, image and audio.

Each returns unit rows of width `DIM`. Tokenising, decoding and resampling are in `preprocessing`, training is in
`recipes/starter`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.starter.parameters import (
    ALPHABET,
    AUDIO_HEADS,
    AUDIO_LAYERS,
    AUDIO_STRIDE,
    AUDIO_WIDTH,
    CTC_STEPS,
    DIM,
    MAX_FRAMES,
    MAX_TOKENS,
    N_MELS,
    TEXT_HEADS,
    TEXT_LAYERS,
    TEXT_WIDTH,
    TOKEN_WIDTH,
    VOCABULARY,
)


class Attention(nn.Module):
    """Multi-head self-attention written as matrix products, which trains faster on a CPU than the fused kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, states: Tensor, blocked: Tensor) -> Tensor:
        """states (n, t, width), blocked (n, 1, 1, t) float: 0 for tokens, -inf for padding -> (n, t, width)."""
        n, t, width = states.shape
        query, key, value = (
            self.into(states).view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        weights = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        mixed = torch.softmax(weights.float() + blocked, dim=-1).to(value.dtype) @ value
        return self.out(mixed.transpose(1, 2).reshape(n, t, width))


class Block(nn.Module):
    """Pre-norm transformer block; the MLP is 3x as wide and uses squared ReLU."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.wide_norm, self.wide, self.narrow = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(3 * width, width),
        )

    def forward(self, states: Tensor, blocked: Tensor) -> Tensor:
        states = states + self.attention(self.attention_norm(states), blocked)
        return states + self.narrow(F.relu(self.wide(self.wide_norm(states))).square())


def padding(lengths: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Masks for sequences of given lengths (n,): (multiplicative (n, t, 1), additive (n, 1, 1, t) with -inf)."""
    real = torch.arange(longest, device=lengths.device)[None] < lengths[:, None]
    blocked = torch.zeros_like(real, dtype=torch.float32).masked_fill(~real, -torch.inf)
    return real[..., None].float(), blocked[:, None, None]


def sinusoids(length: int, width: int) -> Tensor:
    """Sinusoidal position embeddings (length, width) (Vaswani et al. 2017)."""
    rates = torch.exp(-math.log(10_000.0) * torch.arange(width // 2) / (width // 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TextTower(nn.Module):
    """WordPiece tokens -> transformer; a linear map of the mean token embedding is added to the output."""

    def __init__(self, vocabulary: int = VOCABULARY) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, TOKEN_WIDTH)
        self.direct = nn.Linear(TOKEN_WIDTH, DIM)
        self.widen = nn.Linear(TOKEN_WIDTH, TEXT_WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(MAX_TOKENS, TEXT_WIDTH))
        self.blocks = nn.ModuleList(Block(TEXT_WIDTH, TEXT_HEADS) for _ in range(TEXT_LAYERS))
        self.norm, self.project = nn.LayerNorm(TEXT_WIDTH), nn.Linear(TEXT_WIDTH, DIM)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """tokens (n, t) int64, zero-padded; lengths (n,) -> (n, DIM) unit rows."""
        real, blocked = padding(lengths, tokens.shape[1])
        words = self.tokens(tokens)
        real = real.to(words.dtype)
        states = self.widen(words) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            states = block(states, blocked)
        count = lengths[:, None].clamp(min=1)
        pooled = (self.norm(states) * real).sum(1) / count
        direct = self.direct((words * real).sum(1) / count)
        return F.normalize(self.project(pooled).float() + direct.float(), dim=-1)


class Residual(nn.Module):
    """Residual block of two 3x3 convolutions (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = convolution(width, width), convolution(width, width)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(maps + self.second(F.relu(self.first(maps))))


class Inverted(nn.Module):
    """Inverted residual block: 1x1, 3x3 depthwise, 1x1 convolutions (Sandler et al. 2018)."""

    def __init__(self, width: int, times: int = 2) -> None:
        super().__init__()
        self.widen = convolution(width, times * width, kernel=1)
        self.spread = convolution(times * width, times * width, groups=times * width)
        self.narrow = convolution(times * width, width, kernel=1)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(maps + self.narrow(F.relu(self.spread(F.relu(self.widen(maps))))))


def convolution(into: int, out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation."""
    conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class ImageTower(nn.Module):
    """A residual ConvNet on 64 × 64 pixels with feature maps of 32, 16, 8 and 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            convolution(3, 32, stride=2), nn.ReLU(),
            convolution(32, 88, stride=2), nn.ReLU(), Residual(88),
            convolution(88, 160, stride=2), nn.ReLU(), Residual(160), Residual(160),
            convolution(160, 288, stride=2), nn.ReLU(), Inverted(288),
        )  # fmt: skip
        self.project = nn.Linear(2 * 288, DIM)

    def feature_maps(self, pixels: Tensor) -> Tensor:
        """pixels (n, 3, SIDE, SIDE) uint8 RGB -> (n, 288, 4, 4)."""
        maps: Tensor = self.maps((pixels.float() / 127.5 - 1).to(self.project.weight.dtype))
        return maps

    def features(self, pixels: Tensor) -> Tensor:
        """pixels (n, 3, SIDE, SIDE) uint8 RGB -> (n, 576): mean- and max-pooled feature maps."""
        return _pooled(self.feature_maps(pixels))

    def vectors(self, maps: Tensor) -> Tensor:
        """Feature maps (n, 288, 4, 4) -> (n, DIM) unit rows."""
        return F.normalize(self.project(_pooled(maps)).float(), dim=-1)

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (n, 3, SIDE, SIDE) uint8 RGB -> (n, DIM) unit rows."""
        return self.vectors(self.feature_maps(pixels))


def _pooled(maps: Tensor) -> Tensor:
    return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


class AudioTower(nn.Module):
    """Log-mels -> strided convolutions -> transformer, with a CTC head over characters on its states."""

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(N_MELS, AUDIO_WIDTH, 5, 2, 2)
        self.second = nn.Conv1d(AUDIO_WIDTH, AUDIO_WIDTH, 5, 2, 2)
        self.register_buffer(
            "positions", sinusoids(MAX_FRAMES // AUDIO_STRIDE + 1, AUDIO_WIDTH), persistent=False
        )
        self.blocks = nn.ModuleList(Block(AUDIO_WIDTH, AUDIO_HEADS) for _ in range(AUDIO_LAYERS))
        self.norm = nn.LayerNorm(AUDIO_WIDTH)
        self.attend = nn.Linear(AUDIO_WIDTH, 1)
        self.project = nn.Linear(2 * AUDIO_WIDTH, DIM)
        self.read = nn.Linear(AUDIO_WIDTH, CTC_STEPS * (1 + len(ALPHABET)))

    def states(self, mels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """mels (n, frames, N_MELS), lengths (n,) -> states (n, frames / 4, width), and lengths (n,) of those."""
        maps = mels.transpose(1, 2).to(self.first.weight.dtype)
        for conv in (self.first, self.second):
            maps, lengths = F.gelu(conv(maps)), (lengths + 1) // 2
            # Positions past the end of a clip stay zero, so that its vector does not depend on the batch.
            maps = maps * padding(lengths, maps.shape[2])[0].transpose(1, 2).to(maps.dtype)
        states = maps.transpose(1, 2) + self.positions[: maps.shape[2]].to(self.norm.weight.dtype)
        blocked = padding(lengths, states.shape[1])[1]
        for block in self.blocks:
            states = block(states, blocked)
        return self.norm(states), lengths

    def pooled(self, states: Tensor, lengths: Tensor) -> Tensor:
        """states (n, t, width) -> (n, 2 * width): attention pooling and mean pooling, concatenated."""
        real, blocked = padding(lengths, states.shape[1])
        weights = torch.softmax(self.attend(states)[..., 0].float() + blocked[:, 0, 0], dim=1)[..., None]
        weights, real = weights.to(states.dtype), real.to(states.dtype)
        mean = (states * real).sum(1) / lengths[:, None].clamp(min=1)
        return torch.cat([(states * weights).sum(1), mean], dim=1)

    def pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """states (n, t, width), lengths (n,) -> (n, DIM) unit rows."""
        return F.normalize(self.project(self.pooled(states, lengths)).float(), dim=-1)

    def characters(self, states: Tensor) -> Tensor:
        """states (n, t, width) -> CTC log-probabilities (n, CTC_STEPS * t, 1 + len(ALPHABET))."""
        n, t, _ = states.shape
        return torch.log_softmax(
            self.read(states.to(self.read.weight.dtype)).float().view(n, t * CTC_STEPS, -1), dim=-1
        )

    def forward(self, mels: Tensor, lengths: Tensor) -> Tensor:
        """mels (n, frames, N_MELS) -> (n, DIM) unit rows."""
        return self.pool(*self.states(mels, lengths))
