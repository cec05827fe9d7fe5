"""Step 15: saves the three towers in float16 as a space folder that `multimodal.load` opens."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Space
from multimodal.encoders.starter import CARDS
from multimodal.encoders.starter.encoders import StarterAudio, StarterImage, StarterText
from recipes.starter.towers.align import SCALE


def halved(file: Path) -> dict[str, Tensor]:
    """Trained weights, rounded to what is stored."""
    weights: dict[str, Tensor] = torch.load(file, weights_only=True)
    return {
        name: weight.half().float() if weight.is_floating_point() else weight
        for name, weight in weights.items()
    }


def run(work: Path, folder: Path) -> None:
    """Write config.json and one safetensors a tower into `folder` (kept: other files there, such as the card)."""
    image, audio = (
        chosen if chosen.exists() else work / before
        for chosen, before in (
            (work / "image_final.pt", "image_met.pt"),
            (work / "audio_final.pt", "audio_accents.pt"),
        )
    )
    vocabulary = json.loads((work / "vocabulary.json").read_text())
    text = torch.load(work / "text.pt", weights_only=True)
    towers = {
        Modality.TEXT: StarterText(vocabulary, text["tower"]),
        Modality.IMAGE: StarterImage(halved(image)),
        Modality.AUDIO: StarterAudio(halved(audio)),
    }
    heads = {
        None: LogitScale(SCALE),  # one for all pairs: the last layers were fitted at this scale
    }
    fresh = folder.parent / ".starter.new"
    Space(towers, heads, name="starter", card=CARDS[0]).save_pretrained(fresh)
    folder.mkdir(parents=True, exist_ok=True)
    for file in fresh.iterdir():
        file.replace(folder / file.name)
    fresh.rmdir()
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    print(f"{folder}: weights {size / 1e6:.2f} MB")
