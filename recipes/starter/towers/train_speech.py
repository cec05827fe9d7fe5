"""Step 7: trains the speech tower to match the frozen text tower's vectors, with a CTC head.

Losses: an utterance selects its own words in the batch and, if it is a concept's name, the concept among all; its
vector matches that of the text; CTC over its characters.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multimodal.encoders.starter.networks import AudioTower
from multimodal.encoders.starter.parameters import ALPHABET, N_MELS
from recipes.starter.figures import evaluate
from recipes.starter.towers.train_image import Anchors
from recipes.starter.towers.training import Training

WEIGHTS = {"match": 1.0, "things": 1.0, "near": 1.0, "letters": 0.6}
EASY_SHARE = 0.15  # of the time, from clips as recorded to all variations
FEWEST_FRAMES = 20
MOST_FRAMES = 260  # longer training clips are dropped: few, and each would pad its whole batch


class Clips:
    """The recorded log-mels, by utterance; text vectors of every text said, computed once.

    files: npz of `prepare_speech.Recorder`, one after another.
    """

    def __init__(self, anchors: Anchors, *files: Path) -> None:
        loaded = [dict(np.load(file)) for file in files]
        self.mels = torch.cat([torch.from_numpy(data["mels"]) for data in loaded])
        self.texts = [text for data in loaded for text in data["texts"].tolist()]
        self.concepts = torch.cat([torch.from_numpy(data["concepts"]) for data in loaded])
        self.sources = np.repeat(np.arange(len(loaded)), [len(data["texts"]) for data in loaded])
        before = np.cumsum([0] + [len(data["mels"]) for data in loaded])
        begins = [data["starts"][:-1] + frames for data, frames in zip(loaded, before, strict=False)]
        self.starts = np.concatenate([*begins, before[-1:]])
        self.lengths = np.diff(self.starts)
        unique = list(dict.fromkeys(self.texts))
        place = {text: number for number, text in enumerate(unique)}
        self.text_rows = torch.tensor([place[text] for text in self.texts])
        self.text_vectors = anchors.encode(unique)
        self.letters = [[1 + ALPHABET.index(ch) for ch in text if ch in ALPHABET] for text in unique]

    def usable(self) -> list[np.ndarray]:
        """The rows to train on, of each file."""
        fit = (self.lengths <= MOST_FRAMES) & (self.lengths >= FEWEST_FRAMES)
        return [np.flatnonzero(fit & (self.sources == source)) for source in np.unique(self.sources)]

    def clip(self, row: int) -> Tensor:
        """(frames, N_MELS) in [-1, 1]."""
        return self.mels[self.starts[row] : self.starts[row + 1]].float() / 127.5 - 1


def pad_clips(clips: list[Tensor]) -> tuple[Tensor, Tensor]:
    """(n, longest, N_MELS) padded with 0, and lengths (n,)."""
    return nn.utils.rnn.pad_sequence(clips, batch_first=True), torch.tensor([len(clip) for clip in clips])


def vary(mel: Tensor, rng: random.Random, generator: torch.Generator, ease: float = 0.0) -> Tensor:
    """Another speaker, room and microphone: tempo, vocal-tract length, silence, spectral slope, noise, masks.

    A share `ease` of the clips stay as they are.
    """
    if rng.random() < ease:
        return mel
    frames, slope = len(mel), rng.uniform(0.8, 1.25)
    image = mel.T[None, None]
    if rng.random() < 0.8:  # tempo and vocal-tract length in one resampling
        bands = round(N_MELS * rng.uniform(0.86, 1.16))
        image = F.interpolate(
            image, size=(bands, max(12, round(frames * slope))), mode="bilinear", align_corners=False
        )
        if bands < N_MELS:
            image = F.pad(image, (0, 0, 0, N_MELS - bands), mode="replicate")
        image = image[:, :, :N_MELS]
    mel = image[0, 0].T
    if rng.random() < 0.5:
        mel = F.pad(mel, (0, 0, rng.randrange(20), rng.randrange(20)), value=-1.0)
    decibels = (mel + 1) * 40 - 80
    axis = torch.linspace(-1, 1, N_MELS)
    if rng.random() < 0.7:
        decibels = (
            decibels
            + rng.gauss(0, 5) * axis
            + rng.gauss(0, 3) * torch.cos(axis * rng.uniform(1, 6) + rng.uniform(0, 6))
        )
    if rng.random() < 0.15:  # a telephone: little above 3.4 kHz
        decibels[:, rng.randrange(44, 56) :] -= 30
    if rng.random() < 0.6:
        level = rng.uniform(-65, -18) + rng.gauss(0, 8) * axis
        noise = level + 4 * torch.randn(mel.shape, generator=generator)
        decibels = 10 * torch.log10(10 ** (decibels / 10) + 10 ** (noise / 10))
    mel = (decibels - decibels.max()).clamp(min=-80) / 40 + 1
    if rng.random() < 0.3:
        first, width = rng.randrange(N_MELS - 10), rng.randrange(2, 10)
        mel[:, first : first + width] = mel.mean()
    if rng.random() < 0.2 and len(mel) > 40:
        first, width = rng.randrange(len(mel) - 10), rng.randrange(2, 8)
        mel[first : first + width] = mel.mean()
    return mel


def letters_loss(tower: AudioTower, states: Tensor, lengths: Tensor, letters: list[list[int]]) -> Tensor:
    """CTC (Graves et al. 2006) on the states."""
    logs = tower.characters(states).transpose(0, 1)
    goal = torch.tensor([letter for row in letters for letter in row])
    sizes = torch.tensor([len(row) for row in letters])
    return F.ctc_loss(logs, goal, lengths * 2, sizes, zero_infinity=True)


def match_loss(vectors: Tensor, clips: Clips, rows: Tensor, scale: Tensor) -> Tensor:
    """Pick the own text among the batch's different texts."""
    own, places = torch.unique(clips.text_rows[rows], return_inverse=True)
    return F.cross_entropy(scale * vectors @ clips.text_vectors[own].T, places)


def draw_rows(clips: Clips, usable: list[np.ndarray], batch: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of one batch: of like length, so that little is padding. usable: rows to take equal parts of."""
    pool = np.concatenate([rng.choice(rows, 4 * batch // len(usable), replace=False) for rows in usable])
    pool = pool[np.argsort(clips.lengths[pool], kind="stable")]
    start = batch * int(rng.integers(4))
    return pool[start : start + batch]


def losses(
    tower: AudioTower,
    clips: Clips,
    anchors: Anchors,
    rows: Tensor,
    mels: Tensor,
    lengths: Tensor,
    scale: Tensor,
) -> dict[str, Tensor]:
    """The losses of the module's docstring, by name."""
    with torch.autocast("cpu", torch.bfloat16):
        states, lengths = tower.states(mels, lengths)
        vectors = tower.pool(states, lengths)
    text_rows, own = clips.text_rows[rows], clips.concepts[rows]
    named, subjects = own >= 0, torch.zeros(())
    for bank in (anchors.points, anchors.name_vectors) if named.any() else ():
        logits = scale * vectors[named] @ bank.T
        subjects = subjects + F.cross_entropy(logits, own[named], label_smoothing=0.02) / 2
    return {
        "match": match_loss(vectors, clips, rows, scale),
        "things": subjects,
        "near": (1 - (vectors * clips.text_vectors[text_rows]).sum(1)).mean(),
        "letters": letters_loss(tower, states, lengths, [clips.letters[row] for row in text_rows.tolist()]),
    }


def run(work: Path, *, minutes: float, batch: int = 160, seed: int = 19) -> None:
    """Trains for `minutes` of wall time in total (interrupted runs resume); writes audio.pt."""
    torch.manual_seed(seed)
    anchors = Anchors(work)
    clips = Clips(anchors, work / "speech.npz")
    usable = clips.usable()
    tower = AudioTower()
    training = Training(
        work,
        "audio",
        {"tower": tower},
        minutes=minutes,
        peak=2e-3,
        decay=0.02,
        warm_up=150,
        seed=seed,
        muon="tower",
    )
    generator, rng = torch.Generator().manual_seed(training.seed), random.Random(training.seed)
    chooser = np.random.default_rng(training.seed)
    while training.going_on():
        ease = max(0.0, 1 - training.done / EASY_SHARE)
        rows = torch.from_numpy(draw_rows(clips, usable, batch, chooser))
        mels, lengths = pad_clips([vary(clips.clip(row), rng, generator, ease) for row in rows.tolist()])
        parts = losses(tower, clips, anchors, rows, mels, lengths, training.scale)
        loss = sum(WEIGHTS[name] * part for name, part in parts.items())
        training.learn(loss)
        if training.step % 50 == 0:
            training.log(loss=loss, **parts)
        if training.step % 400 == 0:
            training.save()
            tower.eval()
            training.log(**evaluate.quick_speech(tower, anchors, work))
            tower.train()
    training.save()
    torch.save(tower.eval().state_dict(), work / "audio.pt")
