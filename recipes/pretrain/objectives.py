"""Self-supervised objectives: a part of each item is hidden and predicted from the rest.

    next-word      each token from those before it (GPT)
    masked-word    hidden tokens from the others (BERT)
    masked-image   hidden patches from the others. As in MAE, most of a picture is hidden, and pixels are predicted,
                   normalised by patch. The tower is a ConvNet, so hidden patches are greyed, not left out (SimMIM)
    masked-audio   hidden spans of log-mel frames from the others

Each takes a generator, so that what is hidden depends on the seed and the step alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.starter.networks import AudioTower, ImageTower, TextTower
from multimodal.encoders.starter.parameters import AUDIO_STRIDE, AUDIO_WIDTH, N_MELS, TEXT_WIDTH
from recipes.pretrain.collate import MASK

PATCH, HIDDEN_PATCHES = 8, 0.6  # pixels of a patch; share of the patches
CELL, CELL_WIDTH = 16, 288  # pixels and channels of a cell of the image tower's last maps
HIDDEN_WORDS = 0.25  # at least one
SPAN, HIDDEN_FRAMES = 5 * AUDIO_STRIDE, 0.4  # frames


def make_tower(modality: str, vocabulary: int) -> nn.Module:
    """A tower of the starter family with random weights."""
    if modality == "text":
        return TextTower(vocabulary)
    return ImageTower() if modality == "image" else AudioTower()


def make_head(objective: str, vocabulary: int) -> nn.Module:
    """The layer that predicts what is hidden; it is not part of the tower."""
    if objective in ("next-word", "masked-word"):
        return nn.Linear(TEXT_WIDTH, vocabulary)
    if objective == "masked-image":
        return nn.Conv2d(CELL_WIDTH, 3 * CELL * CELL, 1)
    return nn.Linear(AUDIO_WIDTH, AUDIO_STRIDE * N_MELS)


def text_states(tower: TextTower, tokens: Tensor, lengths: Tensor, *, causal: bool) -> Tensor:
    """tokens (n, t), lengths (n,) -> states (n, t, width); causal: each sees only the tokens up to itself."""
    n_tokens = tokens.shape[1]
    real = torch.arange(n_tokens, device=tokens.device)[None] < lengths[:, None]
    blocked = torch.zeros_like(real, dtype=torch.float32).masked_fill(~real, -torch.inf)[:, None, None]
    if causal:
        blocked = torch.full((n_tokens, n_tokens), -torch.inf, device=tokens.device).triu(1)[None, None]
    states = tower.widen(tower.tokens(tokens)) + tower.positions[:n_tokens]
    for block in tower.blocks:
        states = block(states, blocked)
    return tower.norm(states)


def next_word(tower: TextTower, head: nn.Module, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Mean negative log-likelihood of each token after the first, by item: (n,). Items of one token give 0."""
    logits = head(text_states(tower, tokens, lengths, causal=True)[:, :-1]).float()
    real = torch.arange(1, tokens.shape[1], device=tokens.device)[None] < lengths[:, None]
    losses = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(real.shape)
    return (losses * real).sum(1) / real.sum(1).clamp(min=1)


def masked_word(
    tower: TextTower, head: nn.Module, tokens: Tensor, lengths: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean negative log-likelihood of the hidden tokens, by item: (n,)."""
    scores = torch.rand(tokens.shape, generator=generator).to(tokens.device)
    real = torch.arange(tokens.shape[1], device=tokens.device)[None] < lengths[:, None]
    order = scores.masked_fill(~real, 2.0).argsort(1).argsort(1)
    hidden = real & (order < (HIDDEN_WORDS * lengths).ceil().clamp(min=1)[:, None])
    states = text_states(tower, tokens.masked_fill(hidden, MASK), lengths, causal=False)
    losses = torch.zeros(tokens.shape, device=tokens.device)
    losses[hidden] = F.cross_entropy(head(states[hidden]).float(), tokens[hidden], reduction="none")
    return losses.sum(1) / hidden.sum(1)


def masked_image(tower: ImageTower, head: nn.Module, pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Mean squared error of the hidden patches' normalised pixels, by item: (n,)."""
    n, _, side, _ = pixels.shape
    grid = side // PATCH
    order = torch.rand(n, grid * grid, generator=generator).argsort(1).argsort(1).to(pixels.device)
    hidden = (order < round(HIDDEN_PATCHES * grid * grid)).view(n, 1, grid, grid).float()
    mask = F.interpolate(hidden, scale_factor=PATCH, mode="nearest")
    images = pixels.float() / 127.5 - 1
    maps = tower.maps((images * (1 - mask)).to(tower.project.weight.dtype))
    drawn = F.pixel_shuffle(head(maps), CELL).float()
    patches = images.view(n, 3, grid, PATCH, grid, PATCH)
    mean = patches.mean((1, 3, 5), keepdim=True)
    spread = patches.var((1, 3, 5), keepdim=True).add(1e-2).sqrt()
    target = ((patches - mean) / spread).view_as(images)
    return ((drawn - target).square() * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))


def masked_audio(
    tower: AudioTower, head: nn.Module, mels: Tensor, lengths: Tensor, generator: torch.Generator
) -> Tensor:
    """Mean squared error of the hidden frames, by item: (n,)."""
    n, n_frames, _ = mels.shape
    spans = math.ceil(n_frames / SPAN)
    real = torch.arange(n_frames, device=mels.device)[None] < lengths[:, None]
    n_spans = (lengths / SPAN).ceil()
    scores = torch.rand(n, spans, generator=generator).to(mels.device)
    inside = torch.arange(spans, device=mels.device)[None] < n_spans[:, None]
    order = scores.masked_fill(~inside, 2.0).argsort(1).argsort(1)
    hidden = order < (HIDDEN_FRAMES * n_spans).round().clamp(min=1)[:, None]
    mask = hidden.repeat_interleave(SPAN, 1)[:, :n_frames] & real
    states, _ = tower.states(mels.masked_fill(mask[..., None], 0.0), lengths)
    drawn = head(states).float().view(n, -1, N_MELS)[:, :n_frames]
    errors = (drawn - mels).square().mean(2)
    return (errors * mask).sum(1) / mask.sum(1).clamp(min=1)


def self_supervised(
    objective: str, tower: nn.Module, head: nn.Module, inputs: tuple[Tensor, ...], generator: torch.Generator
) -> Tensor:
    """The loss of each item (n,) by the name of its objective."""
    if objective == "next-word":
        return next_word(tower, head, *inputs)  # type: ignore[arg-type]
    functions = {"masked-word": masked_word, "masked-image": masked_image, "masked-audio": masked_audio}
    return functions[objective](tower, head, *inputs, generator)  # type: ignore[operator, no-any-return]
