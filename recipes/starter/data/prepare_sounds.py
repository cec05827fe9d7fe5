"""Step 13: renders of the fifty classes of sounds as log-mels (sounds.npz, sounds_judge.npz), and what each may match.

The sounds that judge have parameters that training never draws.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from multimodal.encoders.starter.preprocessing import speech_windows
from recipes.starter.data.sounds import KINDS, sound

RENDERS, JUDGED = 250, 10  # of each class
# The concepts of the world whose name also describes a class of sounds.
CONCEPTS: dict[str, tuple[str, ...]] = {
    "alarm clock": ("alarm clock",),
    "siren": ("police car light", "ambulance"),
    "yelping siren": ("police car light", "police car"),
    "two-tone siren": ("ambulance", "police car light"),
    "telephone ringing": ("telephone",),
    "dial tone": ("telephone receiver",),
    "car horn": ("automobile",),
    "ship horn": ("ship",),
    "train whistle": ("locomotive",),
    "church bell": ("bell",),
    "hand bell": ("bell", "bellhop bell"),
    "doorbell": ("door", "bell"),
    "wind chimes": ("wind chime",),
    "glasses clinking": ("clinking glasses",),
    "knocking": ("door",),
    "footsteps": ("footprints",),
    "applause": ("clapping hands",),
    "clock ticking": ("mantelpiece clock",),
    "typing": ("keyboard",),
    "bass drum": ("drum",),
    "snare drum": ("drum",),
    "drum roll": ("drum",),
    "engine revving": ("motorcycle",),
    "helicopter": ("helicopter",),
    "train on rails": ("train",),
    "sawing": ("carpentry saw",),
    "rain": ("cloud with rain",),
    "wind": ("wind face",),
    "ocean waves": ("water wave",),
    "thunder": ("cloud with lightning",),
    "fire crackling": ("fire",),
    "dripping water": ("droplet",),
    "bird chirping": ("bird",),
    "crickets": ("cricket",),
    "bee buzzing": ("honeybee",),
    "heartbeat": ("beating heart",),
}


class Sounds:
    """Renders packed end to end, as `prepare_speech.Recorder` packs utterances; kinds: the class of each."""

    def __init__(self, file: Path) -> None:
        data = np.load(file)
        self.mels, self.starts = torch.from_numpy(data["mels"]), data["starts"]
        self.kinds = torch.from_numpy(data["kinds"])

    def __len__(self) -> int:
        return len(self.kinds)

    def clip(self, row: int) -> Tensor:
        """(frames, N_MELS) in [-1, 1]."""
        return self.mels[self.starts[row] : self.starts[row + 1]].float() / 127.5 - 1


def render(file: Path, each: int, seed: int, *, judging: bool = False) -> None:
    """Writes `each` renders of every class."""
    mels, kinds = [], []
    for take in range(each):
        for row, name in enumerate(KINDS):
            samples = sound(name, np.random.default_rng((seed, row, take)), judging=judging)
            mel = speech_windows(samples)[0]
            mels.append(((mel + 1) * 127.5).round().to(torch.uint8).numpy())
            kinds.append(row)
    starts = np.concatenate([[0], np.cumsum([len(mel) for mel in mels])])
    np.savez(file, mels=np.concatenate(mels), starts=starts, kinds=np.array(kinds))


def run(work: Path) -> None:
    """Writes both files."""
    render(work / "sounds_judge.npz", JUDGED, 1, judging=True)
    render(work / "sounds.npz", RENDERS, 2)
