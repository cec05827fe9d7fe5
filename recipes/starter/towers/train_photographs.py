"""Step 12: trains the image tower on pictures as cluttered as photographs. Text and speech towers stay fixed.

Half of each batch is of the kinds of `joint_finetune`. The other half has backgrounds with the statistics of
photographs (`natural`), smaller things, turned farther, behind lines and other things. The losses are those of
`joint_finetune`, with the means of a name's spoken vectors as the prototypes. No photograph is used.

The shipped weights took 1,600 steps with the distances of lines uniform, plain backgrounds and without `KEEP`, and 760
more as it is here, from 0.85 of the way to the weights after those. The captioner was trained again on vectors of the
result.

The final weights are interpolated between those before and after (Wortsman et al. 2022); the factor is chosen by
`choose` on newly drawn pictures of both halves and the monitored kinds of the card.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.encoders.starter.networks import AudioTower, ImageTower
from multimodal.encoders.starter.parameters import MAX_FRAMES, SIDE
from multimodal.encoders.starter.preprocessing import log_mel
from recipes.starter.captioner import captions
from recipes.starter.data import backgrounds, compositor, natural, occlusion, voices
from recipes.starter.data.prepare_speech import resample
from recipes.starter.figures import evaluate, judges
from recipes.starter.towers.align import NEAR, SCALE
from recipes.starter.towers.joint_finetune import COLOUR, Colours, coloured
from recipes.starter.towers.train_image import Anchors, Drawn, shown, trained_drawings
from recipes.starter.towers.train_speech import pad_clips
from recipes.starter.towers.train_text import scene_batch, scene_loss
from recipes.starter.towers.training import Training

OLD = (44, 32, 32)  # pictures per batch: single things, scenes, single things in a stated colour
NEW = (92, 32, 24)
GROUNDS = (10_000, 24_000)  # of the kinds of both halves
REDRAWN = 6
KEEP = 3.0  # weight of the distance to the vectors of the weights before
ABOUT_RIGHT = 0.6  # cosine with its caption, from which on a vector of the weights before is kept
TAKES = 6  # of each name, for the prototypes of speech
WIDER = 0.61  # radians: 35 degrees
SMALLER = {
    captions.NONE: (0.36, 1.0),
    captions.SIZE_NAMES.index("small"): (0.24, 0.4),
    captions.SIZE_NAMES.index("large"): (0.9, 1.15),
}
PATCHED, ENLARGED = 0.3, 0.4  # shares of the backgrounds of the second half
SHARP = 8.0  # contrast of the border between two patches
PART = (0.35, 1.0)  # of a background's side that is enlarged
DIRECTED = ("arrow", "o'clock", "thirty", "left", "right", "up", "down")
FACTORS = (0.0, 0.65, 0.8, 0.9)
MOST_LOST = {"colour + thing": 0.5, "two things": 0.5}  # points of recall: one of 200
MOST_LOST_OF_ALL = 0.3  # of the kinds that hold all concepts
MONITORED_GROUNDS = (1_500, 1_500)
HERE = Path(__file__).parents[1]


def directed(names: list[str]) -> frozenset[int]:
    """Concepts that differ from others by their direction alone, as arrows and the faces of clocks do."""
    return frozenset(row for row, name in enumerate(names) if any(word in name.split() for word in DIRECTED))


@torch.no_grad()
def spoken(work: Path, names: list[str], seed: int = 61) -> Tensor:
    """The mean vector of each name, spoken by training voices: unit rows (concepts, DIM)."""
    tower, espeak, rng = AudioTower().eval(), voices.Espeak(), random.Random(seed)
    tower.load_state_dict(torch.load(work / "audio_accents.pt", weights_only=True))
    result = torch.empty(len(names), tower.project.out_features)
    for row, name in enumerate(names):
        takes = [
            log_mel(
                np.ascontiguousarray(resample(espeak.say(name, voices.training_voice(rng)), espeak.rate_hz))
            )
            for _ in range(TAKES)
        ]
        result[row] = tower(*pad_clips([take[:MAX_FRAMES] for take in takes])).mean(0)
    return F.normalize(result, dim=-1)


class Cluttered(compositor.Compositor):
    """Shows parts of its backgrounds, some of them patched from two where a third is light or dark."""

    def ground(self, count: int) -> Tensor:
        """See Compositor; a pool has many more parts and patches than pictures."""
        first, second, third = (super(Cluttered, self).ground(count) for _ in range(3))
        light = third.mean(1, keepdim=True)
        mask = ((light - light.mean((2, 3), keepdim=True)) * SHARP + 0.5).clamp(0, 1)
        rows = torch.rand(count, 1, 1, 1, generator=self.generator) < PATCHED
        return self.parts(torch.where(rows, first * mask + second * (1 - mask), first))

    def parts(self, images: Tensor) -> Tensor:
        """A share of the images, each enlarged from a random part of it."""
        rows = (torch.rand(len(images), generator=self.generator) < ENLARGED).nonzero()[:, 0]
        if not len(rows):
            return images
        edge = compositor.uniform(len(rows), *PART, self.generator)
        across, down = ((1 - edge) * compositor.uniform(len(rows), -1, 1, self.generator) for _ in range(2))
        empty = torch.zeros(len(rows))
        matrix = torch.stack([torch.stack([edge, empty, across], 1), torch.stack([empty, edge, down], 1)], 1)
        grid = F.affine_grid(matrix, [len(rows), *images.shape[1:]], align_corners=False)
        images = images.clone()
        images[rows] = F.grid_sample(images[rows], grid, padding_mode="border", align_corners=False)
        return images


class Scenes:
    """Draws batches of both halves."""

    def __init__(
        self,
        work: Path,
        names: list[str],
        seed: int,
        *,
        grounds: tuple[int, int] = GROUNDS,
        redrawn: int = REDRAWN,
    ) -> None:
        self.names, self.held, self.rng = names, captions.held_out(len(names)), random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        drawings = trained_drawings(work)
        bank = compositor.with_redrawn(drawings, redrawn, self.generator)
        glyphs = np.load(work / "glyphs.npz")
        pieces = np.concatenate([glyphs["noto"], glyphs["twemoji"]])
        old = backgrounds.pool(backgrounds.TRAINED, grounds[0], SIDE, seed)
        new = backgrounds.pool(natural.makers(pieces), grounds[1], SIDE, seed)
        self.old, self.new = (
            made(bank, len(drawings), torch.from_numpy(pool), self.generator)
            for made, pool in ((compositor.Compositor, old), (Cluttered, new))
        )
        self.new.scales, self.new.turn, self.new.upright = SMALLER, WIDER, directed(names)

    def drawn(self, source: compositor.Compositor, counts: tuple[int, int, int]) -> Drawn:
        """Pictures of one half, scenes first, then single things, then those in a stated colour."""
        plain, pairs, tinted = counts
        scenes, descriptions = scene_batch(self.rng, pairs, self.names, self.held)
        single: list[captions.Scene] = [
            (captions.Subject(concept),) for concept in self.rng.sample(range(len(self.names)), plain)
        ]
        single += coloured(self.rng, tinted, len(self.names), self.held)
        descriptions += [captions.caption(scene, self.names, self.rng) for scene in single]
        images = torch.cat([source.draw(scenes, SIDE, restyle=0.2), source.draw(single, SIDE, restyle=0.35)])
        if source is self.new:
            images = occlusion.hide(images, source.ground(len(images)), self.generator)
        else:
            images = occlusion.some_lined(images, self.generator, occlusion.LINED_ELSEWHERE)
        images = compositor.augment(images, self.generator)
        return Drawn(compositor.as_bytes(images), scenes + single, descriptions)

    def batch(self, old: tuple[int, int, int] = OLD, new: tuple[int, int, int] = NEW) -> Drawn:
        """Both halves, one after the other; how many pictures of each kind."""
        halves = [self.drawn(self.old, old), self.drawn(self.new, new)]
        return Drawn(
            torch.cat([half.images for half in halves]),
            [scene for half in halves for scene in half.scenes],
            [text for half in halves for text in half.descriptions],
        )


def moved(vectors: Tensor, former: Tensor, texts: Tensor) -> Tensor:
    """The mean distance (1 - cosine) of vectors to those of the weights before, where these were about right."""
    is_right = ((former * texts).sum(1) > ABOUT_RIGHT).float()
    return ((1 - (vectors * former).sum(1)) * is_right).sum() / is_right.sum().clamp(min=1)


def losses(
    tower: ImageTower,
    before: ImageTower,
    drawn: Drawn,
    anchors: Anchors,
    banks: tuple[Tensor, ...],
    colours: Colours,
) -> dict[str, Tensor]:
    """The losses of one batch, by name. before: the tower that the training began with, whose vectors of the first
    half are kept where they were right, because captions and pictures are decoded from them."""
    texts, first = anchors.encode(drawn.descriptions), sum(OLD)
    images = drawn.images.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        vectors = tower(images)
        with torch.no_grad():
            former = before(images[:first])
    right = shown(drawn.scenes, len(anchors.names))
    subjects = [F.cross_entropy(SCALE * vectors @ bank.T, right) for bank in banks]
    return {
        "things": torch.stack(subjects).mean(),
        "match": scene_loss(vectors, texts, drawn.scenes, torch.tensor(SCALE)),
        "near": NEAR * (1 - (vectors * texts).sum(1)).mean(),
        "colour": COLOUR * colours.loss(vectors, drawn.scenes),
        "kept": KEEP * moved(vectors[:first], former, texts[:first]),
    }


def run(work: Path, *, minutes: float, seed: int = 67, peak: float = 2e-3) -> None:
    """Trains for `minutes` of wall time in total (interrupted runs resume); writes image_after.pt."""
    anchors = Anchors(work)
    tower, before = (ImageTower().to(memory_format=torch.channels_last) for _ in range(2))
    for item in (tower, before.eval().requires_grad_(False)):
        item.load_state_dict(torch.load(work / "image_met.pt", weights_only=True))
    cache = work / "spoken.pt"
    if not cache.exists():
        torch.save(spoken(work, anchors.names), cache)
    banks = (anchors.points, anchors.name_vectors, torch.load(cache, weights_only=True))
    colours = Colours(anchors, captions.held_out(len(anchors.names)))
    scenes = Scenes(work, anchors.names, seed)
    training = Training(
        work, "photographs", {"tower": tower}, minutes=minutes, peak=peak, decay=0.02, warm_up=60,
        seed=seed, muon="tower",
    )  # fmt: skip
    while training.going_on():
        parts = losses(tower, before, scenes.batch(), anchors, banks, colours)
        training.learn(torch.stack(list(parts.values())).sum())
        if training.step % 50 == 1:
            training.log(loss=sum(parts.values()), **parts)
        if training.step % 250 == 0:
            training.save()
    training.save()
    torch.save(tower.eval().state_dict(), work / "image_after.pt")


def between(before: dict[str, Tensor], after: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Weights at `factor` of the way from one to the other; counters are those after."""
    return {
        name: torch.lerp(value, after[name], factor) if value.is_floating_point() else after[name]
        for name, value in before.items()
    }


def monitored(work: Path, names: list[str], seed: int = 71) -> dict[str, Tensor]:
    """Pictures that choose the factor, uint8 (concepts, 3, SIDE, SIDE) by kind: both halves of training, newly drawn,
    and three kinds of the model card that are monitored anyway."""
    scenes = Scenes(work, names, seed, grounds=MONITORED_GROUNDS, redrawn=0)
    single: list[captions.Scene] = [(captions.Subject(concept),) for concept in range(len(names))]
    kinds = {
        kind: compositor.as_bytes(compositor.augment(source.draw(single, SIDE), scenes.generator))
        for kind, source in (("old", scenes.old), ("new", scenes.new))
    }
    return kinds | {kind: judges.images(work, kind) for kind in ("clean", "ground", "both")}


def choose(work: Path) -> float:
    """Writes image_final.pt: the weights at the factor with the best mean recall over the monitored kinds, among those
    that keep every kind within MOST_LOST of the weights before. Returns the factor."""
    anchors = Anchors(work)
    before, after = (torch.load(work / f"image_{name}.pt", weights_only=True) for name in ("met", "after"))
    pictures, tower = monitored(work, anchors.names), ImageTower().eval()
    rows: dict[float, dict[str, float]] = {}
    for factor in FACTORS:
        tower.load_state_dict(between(before, after, factor))
        rows[factor] = {
            kind: evaluate.recall(
                anchors.name_vectors, judges.see(tower, images), evaluate.each(len(images))
            )["R@1"]
            for kind, images in pictures.items()
        }
        mixed = evaluate.combinations(tower, anchors, work)
        rows[factor] |= {kind: figures["R@1"] for kind, figures in mixed.items()}
        print(factor, rows[factor], flush=True)
    kept = {
        factor: sum(row.values())
        for factor, row in rows.items()
        if all(row[kind] >= rows[0.0][kind] - MOST_LOST.get(kind, MOST_LOST_OF_ALL) for kind in row)
    }
    best = max(kept, key=kept.__getitem__)
    (work / "factors.json").write_text(json.dumps({"chosen": best, "R@1": rows}, indent=1) + "\n")
    torch.save(between(before, after, best), work / "image_final.pt")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="recipes.starter.towers.train_photographs", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--work", type=Path, default=HERE / "runs", help="where data and checkpoints go")
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run(given.work, minutes=given.minutes)
    print("factor", choose(given.work))


if __name__ == "__main__":
    main()
