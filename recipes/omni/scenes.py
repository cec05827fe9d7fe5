"""Batches of scenes and their captions: the data of the starter's image tower and captioner, drawn in a worker."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from multimodal.encoders.starter.parameters import SIDE
from recipes.starter.captioner import captions
from recipes.starter.captioner.caption_data import describe
from recipes.starter.data import backgrounds, compositor
from recipes.starter.data.concepts import read
from recipes.starter.towers.train_image import trained_drawings

PLAIN_SHARE, COLOURED_SHARE = 0.4, 0.2
BACKGROUNDS, REDRAWN = 3_000, 2


def coloured(rng: random.Random, count: int, held: captions.HeldOut) -> captions.Scene:
    """A single object with a stated colour."""
    while True:
        scene = (captions.Subject(rng.randrange(count), rng.randrange(len(captions.COLOUR_NAMES))),)
        if captions.allowed(scene, held):
            return scene


class SceneStream(IterableDataset[tuple[Tensor, list[str]]]):
    """Endless batches: pixels (n, 3, SIDE, SIDE) uint8 and captions. cores: as for `ChartStream`."""

    def __init__(self, work: Path, size: int, seed: int, cores: set[int] | None = None) -> None:
        self.work, self.size, self.seed, self.cores = work, size, seed, cores

    def __iter__(self) -> Iterator[tuple[Tensor, list[str]]]:
        if get_worker_info() is not None and self.cores is not None:
            os.sched_setaffinity(0, self.cores)
        torch.set_num_threads(1)
        names = [concept.name for concept in read(self.work / "world.jsonl")]
        known, held = set(names), captions.held_out(len(names))
        rng, generator = random.Random(self.seed), torch.Generator().manual_seed(self.seed)
        drawings = trained_drawings(self.work)
        ground = torch.from_numpy(backgrounds.pool(backgrounds.TRAINED, BACKGROUNDS, SIDE, self.seed))
        bank = compositor.with_redrawn(drawings, REDRAWN, generator)
        scene_compositor = compositor.Compositor(bank, len(drawings), ground, generator)
        while True:
            scenes: list[captions.Scene] = []
            for _ in range(self.size):
                chance = rng.random()
                if chance < PLAIN_SHARE:
                    scenes.append((captions.Subject(rng.randrange(len(names))),))
                elif chance < PLAIN_SHARE + COLOURED_SHARE:
                    scenes.append(coloured(rng, len(names), held))
                else:
                    scenes.append(captions.random_scene(rng, len(names), held))
            drawn = scene_compositor.draw(scenes, SIDE, restyle=0.25)
            yield (
                compositor.as_bytes(compositor.augment(drawn, generator)),
                [describe(scene, names, known) for scene in scenes],
            )
