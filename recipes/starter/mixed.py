"""Galleries of texts, pictures and speech together, and queries of each kind that are in none of them.

Everything is held out as in evaluate.py. A query's matches are all items of its concepts, of whatever modality.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recipes.starter import judges
from recipes.starter.concepts import EMOJI_TEST
from recipes.starter.evaluate import Shipped

KINDS = ("text", "image", "audio")
# What is measured on, and what the constants of multimodal/index/calibration.py are fitted on.
JUDGES = {
    "text": ("unicode name", "held-out keyword"),
    "image": ("openmoji", "untouched ground"),
    "audio": ("rms", "kal16", "espeak1"),
}
FITTED = {"text": ("keyword",), "image": ("twemoji", "both"), "audio": ("festival", "espeak2")}
SEED = 5

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Queries:
    """Unit vectors (n, dim), and which concepts each is about (n, concepts)."""

    vectors: Floats
    about: Flags

    def only(self, rows: Flags) -> Queries:
        return Queries(self.vectors[rows], self.about[rows])

    def within(self, concepts: Flags) -> Queries:
        """Those about some of these concepts and no other."""
        return self.only(self.about[:, concepts].any(1) & ~self.about[:, ~concepts].any(1))


@dataclass(frozen=True, eq=False)
class Gallery:
    """Unit vectors (n, dim), modalities (n,) as places in KINDS, and concepts (n,)."""

    vectors: Floats
    kinds: Whole
    concepts: Whole

    def only(self, rows: Flags) -> Gallery:
        return Gallery(self.vectors[rows], self.kinds[rows], self.concepts[rows])


@dataclass(frozen=True, eq=False)
class World:
    """names: of the concepts; families: Unicode's subgroup of each."""

    names: list[str]
    families: list[str]
    queries: dict[str, Queries]
    gallery: Gallery
    crowd: Gallery

    def halves(self) -> tuple[Flags, Flags]:
        """The concepts that are fitted on, and those that are measured on."""
        first = np.random.default_rng(SEED).random(len(self.names)) < 0.5
        return first, ~first


def gather(folder: Path, work: Path) -> World:
    """Encodes it all with the space in a folder; about a minute."""
    model = Shipped(folder, work)
    count = len(model.names)

    def told(pairs: list[tuple[str, int]]) -> Queries:
        texts = sorted({text for text, _ in pairs})
        about = np.zeros((len(texts), count), bool)
        for text, concept in pairs:
            about[texts.index(text), concept] = True
        return Queries(model.encode(texts).numpy(), about)

    def of(vectors: Floats, concepts: list[int]) -> Queries:
        return Queries(vectors, np.eye(count, dtype=bool)[concepts])

    every, drawn = list(range(count)), judges.drawn_by_openmoji(work)
    world = list(enumerate(model.world))
    seen = {
        kind: judges.see(model.image, judges.pictures(work, kind)).numpy()
        for kind in ("ground", "untouched ground", "openmoji", "both", "twemoji")
    }
    heard = {
        voice: judges.hear(model.audio, work, voice)
        for voice in ("espeak0", "espeak1", "espeak2", "rms", "kal16", "festival")
    }
    queries = {
        "name": of(model.name_vectors.numpy(), every),
        "unicode name": told([(one.unicode_name, row) for row, one in world if one.unicode_name]),
        "held-out keyword": told([(word, row) for row, one in world for word in one.held_out]),
        "keyword": told([(word, row) for row, one in world for word in one.keywords]),
        "openmoji": of(seen["openmoji"][drawn], drawn),
        **{kind: of(seen[kind], every) for kind in ("ground", "untouched ground", "both", "twemoji")},
        **{voice: of(vectors.numpy(), own) for voice, (vectors, own) in heard.items()},
    }
    crowded = np.zeros(count, bool)
    crowded[np.random.default_rng(SEED).choice(np.flatnonzero(~_first(count)), 40, replace=False)] = True
    crowd = [("name", "keyword"), ("ground", "both", "twemoji"), ("espeak0", "espeak2", "festival")]
    parts = [(number, queries[name].within(crowded)) for number, names in enumerate(crowd) for name in names]
    families = _families()
    return World(
        model.names, [families[one.emoji] for one in model.world], queries,
        _gallery([(number, queries[name]) for number, name in enumerate(("name", "ground", "espeak0"))]),
        _gallery(parts),
    )  # fmt: skip


def _first(count: int) -> Flags:
    return np.random.default_rng(SEED).random(count) < 0.5


def _gallery(parts: list[tuple[int, Queries]]) -> Gallery:
    return Gallery(
        np.concatenate([one.vectors for _, one in parts]),
        np.concatenate([np.full(len(one.vectors), number) for number, one in parts]),
        np.concatenate([one.about.argmax(1) for _, one in parts]),
    )


def _families() -> dict[str, str]:
    """Unicode's subgroup of each emoji, such as "animal-bird"."""
    family, found = "", {}
    for line in EMOJI_TEST.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup:"):
            family = line.partition(":")[2].strip()
        elif ";" in line and not line.startswith("#"):
            found["".join(chr(int(code, 16)) for code in line.split(";")[0].split())] = family
    return found
