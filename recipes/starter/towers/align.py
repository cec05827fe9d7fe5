"""Step 8: fits the last layers of the image and speech towers to align all three modalities.

Trained separately against a fixed set of texts, each tower learns vectors that *discriminate* texts rather than lie
near them, and two such towers agree with the texts but hardly with each other: speech found names 99 % and images 21
%. Here all other layers are frozen, so a step is cheap: the last layers learn to match the direction of the text, at
one moderate scale, and each other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.starter.networks import AudioTower, ImageTower
from multimodal.encoders.starter.parameters import SIDE
from recipes.starter.captioner import captions
from recipes.starter.data import backgrounds, compositor
from recipes.starter.towers.train_image import REDRAWN, Anchors, draw_batch, trained_drawings
from recipes.starter.towers.train_speech import MOST_FRAMES, Clips, pad_clips, vary

SCALE = 26.0  # the text tower's own
NEAR = 4.0
IMAGES, UTTERANCES = 48_000, 44_000
STEPS, BATCH, RATE = 700, 1536, 2e-3


@dataclass
class Seen:
    """Frozen features, the text vector each should point at, and its concept (-1: none, or more than one)."""

    features: Tensor
    texts: Tensor
    concepts: Tensor


@torch.no_grad()
def image_features(work: Path, anchors: Anchors, seed: int = 29) -> Seen:
    """Freshly drawn scenes of training's kind, through all but the last layer."""
    tower = ImageTower().eval()
    tower.load_state_dict(torch.load(work / "image.pt", weights_only=True))
    held, rng = captions.held_out(len(anchors.names)), random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    drawings = trained_drawings(work)
    ground = torch.from_numpy(backgrounds.pool(backgrounds.TRAINED, 6_000, SIDE, seed))
    bank = compositor.with_redrawn(drawings, REDRAWN, generator)
    scene_compositor = compositor.Compositor(bank, len(drawings), ground, generator)
    features, texts, concepts = [], [], []
    for _ in range(IMAGES // 250):
        drawn = draw_batch(scene_compositor, anchors.names, held, rng, 250, SIDE, 0.0)
        with torch.autocast("cpu", torch.bfloat16):
            features.append(
                tower.features(drawn.images.contiguous(memory_format=torch.channels_last)).float()
            )
        texts.append(anchors.encode(drawn.descriptions))
        concepts += [scene[0].concept if len(scene) == 1 else -1 for scene in drawn.scenes]
    return Seen(torch.cat(features), torch.cat(texts), torch.tensor(concepts))


@torch.no_grad()
def speech_features(work: Path, anchors: Anchors, seed: int = 31) -> Seen:
    """Varied training clips, through all but the last layer."""
    tower = AudioTower().eval()
    tower.load_state_dict(torch.load(work / "audio.pt", weights_only=True))
    clips, rng = Clips(anchors, work / "speech.npz"), random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    usable = np.flatnonzero((clips.lengths <= MOST_FRAMES) & (clips.lengths >= 20))
    rows = np.random.default_rng(seed).choice(usable, min(UTTERANCES, len(usable)), replace=False)
    rows = rows[np.argsort(clips.lengths[rows], kind="stable")]
    features = []
    for part in np.array_split(rows, len(rows) // 200):
        mels, lengths = pad_clips([vary(clips.clip(row), rng, generator) for row in part.tolist()])
        with torch.autocast("cpu", torch.bfloat16):
            features.append(tower.pooled(*tower.states(mels, lengths)).float())
    chosen = torch.from_numpy(rows)
    return Seen(torch.cat(features), clips.text_vectors[clips.text_rows[chosen]], clips.concepts[chosen])


def centres(head: nn.Linear, seen: Seen, count: int) -> Tensor:
    """The mean vector of each concept in this modality: unit rows (count, DIM)."""
    with torch.no_grad():
        named = seen.concepts >= 0
        vectors = F.normalize(head(seen.features[named]), dim=-1)
        total = torch.zeros(count, vectors.shape[1]).index_add(0, seen.concepts[named], vectors)
    return F.normalize(total, dim=-1)


def fit(head: nn.Linear, seen: Seen, banks: list[Tensor], seed: int) -> float:
    """Train one last layer; the banks hold a vector for each concept. Returns the last loss."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    loss = torch.zeros(())
    for _ in range(STEPS):
        rows = torch.randint(len(seen.features), (BATCH,), generator=generator)
        vectors, own = F.normalize(head(seen.features[rows]), dim=-1), seen.concepts[rows]
        texts = seen.texts[rows]
        different, places = torch.unique(texts, dim=0, return_inverse=True)
        match = F.cross_entropy(SCALE * vectors @ different.T, places)
        named = own >= 0
        subjects = sum(F.cross_entropy(SCALE * vectors[named] @ bank.T, own[named]) for bank in banks) / len(
            banks
        )
        near = (1 - (vectors * texts).sum(1)).mean()
        loss = subjects + match + NEAR * near
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return loss.item()


def run(work: Path) -> None:
    """Write image_aligned.pt and audio_aligned.pt: the towers with new last layers."""
    anchors = Anchors(work)
    count, banks = len(anchors.names), [anchors.points, anchors.name_vectors]
    seen = {"image": image_features(work, anchors), "audio": speech_features(work, anchors)}
    weights = {tower: torch.load(work / f"{tower}.pt", weights_only=True) for tower in seen}
    heads = {
        tower: nn.Linear(results.features.shape[1], anchors.points.shape[1])
        for tower, results in seen.items()
    }
    for tower, head in heads.items():
        head.load_state_dict({part: weights[tower][f"project.{part}"].clone() for part in ("weight", "bias")})
        print(tower, "to texts:", fit(head, seen[tower], banks, seed=37), flush=True)
    for tower, other in (("image", "audio"), ("audio", "image")):
        wider = [*banks, centres(heads[other], seen[other], count)]
        print(tower, "to texts and", other, ":", fit(heads[tower], seen[tower], wider, seed=41), flush=True)
    for tower, head in heads.items():
        aligned = weights[tower] | {f"project.{part}": value for part, value in head.state_dict().items()}
        torch.save(aligned, work / f"{tower}_aligned.pt")
