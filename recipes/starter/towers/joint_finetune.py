"""Step 9: trains the whole image and speech towers jointly, to match the frozen text tower and each other.

Losses of `align` at the text tower's scale, for both towers: classify the concept by its point, its name and the other
modality's prototype; find the own caption in the batch; lie near it. A prototype is a running mean of a modality's
latest vectors, so that the towers adapt to each other.

Images have one more loss: an object with a stated colour is matched to its caption among those of the same object in
every colour. A batch alone contains too few captions that differ by colour only.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.starter.networks import AudioTower, ImageTower
from multimodal.encoders.starter.parameters import SIDE
from recipes.starter.captioner import captions
from recipes.starter.data import backgrounds, compositor
from recipes.starter.figures import evaluate
from recipes.starter.towers.align import NEAR, SCALE
from recipes.starter.towers.train_image import REDRAWN, Anchors, Drawn, shown, trained_drawings
from recipes.starter.towers.train_speech import (
    Clips,
    draw_rows,
    letters_loss,
    match_loss,
    pad_clips,
    vary,
)
from recipes.starter.towers.train_text import scene_batch, scene_loss
from recipes.starter.towers.training import Training

PLAIN, SCENES, COLOURED = 132, 68, 56  # images per batch
CLIPS = 160
COLOUR, LETTERS = 0.5, 0.3  # weights
MEMORY = 0.7  # of the running means


class Prototypes(nn.Module):
    """Prototypes of a modality: a running mean vector per concept, unit rows (concepts, DIM)."""

    vectors: Tensor

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors.clone())

    @torch.no_grad()
    def see(self, vectors: Tensor, concepts: Tensor) -> None:
        """Updates the prototypes; of several vectors of one concept the last counts."""
        moved = MEMORY * self.vectors[concepts] + (1 - MEMORY) * vectors
        self.vectors[concepts] = F.normalize(moved, dim=-1)


class Colours:
    """The text vectors of every object in every colour, and which of them are held out."""

    def __init__(self, anchors: Anchors, held: captions.HeldOut) -> None:
        said = [
            captions.with_article(f"{colour} {name}")
            for name in anchors.names
            for colour in captions.COLOUR_NAMES
        ]
        self.vectors = torch.cat([anchors.encode(said[k : k + 4096]) for k in range(0, len(said), 4096)])
        self.vectors = self.vectors.view(len(anchors.names), len(captions.COLOUR_NAMES), -1)
        self.banned = torch.zeros(self.vectors.shape[:2], dtype=torch.bool)
        for subject, colour in held.coloured:
            self.banned[subject, colour] = True

    def loss(self, vectors: Tensor, scenes: list[captions.Scene]) -> Tensor:
        """Cross-entropy over the colours of each single object with a stated colour."""
        rows = [k for k, scene in enumerate(scenes) if len(scene) == 1 and scene[0].colour != captions.NONE]
        subjects = torch.tensor([scenes[k][0].concept for k in rows])
        logits = SCALE * (self.vectors[subjects] @ vectors[rows][..., None])[..., 0]
        return F.cross_entropy(
            logits.masked_fill(self.banned[subjects], -torch.inf),
            torch.tensor([scenes[k][0].colour for k in rows]),
        )


def coloured(rng: random.Random, count: int, names: int, held: captions.HeldOut) -> list[captions.Scene]:
    """Single objects with a stated colour."""
    results: list[captions.Scene] = []
    while len(results) < count:
        scene = (captions.Subject(rng.randrange(names), rng.randrange(len(captions.COLOUR_NAMES))),)
        if captions.allowed(scene, held):
            results.append(scene)
    return results


def draw_batch(
    scene_compositor: compositor.Compositor, names: list[str], held: captions.HeldOut, rng: random.Random
) -> Drawn:
    """A batch of PLAIN + SCENES + COLOURED augmented images."""
    scenes, descriptions = scene_batch(rng, SCENES, names, held)
    single: list[captions.Scene] = [
        (captions.Subject(concept),) for concept in rng.sample(range(len(names)), PLAIN)
    ]
    single += coloured(rng, COLOURED, len(names), held)
    descriptions += [captions.caption(scene, names, rng) for scene in single]
    images = torch.cat(
        [scene_compositor.draw(scenes, SIDE, restyle=0.2), scene_compositor.draw(single, SIDE, restyle=0.3)]
    )
    return Drawn(
        compositor.as_bytes(compositor.augment(images, scene_compositor.generator)),
        scenes + single,
        descriptions,
    )


class JointFinetuning:
    """Training data and losses of the two towers."""

    def __init__(self, work: Path, seed: int) -> None:
        self.anchors = Anchors(work)
        self.names = self.anchors.names
        self.held = captions.held_out(len(self.names))
        self.clips = Clips(self.anchors, work / "speech.npz")
        self.usable = self.clips.usable()
        self.colours = Colours(self.anchors, self.held)
        self.rng, self.chooser = random.Random(seed), np.random.default_rng(seed)
        self.generator = torch.Generator().manual_seed(seed)
        drawings = trained_drawings(work)
        ground = torch.from_numpy(backgrounds.pool(backgrounds.TRAINED, 12_000, SIDE, seed))
        bank = compositor.with_redrawn(drawings, REDRAWN, self.generator)
        self.compositor = compositor.Compositor(bank, len(drawings), ground, self.generator)

    def banks(self, other: Prototypes) -> tuple[Tensor, ...]:
        return (
            self.anchors.points,
            self.anchors.name_vectors,
            other.vectors.clone(),
        )  # it moves before the backward

    def images(self, tower: ImageTower, own: Prototypes, other: Prototypes) -> dict[str, Tensor]:
        """The losses of one batch of images, by name."""
        drawn = draw_batch(self.compositor, self.names, self.held, self.rng)
        texts = self.anchors.encode(drawn.descriptions)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = tower(drawn.images.contiguous(memory_format=torch.channels_last))
        right = shown(drawn.scenes, len(self.names))
        subjects = [F.cross_entropy(SCALE * vectors @ bank.T, right) for bank in self.banks(other)]
        plain = slice(SCENES, SCENES + PLAIN)
        own.see(vectors[plain].detach(), torch.tensor([scene[0].concept for scene in drawn.scenes[plain]]))
        return {
            "things": torch.stack(subjects).mean(),
            "match": scene_loss(vectors, texts, drawn.scenes, torch.tensor(SCALE)),
            "near": NEAR * (1 - (vectors * texts).sum(1)).mean(),
            "colour": COLOUR * self.colours.loss(vectors, drawn.scenes),
        }

    def speech(self, tower: AudioTower, own: Prototypes, other: Prototypes) -> dict[str, Tensor]:
        """The losses of one batch of clips, by name."""
        clips, chosen = self.clips, torch.from_numpy(draw_rows(self.clips, self.usable, CLIPS, self.chooser))
        spoken = [vary(clips.clip(row), self.rng, self.generator) for row in chosen.tolist()]
        mels, lengths = pad_clips(spoken)
        with torch.autocast("cpu", torch.bfloat16):
            states, lengths = tower.states(mels, lengths)
            vectors = tower.pool(states, lengths)
        rows, concepts = clips.text_rows[chosen], clips.concepts[chosen]
        named = concepts >= 0
        logits = [SCALE * vectors[named] @ bank.T for bank in self.banks(other)]
        subjects = (
            [F.cross_entropy(logit, concepts[named]) for logit in logits]
            if named.any()
            else [torch.zeros(())]
        )
        own.see(vectors[named].detach(), concepts[named])
        letters = letters_loss(tower, states, lengths, [clips.letters[row] for row in rows.tolist()])
        return {
            "said": torch.stack(subjects).mean(),
            "words": match_loss(vectors, clips, chosen, torch.tensor(SCALE)),
            "close": NEAR * (1 - (vectors * clips.text_vectors[rows]).sum(1)).mean(),
            "letters": LETTERS * letters,
        }


def watch(training: Training, eyes: ImageTower, ears: AudioTower, anchors: Anchors, work: Path) -> None:
    """Logs the monitored held-out figures."""
    eyes.eval()
    ears.eval()
    result = evaluate.quick_image(eyes, anchors, work) | evaluate.quick_speech(ears, anchors, work)
    training.log(**result, **evaluate.quick_joint(eyes, ears, work))
    eyes.train()
    ears.train()


def run(work: Path, *, minutes: float, seed: int = 43) -> None:
    """Trains for `minutes` of wall time in total (interrupted runs resume); writes image_met.pt and audio_met.pt."""
    eyes, ears = ImageTower().to(memory_format=torch.channels_last), AudioTower()
    eyes.load_state_dict(torch.load(work / "image_aligned.pt", weights_only=True))
    ears.load_state_dict(torch.load(work / "audio_aligned.pt", weights_only=True))
    names = Anchors(work).name_vectors
    seen, heard = Prototypes(names), Prototypes(names)
    seeing, hearing = (
        Training(
            work, name, {"tower": tower, "standing": standing},
            minutes=minutes, peak=peak, decay=0.02, warm_up=60, seed=seed, muon="tower",
        )
        for name, tower, standing, peak in (("meet_image", eyes, seen, 2e-3), ("meet_audio", ears, heard, 8e-4))
    )  # fmt: skip
    job = JointFinetuning(work, seeing.seed)
    while seeing.going_on() and hearing.going_on():
        images, speech = job.images(eyes, seen, heard), job.speech(ears, heard, seen)
        seeing.learn(torch.stack(list(images.values())).sum())
        hearing.learn(torch.stack(list(speech.values())).sum())
        if seeing.step % 50 == 1:
            seeing.log(loss=sum(images.values()), **images)
            hearing.log(loss=sum(speech.values()), **speech)
        if seeing.step % 500 == 0:
            seeing.save()
            hearing.save()
            watch(seeing, eyes, ears, job.anchors, work)
    torch.save(eyes.eval().state_dict(), work / "image_met.pt")
    torch.save(ears.eval().state_dict(), work / "audio_met.pt")
