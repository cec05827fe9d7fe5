"""Step 6: trains the image tower on rendered scenes, to match the points and captions of the frozen text tower.

Losses: a scene's vector selects its objects among all concepts (points and names), and its own caption in the batch,
where batches contain scenes that share an object but differ in colour or in the other object. An auxiliary classifier
on the features, discarded afterwards, accelerates training.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.starter.networks import ImageTower, TextTower
from multimodal.encoders.starter.parameters import SIDE
from multimodal.encoders.starter.tokenizer import Tokenizer
from recipes.starter.captioner import captions
from recipes.starter.data import backgrounds, compositor
from recipes.starter.data.concepts import read
from recipes.starter.figures import evaluate
from recipes.starter.towers.train_text import encode_sorted, scene_batch, scene_loss
from recipes.starter.towers.training import Training

KEPT_AT = 56  # pixels of a stored drawing
EARLY_SIDE = 40  # trained on first: 2.5 times as many pictures a minute; the last part is at full size
EARLY_SHARE = 0.5
WEIGHTS = {"things": 1.0, "match": 0.5, "classes": 1.0}
REDRAWN = 5  # redrawn versions of every drawing
EASY_SHARE = 0.15  # of the time, from plain drawings on simple grounds to everything
SCENE_SHARE = 0.4


@dataclass
class Drawn:
    """Pictures uint8 (n, 3, side, side), what they show, and captions."""

    images: Tensor
    scenes: list[captions.Scene]
    descriptions: list[str]


class Anchors:
    """The locked text side: concept points, name vectors, and any caption's vector."""

    def __init__(self, work: Path) -> None:
        saved = torch.load(work / "text.pt", weights_only=True)
        self.world = read(work / "world.jsonl")
        self.tower = TextTower().eval()
        self.tower.load_state_dict(saved["tower"])
        self.tokenizer = Tokenizer(json.loads((work / "vocabulary.json").read_text()))
        self.names = [concept.name for concept in self.world]
        self.points = saved["points"]
        self.name_vectors = self.encode(self.names)

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Tensor:
        """(n, DIM) unit rows of any texts."""
        return encode_sorted(self.tower, self.tokenizer(texts), chunks=max(1, len(texts) // 256)).float()


def shown(scenes: list[captions.Scene], count: int) -> Tensor:
    """(scenes, count): 1 for the concept of a scene, a half for each of two."""
    right = torch.zeros(len(scenes), count)
    for row, scene in enumerate(scenes):
        for subject in scene:
            right[row, subject.concept] = 1 / len(scene)
    return right


def losses(
    tower: ImageTower, classifier: nn.Linear, anchors: Anchors, drawn: Drawn, scale: Tensor
) -> dict[str, Tensor]:
    """The losses of the module's docstring, by name."""
    texts = anchors.encode(drawn.descriptions)
    with torch.autocast("cpu", torch.bfloat16):
        features = tower.features(drawn.images.contiguous(memory_format=torch.channels_last))
        logits = classifier(features)
        vectors = F.normalize(tower.project(features).float(), dim=-1)
    right = shown(drawn.scenes, len(anchors.names))
    banks = (anchors.points, anchors.name_vectors)
    parts = [F.cross_entropy(scale * vectors @ bank.T, right, label_smoothing=0.02) for bank in banks]
    return {
        "things": (parts[0] + parts[1]) / 2,
        "match": scene_loss(vectors, texts, drawn.scenes, scale),
        "classes": F.cross_entropy(logits.float(), right, label_smoothing=0.02),
    }


def trained_drawings(work: Path) -> Tensor:
    """uint8 (artists, concepts, 4, KEPT_AT, KEPT_AT): Noto's and Twemoji's."""
    drawings = np.load(work / "glyphs.npz")
    return compositor.kept_at(np.stack([drawings["noto"], drawings["twemoji"]]), KEPT_AT)


def draw_batch(
    scene_compositor: compositor.Compositor,
    names: list[str],
    held: captions.HeldOut,
    rng: random.Random,
    batch: int,
    side: int,
    ease: float,
) -> Drawn:
    """A batch of scenes. `ease` of 1 shows upright drawings on simple grounds, 0 everything."""
    count = round(batch * SCENE_SHARE * (1 - ease))
    scenes, descriptions = scene_batch(rng, count, names, held) if count else ([], [])
    plain = [(captions.Subject(concept),) for concept in rng.sample(range(len(names)), batch - count)]
    descriptions += [captions.caption(scene, names, rng) for scene in plain]
    images = scene_compositor.draw(plain, side, restyle=0.3 * (1 - ease), jitter=1 - 0.7 * ease)
    if scenes:
        images = torch.cat([scene_compositor.draw(scenes, side, restyle=0.2), images])
    worn = compositor.augment(images, scene_compositor.generator)
    spared = int(len(images) * ease)  # the last ones keep their first looks
    if spared:
        worn[-spared:] = images[-spared:]
    return Drawn(compositor.as_bytes(worn), scenes + plain, descriptions)


def run(work: Path, *, minutes: float, batch: int = 256, seed: int = 13) -> None:
    """Trains for `minutes` of wall time in total (interrupted runs resume); writes image.pt."""
    torch.manual_seed(seed)
    anchors = Anchors(work)
    held = captions.held_out(len(anchors.world))
    tower = ImageTower().to(memory_format=torch.channels_last)
    classifier = nn.Linear(tower.project.in_features, len(anchors.names))
    training = Training(
        work,
        "image",
        {"tower": tower, "classifier": classifier},
        minutes=minutes,
        peak=4e-3,
        decay=0.02,
        warm_up=100,
        seed=seed,
        muon="tower",
    )
    whole = torch.from_numpy(backgrounds.pool(backgrounds.TRAINED, 11_000, SIDE, training.seed))
    whole_simple = torch.from_numpy(backgrounds.pool(backgrounds.SIMPLE, 1_000, SIDE, training.seed))
    ground, simple = whole, whole_simple
    generator = torch.Generator().manual_seed(training.seed)
    drawings = trained_drawings(work)
    bank = compositor.with_redrawn(drawings, REDRAWN, generator)
    scene_compositor = compositor.Compositor(bank, len(drawings), ground, generator)
    rng = random.Random(training.seed)
    while training.going_on():
        side = EARLY_SIDE if training.done < EARLY_SHARE else SIDE
        ease = max(0.0, 1 - training.done / EASY_SHARE)
        if ground.shape[2] != side:  # once, when pictures grow or at the start
            ground, simple = (compositor.resized(pool, side) for pool in (whole, whole_simple))
        scene_compositor.backgrounds = simple if rng.random() < ease else ground
        drawn = draw_batch(scene_compositor, anchors.names, held, rng, batch, side, ease)
        parts = losses(tower, classifier, anchors, drawn, training.scale)
        loss = sum(WEIGHTS[name] * part for name, part in parts.items())
        training.learn(loss)
        if training.step % 50 == 0:
            training.log(side=side, loss=loss, **parts)
        if training.step % 400 == 0:
            training.save()
        if training.step % 800 == 0:
            tower.eval()
            training.log(**evaluate.quick_image(tower, anchors, work))
            tower.train()
    training.save()
    torch.save(tower.eval().state_dict(), work / "image.pt")
