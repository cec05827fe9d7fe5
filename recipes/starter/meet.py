"""Step 8: the whole image tower once more, briefly, toward what its last layer was just fitted to.

Same scenes as its training; the losses are those of `align`: at the text tower's scale, near the caption's vector, with
the speech centres as a third bank beside concept points and names.
"""

from __future__ import annotations

import random
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from multimodal.encoders._starter_nets import SIDE, AudioTower, ImageTower
from recipes.starter import backgrounds, captions, stage
from recipes.starter.align import NEAR, SCALE, centres, speech_features
from recipes.starter.train_image import REDRAWN, Anchors, draw_batch, shown, trained_drawings
from recipes.starter.train_text import scene_loss
from recipes.starter.training import Training


def run(work: Path, *, minutes: float, batch: int = 256, seed: int = 43) -> None:
    """Train for `minutes`; write image_met.pt."""
    anchors = Anchors(work)
    held = captions.held_out(len(anchors.names))
    ears = AudioTower().eval()
    ears.load_state_dict(torch.load(work / "audio_aligned.pt", weights_only=True))
    kept = work / "speech_seen.pt"
    if not kept.exists():
        torch.save(speech_features(work, anchors), kept)
    heard = centres(ears.project, torch.load(kept, weights_only=False), len(anchors.names))
    banks = (anchors.points, anchors.name_vectors, heard)
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    drawings = trained_drawings(work)
    ground = torch.from_numpy(backgrounds.pool(backgrounds.TRAINED, 6_000, SIDE, seed))
    theatre = stage.Stage(stage.with_redrawn(drawings, REDRAWN, generator), len(drawings), ground, generator)
    tower = ImageTower().to(memory_format=torch.channels_last)
    tower.load_state_dict(torch.load(work / "image_aligned.pt", weights_only=True))
    modules: dict[str, nn.Module] = {"tower": tower}
    training = Training(
        work, "meet", modules, minutes=minutes, peak=1e-3, decay=0.02, warm_up=20, seed=seed, muon="tower"
    )
    while training.going_on():
        drawn = draw_batch(theatre, anchors.names, held, rng, batch, SIDE, 0.0)
        texts = anchors.encode(drawn.told)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = tower(drawn.pictures.contiguous(memory_format=torch.channels_last))
        right = shown(drawn.scenes, len(anchors.names))
        things = sum(F.cross_entropy(SCALE * vectors @ bank.T, right) for bank in banks) / len(banks)
        match = scene_loss(vectors, texts, drawn.scenes, torch.tensor(SCALE))
        near = (1 - (vectors * texts).sum(1)).mean()
        training.learn(things + match + NEAR * near)
        if training.step % 20 == 0:
            training.log(loss=things + match + NEAR * near, things=things, match=match, near=near)
    torch.save(tower.eval().state_dict(), work / "image_met.pt")
