"""Step 5: the image tower, drawn scenes toward the points and captions of the finished text tower (locked).

Losses: a scene's vector picks its things among all concepts (points and names both), and its own caption among the
batch's, where batches hold scenes that share a thing but not a colour or company.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.encoders._starter_features import Tokenizer
from multimodal.encoders._starter_nets import SIDE, ImageTower, TextTower
from recipes.starter import backgrounds, captions, evaluate, stage
from recipes.starter.concepts import read
from recipes.starter.train_text import Targets, encode_sorted, scene_batch, scene_loss
from recipes.starter.training import Training

KEPT_AT = 56  # pixels of a stored drawing
EARLY_SIDE = 48  # trained on first: 1.8 times as many pictures a minute; the last part is at full size
EARLY_SHARE = 0.55
EASY_SHARE = 0.15  # of the time, from plain drawings on simple grounds to everything
SCENE_SHARE = 0.4


class Anchors:
    """The locked text side: concept points, name vectors, and any caption's vector."""

    def __init__(self, work: Path) -> None:
        saved = torch.load(work / "text.pt", weights_only=True)
        self.world = read(work / "world.jsonl")
        self.tower = TextTower().eval()
        self.tower.load_state_dict(saved["tower"])
        self.tokenizer = Tokenizer(json.loads((work / "vocabulary.json").read_text()))
        self.targets = Targets(saved["targets"]["concepts"])
        self.targets.load_state_dict(saved["targets"])
        self.names = [concept.name for concept in self.world]
        self.points = saved["points"]
        self.name_vectors = self.encode(self.names)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Tensor:
        """(n, DIM) unit rows of any texts."""
        return encode_sorted(self.tower, self.tokenizer(texts), chunks=max(1, len(texts) // 256)).float()


def things_loss(
    vectors: Tensor, banks: tuple[Tensor, ...], scenes: list[captions.Scene], scale: Tensor
) -> Tensor:
    """Cross-entropy against all concepts; a scene of two has half on each. Averaged over the banks."""
    right = torch.zeros(len(scenes), len(banks[0]))
    for row, scene in enumerate(scenes):
        for thing in scene:
            right[row, thing.concept] = 1 / len(scene)
    return sum(
        F.cross_entropy(scale * vectors @ bank.T, right, label_smoothing=0.02) for bank in banks
    ) / len(banks)


def trained_drawings(work: Path) -> Tensor:
    """uint8 (artists, concepts, 4, KEPT_AT, KEPT_AT): Noto's and Twemoji's."""
    drawings = np.load(work / "glyphs.npz")
    return stage.kept_at(np.stack([drawings["noto"], drawings["twemoji"]]), KEPT_AT)


def draw_batch(theatre: stage.Stage, anchors: Anchors, held: captions.HeldOut, rng: random.Random, batch: int,
               side: int,
    ease: float,
) -> tuple[Tensor, list[captions.Scene], list[str]]:  # fmt: skip
    """Pictures uint8 (batch, 3, side, side), what they show, and captions.

    `ease` of 1 shows upright drawings on simple grounds, 0 everything.
    """
    count = round(batch * SCENE_SHARE * (1 - ease))
    scenes, told = scene_batch(rng, count, anchors.names, held) if count else ([], [])
    plain = [(captions.Thing(concept),) for concept in rng.sample(range(len(anchors.names)), batch - count)]
    told += [captions.caption(scene, anchors.names, rng) for scene in plain]
    pictures = theatre.draw(plain, side, restyle=0.4 * (1 - ease), jitter=1 - 0.7 * ease)
    if scenes:
        pictures = torch.cat([theatre.draw(scenes, side, restyle=0.2), pictures])
    worn = stage.weather(pictures, theatre.generator)
    spared = int(len(pictures) * ease)  # the last ones keep their first looks
    if spared:
        worn[-spared:] = pictures[-spared:]
    return stage.as_bytes(worn), scenes + plain, told


def run(work: Path, *, minutes: float, batch: int = 160, seed: int = 13) -> None:
    """Train for `minutes` of wall time in all (a stopped run goes on where it was); write image.pt."""
    torch.manual_seed(seed)
    anchors = Anchors(work)
    held = captions.held_out(len(anchors.world))
    tower = ImageTower().to(memory_format=torch.channels_last)
    training = Training(
        work,
        "image",
        {"tower": tower},
        minutes=minutes,
        peak=4e-3,
        decay=0.02,
        warm_up=100,
        seed=seed,
        muon=True,
    )
    ground = torch.from_numpy(backgrounds.pool(backgrounds.TRAINED, 11_000, SIDE, training.seed))
    simple = torch.from_numpy(backgrounds.pool(backgrounds.SIMPLE, 1_000, SIDE, training.seed))
    theatre = stage.Stage(trained_drawings(work), ground, torch.Generator().manual_seed(training.seed))
    rng = random.Random(training.seed)
    while training.going_on():
        side = EARLY_SIDE if training.done < EARLY_SHARE else SIDE
        ease = max(0.0, 1 - training.done / EASY_SHARE)
        theatre.backgrounds = simple if rng.random() < ease else ground
        pictures, scenes, told = draw_batch(theatre, anchors, held, rng, batch, side, ease)
        texts = anchors.encode(told)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = tower(pictures.contiguous(memory_format=torch.channels_last))
        things = things_loss(vectors, (anchors.points, anchors.name_vectors), scenes, training.scale)
        match = scene_loss(vectors, texts, scenes, training.scale)
        training.learn(things + 0.5 * match)
        if training.step % 50 == 0:
            training.log(side=side, loss=things + 0.5 * match, things=things, match=match)
        if training.step % 400 == 0:
            training.save()
            tower.eval()
            training.log(**evaluate.quick_image(tower, anchors, work))
            tower.train()
    training.save()
    torch.save(tower.eval().state_dict(), work / "image.pt")
