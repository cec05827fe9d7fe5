"""Restores the shipped towers into the work folder, so that `joint_finetune` can start from them.

What is not shipped is recomputed: a concept's point is the mean of the text tower's vectors of its name, of its name
in captions, and of its name with its keywords. `make starter` trains everything and does not need this.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from multimodal.core.modality import Modality
from multimodal.encoders.starter import load
from multimodal.encoders.starter.networks import TextTower
from multimodal.encoders.starter.tokenizer import Tokenizer
from recipes.starter.captioner.captions import PLAIN_FORMS, with_article
from recipes.starter.data.concepts import Concept, read
from recipes.starter.towers.train_text import encode_sorted

DESCRIBED = 4  # descriptions of each name by some of its keywords


def sayings(concept: Concept, rng: random.Random) -> list[str]:
    """What a concept's point is the mean of."""
    name = concept.name
    plain = {form.format(x=name, a_x=with_article(name)) for form in PLAIN_FORMS}
    described = [
        f"{name}: {', '.join(rng.sample(concept.keywords, min(4, len(concept.keywords))))}"
        for _ in range(DESCRIBED)
    ]
    return [name, *sorted(plain - {name}), *(described if concept.keywords else [])]


@torch.no_grad()
def points(tower: TextTower, tokenizer: Tokenizer, world: list[Concept], seed: int = 47) -> Tensor:
    """Unit rows (concepts, DIM)."""
    rng = random.Random(seed)
    said = [sayings(concept, rng) for concept in world]
    vectors = encode_sorted(tower, tokenizer([text for item in said for text in item]), chunks=64).float()
    parts = vectors.split([len(item) for item in said])
    return F.normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)


def run(work: Path) -> None:
    """Write vocabulary.json, text.pt, image_aligned.pt and audio_aligned.pt from the space that ships."""
    space = load()
    nets = {modality: space.encoders[modality].net for modality in space.modalities}  # type: ignore[attr-defined]
    pieces: list[str] = space.encoders[Modality.TEXT].vocabulary  # type: ignore[attr-defined]
    (work / "vocabulary.json").write_text(json.dumps(pieces, ensure_ascii=False))
    text = nets[Modality.TEXT]
    results = points(text, Tokenizer(pieces), read(work / "world.jsonl"))
    torch.save({"tower": text.state_dict(), "points": results}, work / "text.pt")
    torch.save(nets[Modality.IMAGE].state_dict(), work / "image_aligned.pt")
    torch.save(nets[Modality.AUDIO].state_dict(), work / "audio_aligned.pt")
