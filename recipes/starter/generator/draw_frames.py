"""Targets of the generator's prior: every object in every colour, encoded by the autoencoder in each frame.

A scene of one object fills the image and, if no size is stated, also a separate frame; a small one fills a half, and
two objects fill two halves. Unused frames are white.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.pipelines.generation.backends.space_pipeline import tokens_of
from multimodal.pipelines.generation.backends.space_prior import FRAMES
from recipes.starter.captioner import captions
from recipes.starter.generator import draw_scenes, train_draw_codec
from recipes.starter.generator.draw_scenes import ASIDE, CELL, CENTRED, LARGE, SIDE, SMALL, Place

GRID = 4  # tokens a side
SIDES = {"full": GRID, "large": GRID, "aside": FRAMES["aside"], "half": FRAMES["first"]}  # in tokens
EDGES = {"full": CENTRED[captions.NONE], "large": CENTRED[LARGE], "aside": ASIDE, "half": CELL}  # in pixels


@dataclass(frozen=True)
class Frames:
    """(colours + 1, concepts, tokens, channels) of each frame, NONE's own colours last; and a token grid of paper."""

    full: Tensor
    large: Tensor
    aside: Tensor
    half: Tensor
    paper: Tensor

    @classmethod
    def of(cls, work: Path, seed: int = 83) -> Frames:
        """Renders and encodes again, in half a minute on two cores."""
        codec = train_draw_codec.codec().eval()
        codec.load_state_dict(torch.load(work / "draw_codec.pt", weights_only=True))
        easel = draw_scenes.easel(draw_scenes.artist(work), seed)
        dyes = [*range(len(captions.COLOUR_NAMES)), captions.NONE]
        results = {name: torch.stack([_drawn(codec, easel, dye, name) for dye in dyes]) for name in SIDES}
        return cls(**results, paper=encoded(codec, torch.ones(1, 3, SIDE, SIDE))[0])

    def targets(self, scenes: Tensor) -> Tensor:
        """scenes int (n, 5): concept, colour and size of a first thing, concept and colour of a second, -1 for none
        -> (n, 33, channels)."""
        first, dye, size, second, other_dye = scenes.T
        pair = second >= 0
        small, large = (size == SMALL) & ~pair, (size == LARGE) & ~pair
        whole = torch.where(large[:, None, None], self.large[dye, first], self.full[dye, first])
        blank = {side: _corner(self.paper[None], side) for side in (FRAMES["aside"], FRAMES["first"])}

        def unless(empty: Tensor, frame: Tensor, paper: Tensor) -> Tensor:
            return torch.where(empty[:, None, None], paper, frame)

        return torch.cat([
            unless(pair | small, whole, self.paper),
            unless(pair | small | large, self.aside[dye, first], blank[FRAMES["aside"]]),
            unless(~(pair | small), self.half[dye, first], blank[FRAMES["first"]]),
            unless(~pair, self.half[other_dye, second.clamp(min=0)], blank[FRAMES["first"]]),
        ], dim=1)  # fmt: skip


def encoded(codec: object, images: Tensor) -> Tensor:
    """float32 (n, 3, SIDE, SIDE) in [0, 1], as bytes hold them -> float32 tokens (n, 16, channels)."""
    blocks = F.pixel_unshuffle((images * 255).round() / 127.5 - 1, train_draw_codec.BLOCK)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        latents = codec.encode(blocks.contiguous(memory_format=torch.channels_last)).latent_dist.mean  # type: ignore[attr-defined]
    return tokens_of(latents.float())


def _drawn(codec: object, easel: draw_scenes.Easel, dye: int, name: str) -> Tensor:
    edge = EDGES[name]
    start = (SIDE - edge) // 2 if SIDES[name] == GRID else 0
    parts = []
    for concepts in torch.arange(easel.drawings.shape[1]).split(256):
        paper = torch.ones(len(concepts), 3, SIDE, SIDE)
        for sheet, concept in zip(paper, concepts.tolist(), strict=True):
            easel.put(sheet, 0, captions.Subject(concept, dye), Place(start, start, edge))
        parts.append(_corner(encoded(codec, paper), SIDES[name]))
    return torch.cat(parts)


def _corner(tokens: Tensor, side: int) -> Tensor:
    """Those of the upper left corner."""
    return tokens.unflatten(1, (GRID, GRID))[:, :side, :side].flatten(1, 2)
