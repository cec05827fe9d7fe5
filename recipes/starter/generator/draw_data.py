"""Training data of the generator: vectors of text, images and speech, and the images to generate.

Plain objects have many vectors per modality and many images per artist, which are paired at random. Scenes with a
colour, a size or two objects have two captions, one image with a busy background, and one target image. A shard of
scenes is by one artist, so that an image's vector is paired with a target of the same style. Shards are never
rewritten.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multimodal.encoders.starter.parameters import SIDE
from recipes.starter.captioner import caption_data, captions
from recipes.starter.data import backgrounds, compositor
from recipes.starter.figures import evaluate
from recipes.starter.generator import draw_scenes
from recipes.starter.towers.train_image import trained_drawings
from recipes.starter.towers.train_speech import FEWEST_FRAMES, MOST_FRAMES, pad_clips, vary

SHARD = 2_048  # scenes
SHARDS = 52
SEEN = 9  # pictures of a plain thing, for each artist
DRAWN = 10  # drawings of a plain thing
HEARD = 14  # clips of a name
RESTYLED = 0.2  # of the pictures to be seen are redrawn
BACKGROUNDS = 4_000
FORMS = tuple(dict.fromkeys(captions.PLAIN_FORMS))
SHARED = 3  # concepts at most that a keyword is of, to be one's name
PLAIN = "draw_plain.npz"
Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Studio:
    """A space, its world, a busy stage for each artist, whose drawings are to be seen, and paper for the first."""

    model: evaluate.Shipped
    busy: list[compositor.Compositor]
    paper: draw_scenes.Easel

    @classmethod
    def open(cls, folder: Path, work: Path, seed: int) -> Studio:
        generator = torch.Generator().manual_seed(seed)
        ground = torch.from_numpy(backgrounds.pool(backgrounds.TRAINED, BACKGROUNDS, SIDE, seed))
        kept, whole = trained_drawings(work), draw_scenes.artist(work)
        banks = [compositor.with_redrawn(kept[[number]], 2, generator) for number in range(len(kept))]
        return cls(
            evaluate.Shipped(folder, work),
            [compositor.Compositor(bank, 1, ground, generator) for bank in banks],
            draw_scenes.easel(whole, seed),
        )

    def see(self, artist: int, scenes: list[captions.Scene]) -> Tensor:
        """(n, dim): vectors of the scenes among busy surroundings, in all weathers."""
        results = []
        for start in range(0, len(scenes), 256):
            drawn = self.busy[artist].draw(scenes[start : start + 256], SIDE, restyle=RESTYLED, jitter=0.8)
            worn = compositor.as_bytes(compositor.augment(drawn, self.busy[artist].generator))
            with torch.inference_mode():
                results.append(self.model.image(worn))
        return torch.cat(results)

    def draw(self, scenes: list[captions.Scene]) -> tuple[Tensor, Tensor]:
        """uint8 (n, 3, SIDE, SIDE) on paper, and int (n, 3) how they are laid out."""
        layouts = self.paper.layouts(len(scenes))
        parts = [
            compositor.as_bytes(self.paper.draw(scenes[start : start + 256], layouts[start : start + 256]))
            for start in range(0, len(scenes), 256)
        ]
        return torch.cat(parts), layouts


def plain(studio: Studio, work: Path, seed: int) -> Arrays:
    """texts (concepts, forms, dim), seen (artists, SEEN, concepts, dim), heard (clips, dim) and what they name,
    drawings uint8 (DRAWN, concepts, 3, SIDE, SIDE) and their layouts (DRAWN, concepts, 3); and what `by_keyword`
    gives."""
    names = studio.model.names
    scenes: list[captions.Scene] = [(captions.Subject(row),) for row in range(len(names))]
    texts = [form.format(x=name, a_x=captions.with_article(name)) for name in names for form in FORMS]
    artists = range(len(studio.busy))
    seen = torch.stack([
        torch.stack([studio.see(artist, scenes) for _ in range(SEEN)]) for artist in artists
    ])  # fmt: skip
    drawings, layouts = (
        torch.stack(part) for part in zip(*(studio.draw(scenes) for _ in range(DRAWN)), strict=True)
    )
    heard, named = hear(studio.model, work, seed)
    keyword_vectors, keyword_concepts = by_keyword(studio.model)
    return {
        "texts": studio.model.encode(texts).view(len(names), len(FORMS), -1).half().numpy(),
        "seen": seen.half().numpy(), "heard": heard.half().numpy(), "named": named, "drawings": drawings.numpy(),
        "layouts": layouts.numpy(), "keywords": keyword_vectors.half().numpy(), "keywords of": keyword_concepts,
    }  # fmt: skip


def by_keyword(model: evaluate.Shipped) -> tuple[Tensor, NDArray[np.int64]]:
    """Vectors (n, dim) of the trained keywords that are of few concepts, with and without an article, and each time one
    of the concepts."""
    owners: dict[str, list[int]] = {}
    for row, concept in enumerate(model.world):
        for keyword in concept.keywords:
            owners.setdefault(keyword, []).append(row)
    results = [(keyword, row) for keyword, rows in owners.items() if len(rows) <= SHARED for row in rows]
    texts = [text for keyword, _ in results for text in (keyword, captions.with_article(keyword))]
    return model.encode(texts), np.repeat([row for _, row in results], 2)


def hear(model: evaluate.Shipped, work: Path, seed: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Vectors of at most HEARD clips of each name, varied as in training, and the concepts."""
    data = np.load(work / "speech.npz")
    place = {name: row for row, name in enumerate(model.names)}
    starts, mels = data["starts"], torch.from_numpy(data["mels"])
    lengths = np.diff(starts)
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    clips: dict[int, list[int]] = {}
    for row, text in enumerate(data["texts"].tolist()):
        meant = caption_data.understood(text, set(place))
        if meant in place and FEWEST_FRAMES <= lengths[row] <= MOST_FRAMES:
            clips.setdefault(place[str(meant)], []).append(row)
    chosen = [
        (concept, row) for concept, rows in clips.items() for row in rng.sample(rows, min(HEARD, len(rows)))
    ]
    chosen.sort(key=lambda pair: int(lengths[pair[1]]))  # so that little is padding
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(chosen), 128):
            part = [
                mels[starts[row] : starts[row + 1]].float() / 127.5 - 1
                for _, row in chosen[start : start + 128]
            ]
            vectors.append(model.audio(*pad_clips([vary(clip, rng, generator, ease=0.3) for clip in part])))
    return torch.cat(vectors), np.array([concept for concept, _ in chosen])


def shard(studio: Studio, number: int, seed: int) -> Arrays:
    """texts (SHARD, 2, dim), seen (SHARD, dim), drawings uint8 (SHARD, 3, SIDE, SIDE), their layouts (SHARD, 3), and
    things (SHARD, 5): concept, colour and size of the first, concept and colour of the second, -1 for none."""
    rng, artist = random.Random(seed * 1000 + number), number % len(studio.busy)
    names = studio.model.names
    held = captions.held_out(len(names))
    scenes = []
    while len(scenes) < SHARD:
        scene = draw_scenes.random_scene(rng, len(names), held)
        if scene != (captions.Subject(scene[0].concept),):
            scenes.append(scene)
    texts = [captions.caption(scene, names, rng) for scene in scenes for _ in range(2)]
    subjects = np.array([described(scene) for scene in scenes])
    drawings, layouts = studio.draw(scenes)
    return {
        "texts": studio.model.encode(texts).view(SHARD, 2, -1).half().numpy(),
        "seen": studio.see(artist, scenes).half().numpy(), "drawings": drawings.numpy(),
        "layouts": layouts.numpy(), "things": subjects,
    }  # fmt: skip


def described(scene: captions.Scene) -> tuple[int, ...]:
    """Five numbers, as `shard` keeps them."""
    first, second = (*scene, captions.Subject(captions.NONE))[:2]
    return first.concept, first.colour, first.size, second.concept, second.colour


def gather(folder: Path, work: Path, seed: int = 73) -> None:
    """draw_plain.npz and draw_shard_*.npz, of the space in `folder`."""
    steps: dict[Path, Callable[[Studio], Arrays]] = {
        work / PLAIN: lambda studio: plain(studio, work, seed),
        **{
            work / f"draw_shard_{number:03}.npz": lambda studio, number=number: shard(studio, number, seed)
            for number in range(SHARDS)
        },
    }
    missing = {file: step for file, step in steps.items() if not file.exists()}
    if not missing:
        return
    studio = Studio.open(folder, work, seed)
    for file, step in missing.items():
        began = time.time()
        scratch = file.with_suffix(".tmp.npz")
        np.savez(scratch, **step(studio))  # type: ignore[arg-type]
        scratch.replace(file)
        print(f"{file.name} in {time.time() - began:.0f} s", flush=True)
