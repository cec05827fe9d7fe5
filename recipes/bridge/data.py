"""Training data of the two spaces, and the corpus of the bridge.

Images come with captions, speech with its words. No image is paired with speech. The bridge uses text, and optionally
unpaired images and speech.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recipes.starter.captioner import captions
from recipes.starter.data import backgrounds, compositor
from recipes.starter.data.concepts import Concept, read
from recipes.starter.figures import judges
from recipes.starter.towers.train_speech import FEWEST_FRAMES, pad_clips, vary

SIDE = 32
MOST_FRAMES = 150  # longer clips are left out: they would pad their whole batch
HELD_OUT_SHARE, HELD_OUT_SEED = 0.1, 2026
SCENE_SHARE, KEYWORD_SHARE = (
    0.15,
    0.2,
)  # of the pictures: captioned as a scene, by a keyword; the rest by name
CORPUS_SCENES = 6000


class Pictures:
    """Freshly drawn pictures with what they are called."""

    def __init__(self, work: Path, world: list[Concept], seed: int) -> None:
        self.world, self.names = world, [concept.name for concept in world]
        self.rng = random.Random(seed)
        self.held = captions.held_out(len(world))
        drawings = np.load(work / "glyphs.npz")
        glyphs = compositor.kept_at(np.stack([drawings["noto"], drawings["twemoji"]]), judges.KEPT_AT)
        ground = torch.from_numpy(backgrounds.pool(judges.QUIET, 2000, SIDE, seed))
        self.compositor = compositor.Compositor(glyphs, 2, ground, torch.Generator().manual_seed(seed))

    def batch(self, size: int) -> tuple[Tensor, list[str]]:
        """uint8 (size, 3, SIDE, SIDE), and a caption of each."""
        n_scenes = round(size * SCENE_SHARE)
        scenes = [captions.random_scene(self.rng, len(self.names), self.held) for _ in range(n_scenes)]
        descriptions = [captions.caption(scene, self.names, self.rng) for scene in scenes]
        concepts = self.rng.sample(range(len(self.names)), size - n_scenes)
        descriptions += [self.said_of(concept) for concept in concepts]
        return self.drawn([*scenes, *((captions.Subject(concept),) for concept in concepts)]), descriptions

    def drawn(self, scenes: list[captions.Scene]) -> Tensor:
        """Augmented images (n, 3, SIDE, SIDE) uint8."""
        return compositor.as_bytes(
            compositor.augment(self.compositor.draw(scenes, SIDE, jitter=0.7), self.compositor.generator)
        )

    def said_of(self, concept: int) -> str:
        """Its name, mostly; a keyword; its name in a phrase."""
        keywords = self.world[concept].keywords
        if keywords and self.rng.random() < KEYWORD_SHARE:
            return self.rng.choice(keywords)
        if self.rng.random() < 0.3:
            return captions.caption((captions.Subject(concept),), self.names, self.rng)
        return self.names[concept]


class Speech:
    """Recorded clips with their words."""

    def __init__(self, work: Path, seed: int) -> None:
        data = np.load(work / "speech.npz")
        self.mels, self.starts = torch.from_numpy(data["mels"]), data["starts"]
        self.texts, self.concepts = data["texts"].tolist(), data["concepts"].tolist()
        self.lengths = np.diff(self.starts)
        self.usable = np.flatnonzero((self.lengths <= MOST_FRAMES) & (self.lengths >= FEWEST_FRAMES))
        self.rng, self.chooser = random.Random(seed), np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def clip(self, row: int) -> Tensor:
        """(frames, N_MELS) in -1 to 1."""
        return self.mels[self.starts[row] : self.starts[row + 1]].float() / 127.5 - 1

    def batch(self, size: int, ease: float) -> tuple[Tensor, Tensor, list[str]]:
        """mels (size, frames, N_MELS), lengths, and the words; a share `ease` of the clips stay as recorded."""
        pool = self.chooser.choice(self.usable, 4 * size, replace=False)
        pool = pool[np.argsort(self.lengths[pool], kind="stable")]
        start = size * int(self.chooser.integers(4))
        rows = pool[start : start + size].tolist()
        mels, lengths = pad_clips([vary(self.clip(row), self.rng, self.generator, ease) for row in rows])
        return mels, lengths, [self.texts[row] for row in rows]


def world_of(work: Path) -> list[Concept]:
    return read(work / "world.jsonl")


def vocabulary_of(work: Path) -> list[str]:
    content: list[str] = json.loads((work / "vocabulary.json").read_text())
    return content


def held_out_concepts(world: list[Concept]) -> list[int]:
    """Those that the bridging corpus never names."""
    return sorted(random.Random(HELD_OUT_SEED).sample(range(len(world)), round(HELD_OUT_SHARE * len(world))))


def corpus(world: list[Concept], seed: int = 0) -> list[str]:
    """Names, keywords and captions of scenes, none of which names a held-out concept."""
    rng, names = random.Random(seed), [concept.name for concept in world]
    kept_out = [names[row] for row in held_out_concepts(world)]
    named = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(kept_out, key=len, reverse=True))) + r")\b")
    held = captions.held_out(len(world))
    texts = [*names, *(word for concept in world for word in concept.keywords)]
    for _ in range(CORPUS_SCENES):
        texts.append(captions.caption(captions.random_scene(rng, len(names), held, plain=0.3), names, rng))
    return [text for text in dict.fromkeys(texts) if not named.search(text)]
