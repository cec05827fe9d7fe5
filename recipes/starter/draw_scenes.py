"""What the generator learns to draw: one thing or two on paper, by either artist, in the colours and sizes said.

Single things fill the picture, nearly upright and nearly in the middle; two stand side by side, over each other or
aslant. The paper is white, or now and then of a light colour. None of the held-out combinations is ever drawn.
"""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from multimodal.encoders._starter_nets import SIDE
from recipes.starter import captions, stage

SCALES = {
    captions.NONE: (0.78, 0.98),
    captions.SIZE_NAMES.index("small"): (0.32, 0.42),
    captions.SIZE_NAMES.index("large"): (0.98, 1.08),
}
JITTER = 0.35  # of turns and places, against what the towers are trained on
PAPERS = 600
TINTED = 0.25  # of the papers
KEPT_AT = 64  # pixels of a stored drawing
SHARES = {"plain": 0.35, "coloured": 0.27, "sized": 0.06, "pair": 0.32}
PAIR_COLOURED = 0.25  # of the things in pairs


def papers(seed: int) -> Tensor:
    """uint8 (PAPERS, 3, SIDE, SIDE), each of one light colour."""
    rng = np.random.default_rng(seed)
    colours = np.full((PAPERS, 3), 255.0)
    tinted = rng.random(PAPERS) < TINTED
    colours[tinted] = rng.uniform(205, 255, (int(tinted.sum()), 3))
    whole = np.broadcast_to(colours[:, :, None, None], (PAPERS, 3, SIDE, SIDE))
    return torch.from_numpy(whole.round().astype(np.uint8))


def easel(drawings: np.ndarray, seed: int) -> stage.Stage:
    """A stage of paper for uint8 drawings (artists, concepts, h, w, 4)."""
    generator = torch.Generator().manual_seed(seed)
    return stage.Stage(
        stage.kept_at(drawings, KEPT_AT), len(drawings), papers(seed), generator, scales=SCALES
    )


def artists(work: object) -> np.ndarray:
    """uint8 (2, concepts, h, w, 4): Noto's drawings and Twemoji's."""
    drawings = np.load(f"{work}/glyphs.npz")
    return np.stack([drawings["noto"], drawings["twemoji"]])


def random_scene(rng: random.Random, count: int, held: captions.HeldOut) -> captions.Scene:
    """One of SHARES' kinds."""
    kind = rng.choices(list(SHARES), list(SHARES.values()))[0]
    while True:
        scene = _scene(kind, rng, count)
        if len({thing.concept for thing in scene}) == len(scene) and captions.allowed(scene, held):
            return scene


def _scene(kind: str, rng: random.Random, count: int) -> captions.Scene:
    def colour() -> int:
        return rng.randrange(len(captions.COLOUR_NAMES))

    def one() -> int:
        return rng.randrange(count)

    if kind == "pair":
        return tuple(
            captions.Thing(one(), colour() if rng.random() < PAIR_COLOURED else captions.NONE)
            for _ in range(2)
        )
    if kind == "coloured":
        size = rng.randrange(2) if rng.random() < 0.15 else captions.NONE
        return (captions.Thing(one(), colour(), size),)
    return (captions.Thing(one(), size=rng.randrange(2) if kind == "sized" else captions.NONE),)
