"""The configuration of a pretraining: a TOML file of data and stages."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

MASKED = {"next-word": "text", "masked-word": "text", "masked-image": "image", "masked-audio": "audio"}
CONTRASTIVE = ("clip", "siglip")


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        objective: "next-word", "masked-word", "masked-image" or "masked-audio" (self-supervised); "clip" or "siglip".
        steps: Optimiser steps.
        batch: Samples of a step, over all processes.
        chunk: Samples embedded at a time by one process; the gradient is that of the whole batch.
        learning_rate: Peak, after a warm-up of a tenth of the steps; falls to zero.
        pair: The two modalities that "clip" and "siglip" align.
        share: Share of the pairs that "clip" and "siglip" may use; the same ones for every run.
    """

    objective: str
    steps: int
    batch: int = 64
    chunk: int = 256
    learning_rate: float = 1e-3
    pair: tuple[str, str] = ("image", "text")
    share: float = 1.0

    @property
    def modalities(self) -> tuple[str, ...]:
        return self.pair if self.objective in CONTRASTIVE else (MASKED[self.objective],)


@dataclass(frozen=True)
class Data:
    """Where samples come from.

    Attributes:
        source: "emoji", a folder (files of one stem belong together: a.jpg, a.txt, a.wav), or WebDataset shards
            ("shards/*.tar").
        concepts: Emoji of the emoji world; 0 for all.
        renders: Samples of each.
        side: Pixels of images. Spaces are saved for 64.
        vocabulary: Largest number of tokens.
        vocabulary_samples: Samples whose texts the vocabulary is made from.
        held_out: Share of the samples that only judge.
        shuffle: Samples of a shard's shuffle buffer.
        cache: Whether decoded images stay in memory, for small sets.
    """

    source: str = "emoji"
    concepts: int = 0
    renders: int = 30
    side: int = 64
    vocabulary: int = 8000
    vocabulary_samples: int = 20_000
    held_out: float = 0.05
    shuffle: int = 2000
    cache: bool = False


@dataclass(frozen=True)
class Config:
    """Everything that determines a run."""

    stages: tuple[Stage, ...]
    data: Data = field(default_factory=Data)
    seed: int = 0
    mixed_precision: bool = True
    checkpoint_every: int = 200
    log_every: int = 10
    judge_samples: int = 1000


def read(path: Path) -> Config:
    """The configuration in a TOML file.

    Raises:
        ValueError: For an unknown key, objective or value; the message names it.
    """
    with path.open("rb") as file:
        content = tomllib.load(file)
    stages = tuple(_made(Stage, stage, f"{path.name}: stages") for stage in content.pop("stages", []))
    if not stages:
        raise ValueError(f"{path.name} has no [[stages]]: name at least one objective and its steps")
    data = _made(Data, content.pop("data", {}), f"{path.name}: data")
    config: Config = _made(Config, {**content, "stages": stages, "data": data}, path.name)
    return config


def _made(kind: Any, values: dict[str, Any], where: str) -> Any:
    names = [entry.name for entry in fields(kind)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{where} has no key {unknown[0]!r}: the keys are {', '.join(names)}")
    if kind is Stage:
        objective = values.get("objective")
        if objective not in (*MASKED, *CONTRASTIVE):
            known = ", ".join((*MASKED, *CONTRASTIVE))
            raise ValueError(f"{where} has the objective {objective!r}: the objectives are {known}")
        if values.get("steps", 0) < 1 or not 0 < values.get("share", 1.0) <= 1:
            raise ValueError(f"{where}: steps must be at least 1, and share above 0 and at most 1")
        values = {**values, "pair": tuple(values.get("pair", ("image", "text")))}
    return kind(**values)
