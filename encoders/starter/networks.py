"""The starter's three towers as plain torch modules: picture, phrase and speech, each to a point of one space.

They know nothing of files, tokens or sampling rates (that is `_starter_features`) and nothing of training
(that is `recipes/starter`). Each returns unit rows of width `DIM`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DIM = 256  # the shared space
SIDE = 64  # pixels
N_MELS = 64
VOCABULARY = 10_500
TOKEN_WIDTH = 112
TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS, MAX_TOKENS = 176, 3, 4, 48
AUDIO_WIDTH, AUDIO_LAYERS, AUDIO_HEADS, MAX_FRAMES = 176, 4, 4, 600  # 600 mel frames = 6 s
AUDIO_STRIDE = 4  # mel frames per state: 40 ms
CTC_STEPS = 2  # characters the transcription head may write per state
ALPHABET = (
    " abcdefghijklmnopqrstuvwxyz0123456789'"  # class 0 is the CTC blank, so a character is 1 + its place
)


class Attention(nn.Module):
    """Multi-head self-attention as two matrix products: faster to train on a CPU than the fused kernel."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.into = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, states: Tensor, blocked: Tensor) -> Tensor:
        """states (n, t, width); blocked (n, 1, 1, t) float: 0 where a position is real, -inf where it is padding."""
        n, t, width = states.shape
        query, key, value = (
            self.into(states).view(n, t, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        )
        weights = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        mixed = torch.softmax(weights.float() + blocked, dim=-1).to(value.dtype) @ value
        return self.out(mixed.transpose(1, 2).reshape(n, t, width))


class Block(nn.Module):
    """Pre-norm transformer block with a 3x wide ReLU² layer."""

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
    """(real (n, t, 1) in {0, 1}, blocked (n, 1, 1, t) in {0, -inf}) for sequences of these lengths."""
    real = torch.arange(longest, device=lengths.device)[None] < lengths[:, None]
    return real[..., None].float(), torch.zeros_like(real, dtype=torch.float32).masked_fill(
        ~real, -torch.inf
    )[:, None, None]


def sinusoids(length: int, width: int) -> Tensor:
    """Fixed positions (length, width), as in Vaswani et al. 2017."""
    rates = torch.exp(-math.log(10_000.0) * torch.arange(width // 2) / (width // 2))
    angles = torch.arange(length)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class TextTower(nn.Module):
    """Word pieces -> transformer; the mean of the raw token vectors also goes straight to the space."""

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
    """Two 3x3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = convolution(width, width), convolution(width, width)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(maps + self.second(F.relu(self.first(maps))))


class Inverted(nn.Module):
    """1x1 widen, 3x3 depthwise, 1x1 narrow (Sandler et al. 2018): cheap in weights where maps are small."""

    def __init__(self, width: int, times: int = 2) -> None:
        super().__init__()
        self.widen = convolution(width, times * width, kernel=1)
        self.spread = convolution(times * width, times * width, groups=times * width)
        self.narrow = convolution(times * width, width, kernel=1)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(maps + self.narrow(F.relu(self.spread(F.relu(self.widen(maps))))))


def convolution(into: int, out: int, *, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm."""
    conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class ImageTower(nn.Module):
    """A small residual ConvNet; 64 px in, grids of 32, 16, 8 and 4."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Sequential(
            convolution(3, 32, stride=2), nn.ReLU(),
            convolution(32, 88, stride=2), nn.ReLU(), Residual(88),
            convolution(88, 160, stride=2), nn.ReLU(), Residual(160), Residual(160),
            convolution(160, 288, stride=2), nn.ReLU(), Inverted(288),
        )  # fmt: skip
        self.project = nn.Linear(2 * 288, DIM)

    def features(self, pictures: Tensor) -> Tensor:
        """pictures (n, 3, SIDE, SIDE) uint8 RGB -> (n, 576): means and maxima of the last maps."""
        maps = self.maps((pictures.float() / 127.5 - 1).to(self.project.weight.dtype))
        return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """pictures (n, 3, SIDE, SIDE) uint8 RGB -> (n, DIM) unit rows."""
        return F.normalize(self.project(self.features(pictures)).float(), dim=-1)


class AudioTower(nn.Module):
    """Log-mels -> strided convolutions -> transformer; a CTC head on the states reads the characters."""

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
        """mels (n, frames, N_MELS), lengths (n,) in frames -> states (n, frames/4, width), lengths in states."""
        maps = mels.transpose(1, 2).to(self.first.weight.dtype)
        for conv in (self.first, self.second):
            maps, lengths = F.gelu(conv(maps)), (lengths + 1) // 2
            # what lies past a clip's end must stay zero, or its vector would depend on its neighbours' lengths
            maps = maps * padding(lengths, maps.shape[2])[0].transpose(1, 2).to(maps.dtype)
        states = maps.transpose(1, 2) + self.positions[: maps.shape[2]].to(self.norm.weight.dtype)
        blocked = padding(lengths, states.shape[1])[1]
        for block in self.blocks:
            states = block(states, blocked)
        return self.norm(states), lengths

    def pooled(self, states: Tensor, lengths: Tensor) -> Tensor:
        """A learned weighting of the states beside their mean -> (n, 2 * width)."""
        real, blocked = padding(lengths, states.shape[1])
        weights = torch.softmax(self.attend(states)[..., 0].float() + blocked[:, 0, 0], dim=1)[..., None]
        weights, real = weights.to(states.dtype), real.to(states.dtype)
        mean = (states * real).sum(1) / lengths[:, None].clamp(min=1)
        return torch.cat([(states * weights).sum(1), mean], dim=1)

    def pool(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(n, DIM) unit rows."""
        return F.normalize(self.project(self.pooled(states, lengths)).float(), dim=-1)

    def characters(self, states: Tensor) -> Tensor:
        """Log-probabilities (n, CTC_STEPS * t, 1 + len(ALPHABET)) of the CTC classes."""
        n, t, _ = states.shape
        return torch.log_softmax(
            self.read(states.to(self.read.weight.dtype)).float().view(n, t * CTC_STEPS, -1), dim=-1
        )

    def forward(self, mels: Tensor, lengths: Tensor) -> Tensor:
        """mels (n, frames, N_MELS) -> (n, DIM) unit rows."""
        return self.pool(*self.states(mels, lengths))
