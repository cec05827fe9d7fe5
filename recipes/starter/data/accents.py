"""Step 10: names, keywords, words and captions by a second synthesiser -> accents.npz, accents_judge.npz.

The tower trained on espeak-ng alone recognised fewer than half of the names by another synthesiser. Two of flite's
voices, at many tempos and pitches, add a second accent. Training is monitored on names that flite does not speak in
training, at tempos and pitches that do not occur in training.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from recipes.starter.captioner import captions
from recipes.starter.data import flite
from recipes.starter.data.concepts import Concept, read
from recipes.starter.data.prepare_speech import Recorder, room

NAME_TAKES, WORDS, CAPTIONS = 8, 7_000, 6_000
WORKERS = 2
EACH, OF = 11, 20  # of twenty concepts, this one's name is kept from flite
FRAMES = 6_000_000


def kept_back(concept: int) -> bool:
    """Whether flite does not speak this concept's name in training."""
    return concept % OF == EACH


def training_lines(world: list[Concept], words: list[str], rng: random.Random) -> Iterator[tuple[str, int]]:
    """(text, concept or -1) of every utterance."""
    names = [concept.name for concept in world]
    quiet = {name for number, name in enumerate(names) if kept_back(number)}
    for number, concept in enumerate(world):
        if not kept_back(number):
            yield from [(concept.name, number)] * NAME_TAKES
        yield from ((keyword, -1) for keyword in concept.keywords if keyword not in quiet)
    yield from ((word, -1) for word in words[:WORDS] if word not in quiet)
    held, n_captions = captions.held_out(len(world)), 0
    while n_captions < CAPTIONS:
        scene = captions.random_scene(rng, len(world), held, plain=0.2)
        if not any(kept_back(subject.concept) for subject in scene):
            n_captions += 1
            yield captions.caption(scene, names, rng), -1


@lru_cache(maxsize=1)
def synthesiser() -> flite.Flite:
    """One a process."""
    return flite.Flite()


def speak(line: tuple[str, flite.Way]) -> tuple[np.ndarray, int]:
    """(samples, rate) of a text in a way; for the workers."""
    return synthesiser().say(*line)


def run(work: Path, seed: int = 7) -> None:
    """Write accents_judge.npz and accents.npz."""
    torch.set_grad_enabled(False)
    world, rng = read(work / "world.jsonl"), random.Random(seed)
    words = json.loads((work / "phrases.json").read_text())["word"]
    judge, ways = Recorder(100_000), flite.fresh_ways()
    for number, concept in enumerate(world):
        for way in ways if kept_back(number) else ():
            judge.add(*speak((concept.name, way)), concept.name, number, way.speaker)
    judge.save(work / "accents_judge.npz")
    lines = list(training_lines(world, words, rng))
    jobs = [(text, flite.training_way(rng)) for text, _ in lines]
    began, recorder = time.time(), Recorder(FRAMES)
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        said = pool.imap(speak, jobs, chunksize=64)
        for (text, concept), (_, way), (samples, rate_hz) in zip(lines, jobs, said, strict=True):
            if rng.random() < 0.3 and len(samples):
                samples = room(samples, rate_hz, rng)
            recorder.add(samples, rate_hz, text, concept, way.speaker)
            if len(recorder.texts) % 5_000 == 0:
                print(f"{len(recorder.texts)} utterances in {time.time() - began:.0f} s", flush=True)
    recorder.save(work / "accents.npz")
    torch.set_grad_enabled(True)
