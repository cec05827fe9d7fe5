"""Step 3: synthesised names, keywords, words and captions -> log-mels as uint8 (speech.npz, speech_judge.npz)."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from multimodal.encoders.starter.parameters import MAX_FRAMES, N_MELS, RATE_HZ
from multimodal.encoders.starter.preprocessing import log_mel
from recipes.starter.captioner import captions
from recipes.starter.data import voices
from recipes.starter.data.concepts import Concept, read

NAME_TAKES, KEYWORD_TAKES, WORDS, CAPTIONS = 30, 3, 15_000, 10_000
JUDGE_ROUNDS = 3


class Recorder:
    """Utterances packed end to end: mels (frames, 64) uint8, starts, and the text of each."""

    def __init__(self, frames: int) -> None:
        # one block from the start: small arrays kept between large temporary ones fragment the heap (4 GB at 20 k)
        self.mels = np.zeros((frames, N_MELS), np.uint8)
        self.starts = [0]
        self.texts: list[str] = []
        self.concepts: list[int] = []
        self.speakers: list[str] = []

    def add(self, samples: np.ndarray, rate_hz: int, text: str, concept: int, speaker: str) -> None:
        """Keep one utterance; `concept` is -1 where the text is not a concept's name or keyword."""
        if rate_hz != RATE_HZ:
            samples = resample(samples, rate_hz)
        if len(samples) < RATE_HZ // 10 or np.abs(samples).max() < 1e-3:
            return  # some keywords ("?") speak to silence
        mel = log_mel(np.ascontiguousarray(samples, np.float32))[:MAX_FRAMES]
        start, stop = self.starts[-1], self.starts[-1] + len(mel)
        self.mels[start:stop] = ((mel + 1) * 127.5).round().numpy()
        self.starts.append(stop)
        self.texts.append(text)
        self.concepts.append(concept)
        self.speakers.append(speaker)

    def save(self, path: Path) -> None:
        """Write everything to one npz."""
        np.savez(path, mels=self.mels[: self.starts[-1]], starts=np.array(self.starts), texts=np.array(self.texts),
                 concepts=np.array(self.concepts), speakers=np.array(self.speakers))  # fmt: skip


def resample(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    """To RATE_HZ by cutting the spectrum: 22.05 -> 16 kHz takes a filter of 320 phases ten times as long."""
    count = round(len(samples) * RATE_HZ / rate_hz)
    spectrum = np.fft.rfft(samples)[: count // 2 + 1]
    return np.asarray(np.fft.irfft(spectrum, count) * (count / len(samples)), np.float32)


def room(samples: np.ndarray, rate_hz: int, rng: random.Random) -> np.ndarray:
    """A small synthetic room: exponentially decaying noise as its impulse response."""
    seconds = rng.uniform(0.05, 0.35)
    length = int(seconds * rate_hz)
    generator = np.random.default_rng(rng.getrandbits(32))
    tail = generator.standard_normal(length).astype(np.float32) * np.exp(
        -6.9 * np.arange(length, dtype=np.float32) / length
    )
    tail *= rng.uniform(0.2, 0.8) / np.sqrt((tail**2).sum())
    tail[0] += 1.0
    size = 1 << (len(samples) + length - 1).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[
        : len(samples) + length // 2
    ]
    return np.asarray(wet, np.float32)


def training_lines(world: list[Concept], words: list[str], rng: random.Random) -> Iterator[tuple[str, int]]:
    """(text, concept or -1) of every training utterance."""
    for number, concept in enumerate(world):
        for _ in range(NAME_TAKES):
            yield concept.name, number
        for keyword in concept.keywords:
            for _ in range(KEYWORD_TAKES if rng.random() < 0.5 else 1):
                yield keyword, -1
    for word in words[:WORDS]:
        yield word, -1
    names, held = [concept.name for concept in world], captions.held_out(len(world))
    for _ in range(CAPTIONS):
        yield captions.caption(captions.random_scene(rng, len(world), held, plain=0.2), names, rng), -1


def run(work: Path, seed: int = 5) -> None:
    """Write speech.npz (training) and speech_judge.npz (voices and synthesisers never trained on)."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    world, espeak, rng = read(work / "world.jsonl"), voices.Espeak(), random.Random(seed)
    words = json.loads((work / "phrases.json").read_text())["word"]
    judge(world, espeak, work)
    started, recorder = time.time(), Recorder(16_000_000)
    for text, concept in training_lines(world, words, rng):
        voice = voices.training_voice(rng)
        samples = espeak.say(text, voice)
        if rng.random() < 0.3 and len(samples):
            samples = room(samples, espeak.rate_hz, rng)
        recorder.add(samples, espeak.rate_hz, text, concept, voice.variant)
        if len(recorder.texts) % 10_000 == 0:
            print(f"{len(recorder.texts)} utterances in {time.time() - started:.0f} s", flush=True)
    recorder.save(work / "speech.npz")


def judge(world: list[Concept], espeak: voices.Espeak, work: Path) -> None:
    """Every name by held-out espeak variants (three each), by flite, and by festival.

    Festival's ked is not looked at before the weights are finished.
    """
    recorder, held = Recorder(3_000_000), voices.held_out_voices()
    for turn in range(JUDGE_ROUNDS):
        for number, concept in enumerate(world):
            voice = held[(number + turn * 7) % len(held)]
            recorder.add(
                espeak.say(concept.name, voice), espeak.rate_hz, concept.name, number, f"espeak{turn}"
            )
    for speaker in ("kal16", "rms"):
        for number, concept in enumerate(world):
            recorder.add(*voices.flite(concept.name, speaker), concept.name, number, speaker)
    for title, speaker in (("festival", "kal"), ("ked", "ked")):
        spoken = voices.festival([concept.name for concept in world], work / f"festival_{speaker}", speaker)
        for number, (concept, (samples, rate_hz)) in enumerate(zip(world, spoken, strict=True)):
            recorder.add(samples, rate_hz, concept.name, number, title)
    recorder.save(work / "speech_judge.npz")
