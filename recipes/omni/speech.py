"""Spoken names, keywords, captions and random phrases, synthesised once; batches of them, augmented in a worker."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from multimodal.encoders.starter.parameters import ALPHABET
from recipes.omni import names
from recipes.starter.captioner import captions
from recipes.starter.data import voices
from recipes.starter.data.concepts import read
from recipes.starter.data.prepare_speech import Recorder, room
from recipes.starter.data.speech_augment import SpeechAugmenter
from recipes.starter.towers.train_speech import FEWEST_FRAMES, MOST_FRAMES, pad_clips

NAME_TAKES, CAPTIONS, PHRASES = 4, 3_000, 14_000
ROOMS = 0.3  # share of clips with reverberation
AS_IS = 0.3  # share of batches that are not augmented
JUDGED_VOICES = 3  # unseen voices per open phrase
FREE = Path(__file__).parent.parent / "starter" / "data"


def spoken(text: str) -> str:
    """What is written down of a text: its characters of the starter's alphabet."""
    return " ".join("".join(c for c in text.lower() if c in ALPHABET).split())


def training_lines(work: Path, rng: random.Random) -> Iterator[str]:
    """What is said: names, keywords, captions of scenes, and one to five words in random order."""
    world = read(work / "world.jsonl")
    titles, held = [concept.name for concept in world], captions.held_out(len(world))
    for concept in world:
        yield from [concept.name] * NAME_TAKES
        yield from concept.keywords
    for _ in range(CAPTIONS):
        yield captions.caption(captions.random_scene(rng, len(world), held, plain=0.2), titles, rng)
    little = names.listed("a the of to in on is it and with for at by that you")
    known = names.words(held_out=False)
    for _ in range(PHRASES):
        yield " ".join(
            rng.choice(little) if rng.random() < 0.25 else rng.choice(known) for _ in range(rng.randint(1, 5))
        )


def open_phrases() -> list[str]:
    """Phrases for the evaluation that no training says."""
    return [
        line
        for title in ("free", "fresh")
        for line in (FREE / f"{title}_phrases.txt").read_text().splitlines()
        if line.strip()
    ]


def record(work: Path, seed: int = 31) -> None:
    """Writes omni_speech.npz (training) and omni_open.npz (open phrases by unseen voices)."""
    rng, espeak = random.Random(seed), voices.Espeak()
    torch.set_num_threads(1)
    judged, held = Recorder(200_000), voices.held_out_voices()
    for number, phrase in enumerate(open_phrases()):
        for turn in range(JUDGED_VOICES):
            voice = held[(number * JUDGED_VOICES + turn * 5) % len(held)]
            judged.add(espeak.say(phrase, voice), espeak.rate_hz, phrase, -1, voice.variant)
    judged.save(work / "omni_open.npz")
    recorder, forbidden = Recorder(9_000_000), set(open_phrases())
    for text in training_lines(work, rng):
        if text in forbidden:
            continue
        voice = voices.training_voice(rng)
        samples = espeak.say(text, voice)
        if rng.random() < ROOMS and len(samples):
            samples = room(samples, espeak.rate_hz, rng)
        recorder.add(samples, espeak.rate_hz, text, -1, voice.variant)
    recorder.save(work / "omni_speech.npz")


class SpeechStream(IterableDataset[tuple[Tensor, Tensor, list[str]]]):
    """Endless batches: log-mels (n, frames, 64), lengths (n,) and what is said. cores: as for `ChartStream`."""

    def __init__(self, work: Path, size: int, seed: int, cores: set[int] | None = None) -> None:
        self.work, self.size, self.seed, self.cores = work, size, seed, cores

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, list[str]]]:
        if get_worker_info() is not None and self.cores is not None:
            os.sched_setaffinity(0, self.cores)
        torch.set_num_threads(1)
        data = np.load(self.work / "omni_speech.npz")
        mels, starts = torch.from_numpy(data["mels"]), data["starts"]
        texts = [spoken(text) for text in data["texts"].tolist()]
        lengths = np.diff(starts)
        usable = np.array([
            row for row, text in enumerate(texts) if text and FEWEST_FRAMES <= lengths[row] <= MOST_FRAMES
        ])  # fmt: skip
        rng, augment = np.random.default_rng(self.seed), SpeechAugmenter(self.seed)
        while True:
            pool = rng.choice(usable, 4 * self.size, replace=False)
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            start = self.size * int(rng.integers(4))
            rows = pool[start : start + self.size]
            clips = pad_clips([mels[starts[row] : starts[row + 1]].float() / 127.5 - 1 for row in rows])
            if rng.random() > AS_IS:
                clips = augment(*clips)
            yield (*clips, [texts[row] for row in rows])
