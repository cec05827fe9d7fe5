"""What a trained run can do: retrieval on held-out samples, and a space that `multimodal.load` opens."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multimodal.adapt.finetuning.judge import Figure, share
from multimodal.core.encoder import Encoder
from multimodal.core.modality import Modality
from multimodal.core.space import LogitScale, Space
from multimodal.encoders.starter.encoders import StarterAudio, StarterImage, StarterText
from multimodal.encoders.starter.parameters import SIDE
from recipes.pretrain.config import CONTRASTIVE
from recipes.pretrain.trainer import Run


@torch.inference_mode()
def retrieval(run: Run, pair: tuple[str, str] = ("image", "text"), batch: int = 128) -> dict[str, Figure]:
    """How often a held-out item finds its partner among all different ones.

    Args:
        run: A trained run.
        pair: The modality of the queries and that of the gallery.
        batch: Items embedded at a time.

    Returns:
        "R@1" and "R@5" with 95 % intervals.

    Raises:
        ValueError: If no held-out sample has both modalities.
    """
    samples = [
        sample
        for sample in run.source.epoch(run.config.seed)
        if run.is_held_out(sample) and all(name in sample.parts for name in pair)
    ]
    samples = list(itertools.islice(samples, run.config.judge_samples))
    if not samples:
        raise ValueError(f"no held-out sample has {' and '.join(pair)}: raise held_out in the configuration")
    run.towers.eval()
    first, second = (
        torch.cat(
            [run.vectors(name, samples[start : start + batch]) for start in range(0, len(samples), batch)]
        )
        for name in pair
    )
    texts = run.collate.texts(samples) if "text" in pair else [sample.key for sample in samples]
    return _recall(first.cpu(), second.cpu(), texts)


def _recall(queries: Tensor, gallery: Tensor, texts: list[str]) -> dict[str, Figure]:
    distinct = list(dict.fromkeys(texts))
    rows = torch.tensor([texts.index(text) for text in distinct])
    own = torch.tensor([distinct.index(text) for text in texts])
    scores = queries @ gallery[rows].T
    rank = (scores > scores.gather(1, own[:, None])).sum(1).numpy()
    return {f"R@{k}": share((rank < k).astype(np.float64)) for k in (1, 5)}


def save_space(run: Run, folder: Path) -> Space:
    """Writes the towers as a space of the starter family, in float16.

    Raises:
        ValueError: If the image tower was trained at another size than spaces use.
    """
    if "image" in run.towers and run.config.data.side != SIDE:
        raise ValueError(
            f"the image tower was trained at {run.config.data.side} pixels, but spaces show it {SIDE}: train with "
            f"side = {SIDE}"
        )
    encoders: dict[Modality, Encoder] = {}
    for name, tower in run.towers.items():
        tensors = {
            key: tensor.cpu().half()
            for key, tensor in tower.state_dict().items()
            if tensor.is_floating_point()
        }
        if name == "text":
            encoders[Modality.TEXT] = StarterText(run.collate.vocabulary, tensors)
        else:
            encoders[Modality(name)] = (StarterImage if name == "image" else StarterAudio)(tensors)
    objectives = [stage.objective for stage in run.config.stages if stage.objective in CONTRASTIVE]
    scale, bias = (float(run.logit[name].detach()) for name in ("log_scale", "bias"))
    scale = math.exp(scale)
    head = None
    if objectives:
        head = LogitScale(scale, bias, "sigmoid") if objectives[-1] == "siglip" else LogitScale(scale)
    space = Space(encoders, head, name=folder.name)
    space.save_pretrained(folder)
    return space
