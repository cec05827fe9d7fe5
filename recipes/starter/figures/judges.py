"""Evaluation data of the towers: images and speech of kinds that do not occur in training."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from multimodal.encoders.starter.parameters import SIDE
from recipes.starter.captioner import captions
from recipes.starter.data import backgrounds, compositor, stress

KEPT_AT = 56  # pixels of a stored drawing
POOL = 1500  # backgrounds drawn for one gallery
PLAIN = {"solid": backgrounds.solid}
WHITE = {"white": backgrounds.white}
QUIET = WHITE | PLAIN | {"linear": backgrounds.linear}
# kind -> whose drawings, on what, how much turned and moved
KINDS = {
    "clean": ("noto", WHITE, 0.0),
    "trained": ("noto", backgrounds.TRAINED, 0.6),
    "ground": ("noto", backgrounds.HELD_OUT, 0.6),
    "stress": ("noto", PLAIN, 0.6),
    "both": ("noto", backgrounds.HELD_OUT, 0.6),
    "untouched ground": ("noto", backgrounds.UNTOUCHED, 0.6),
    "untouched stress": ("noto", PLAIN, 0.6),
    "untouched both": ("noto", backgrounds.UNTOUCHED, 0.6),
    "twemoji": ("twemoji", WHITE, 0.0),
    "openmoji": ("openmoji", WHITE, 0.0),
}


def make_compositor(
    drawings: np.ndarray, makers: dict[str, backgrounds.Maker], seed: int
) -> compositor.Compositor:
    """A compositor of uint8 drawings (artists, concepts, h, w, 4) with new backgrounds."""
    ground = torch.from_numpy(backgrounds.pool(makers, POOL, SIDE, seed))
    return compositor.Compositor(
        compositor.kept_at(drawings, KEPT_AT), len(drawings), ground, torch.Generator().manual_seed(seed)
    )


@lru_cache(maxsize=8)
def images(work: Path, kind: str, seed: int = 99) -> Tensor:
    """uint8 (concepts, 3, SIDE, SIDE): every concept once.

    Kinds: clean (white), trained (the families of training, newly generated), ground (background families not used in
    training), stress (distortions not used in training), both, twemoji (white), openmoji (white; an artist not used in
    training). The untouched kinds were not evaluated before the weights were final.
    """
    artist, makers, jitter = KINDS[kind]
    drawings = np.load(work / ("openmoji.npz" if artist == "openmoji" else "glyphs.npz"))[artist]
    scene = make_compositor(drawings[None], makers, seed)
    drawn = scene.draw([(captions.Subject(row),) for row in range(len(drawings))], SIDE, jitter=jitter)
    if kind == "trained":
        drawn = compositor.augment(drawn, scene.generator)
    if kind in ("stress", "both"):
        drawn = compositor.stress(drawn, seed)
    if kind in ("untouched stress", "untouched both"):
        drawn = stress.apply(drawn, seed)
    return compositor.as_bytes(drawn)


def scenes(work: Path, shown: list[captions.Scene], seed: int) -> Tensor:
    """uint8 (scenes, 3, SIDE, SIDE) by either artist on quiet grounds."""
    drawings = np.load(work / "glyphs.npz")
    scene = make_compositor(np.stack([drawings["noto"], drawings["twemoji"]]), QUIET, seed)
    return compositor.as_bytes(scene.draw(shown, SIDE, jitter=0.6))


def drawn_by_openmoji(work: Path) -> list[int]:
    """The concepts OpenMoji draws."""
    result: list[int] = np.load(work / "openmoji.npz")["has_openmoji"].nonzero()[0].tolist()
    return result


def see(tower: nn.Module, batch: Tensor) -> Tensor:
    """(n, DIM) of many pictures."""
    with torch.inference_mode():
        return torch.cat([tower(part) for part in batch.split(256)])


@lru_cache(maxsize=1)
def clips(work: Path) -> dict[str, np.ndarray]:
    """speech_judge.npz: names by held-out voices (espeak0..2), flite's kal16 and rms, and festival's kal and ked."""
    return dict(np.load(work / "speech_judge.npz"))


def hear(tower: nn.Module, work: Path, speaker: str, every: int = 1) -> tuple[Tensor, list[int]]:
    """Vectors of one judge's clips and the concept each names."""
    data = clips(work)
    rows = np.flatnonzero(data["speakers"] == speaker)[::every]
    mels, starts, vectors = torch.from_numpy(data["mels"]), data["starts"], []
    with torch.inference_mode():
        for part in np.array_split(rows, max(1, len(rows) // 64)):
            spoken = [mels[starts[row] : starts[row + 1]].float() / 127.5 - 1 for row in part]
            lengths = torch.tensor([len(clip) for clip in spoken])
            vectors.append(tower(nn.utils.rnn.pad_sequence(spoken, batch_first=True), lengths))
    return torch.cat(vectors), data["concepts"][rows].tolist()
