"""Galleries of text, images and speech together, and queries of each kind that are not in them.

Everything is held out as in evaluate.py. The matches of a query are all items of its concepts, of any modality.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.encoders.bridged import BridgedEncoder
from recipes.starter.data.concepts import EMOJI_TEST, read
from recipes.starter.figures import judges

KINDS = ("text", "image", "audio")
# What is measured on, and what the constants of multimodal/index/search/score_calibration.py are fitted on.
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
    """Unit vectors (n, dim), which concepts each is about (n, concepts), and their modality, as a place in KINDS."""

    vectors: Floats
    about: Flags
    kind: int

    def only(self, rows: Flags) -> Queries:
        return Queries(self.vectors[rows], self.about[rows], self.kind)

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
    """names: of the concepts; families: Unicode's subgroup of each. scale: by which the space was trained to multiply
    the cosines of pictures and texts."""

    names: list[str]
    families: list[str]
    queries: dict[str, Queries]
    gallery: Gallery
    crowd: Gallery
    scale: float

    def halves(self) -> tuple[Flags, Flags]:
        """The concepts that are fitted on, and those that are measured on."""
        first = np.random.default_rng(SEED).random(len(self.names)) < 0.5
        return first, ~first


def gather(folder: Path, work: Path) -> World:
    """Encodes it all with the space in a folder; about a minute."""
    space, world = Space.from_pretrained(folder), read(work / "world.jsonl")
    names = [path.name for path in world]
    count, every, drawn = len(names), list(range(len(names))), judges.drawn_by_openmoji(work)
    eyes, ears = (_tower(space, modality) for modality in (Modality.IMAGE, Modality.AUDIO))

    def by_text(pairs: list[tuple[str, int]]) -> Queries:
        texts = sorted({text for text, _ in pairs})
        about = np.zeros((len(texts), count), bool)
        for text, concept in pairs:
            about[texts.index(text), concept] = True
        return Queries(space.encode(list(texts), batch_size=256), about, 0)

    def of(vectors: Floats, concepts: list[int], kind: int) -> Queries:
        return Queries(vectors, np.eye(count, dtype=bool)[concepts], kind)

    seen = {
        kind: judges.see(eyes, judges.images(work, kind)).numpy()
        for kind in ("ground", "untouched ground", "openmoji", "both", "twemoji")
    }
    heard = {
        voice: judges.hear(ears, work, voice)
        for voice in ("espeak0", "espeak1", "espeak2", "rms", "kal16", "festival")
    }
    queries = {
        "name": of(space.encode(list(names), batch_size=256), every, 0),
        "unicode name": by_text(
            [(item.unicode_name, row) for row, item in enumerate(world) if item.unicode_name]
        ),
        "held-out keyword": by_text(
            [(word, row) for row, item in enumerate(world) for word in item.held_out]
        ),
        "keyword": by_text([(word, row) for row, item in enumerate(world) for word in item.keywords]),
        "openmoji": of(seen["openmoji"][drawn], drawn, 1),
        **{kind: of(seen[kind], every, 1) for kind in ("ground", "untouched ground", "both", "twemoji")},
        **{voice: of(vectors.numpy(), own, 2) for voice, (vectors, own) in heard.items()},
    }
    crowded = np.zeros(count, bool)
    crowded[np.random.default_rng(SEED).choice(np.flatnonzero(~_first(count)), 40, replace=False)] = True
    crowd = ("name", "keyword", "ground", "both", "twemoji", "espeak0", "espeak2", "festival")
    families = _families()
    return World(
        names, [families[item.emoji] for item in world], queries,
        _gallery([queries[name] for name in ("name", "ground", "espeak0")]),
        _gallery([queries[name].within(crowded) for name in crowd]),
        space.logit_scale_for(Modality.TEXT, Modality.IMAGE).scale,
    )  # fmt: skip


class _Brought(nn.Module):
    """The network of one space with what brings it into another."""

    def __init__(self, net: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.net, self.projector = net, projector

    def forward(self, *batch: Tensor) -> Tensor:
        return nn.functional.normalize(self.projector(self.net(*batch)), dim=-1)


def _tower(space: Space, modality: Modality) -> nn.Module:
    """The tower that judges.see and judges.hear run, for the families of the recipes."""
    encoder = space.encoders[modality]
    if isinstance(encoder, BridgedEncoder):
        return _Brought(encoder.inner.net, encoder.projector)  # type: ignore[attr-defined]
    return encoder.net  # type: ignore[attr-defined, no-any-return]


def _first(count: int) -> Flags:
    return np.random.default_rng(SEED).random(count) < 0.5


def _gallery(parts: list[Queries]) -> Gallery:
    return Gallery(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([np.full(len(part.vectors), part.kind) for part in parts]),
        np.concatenate([part.about.argmax(1) for part in parts]),
    )


def _families() -> dict[str, str]:
    """Unicode's subgroup of each emoji, such as "animal-bird"."""
    family, families = "", {}
    for line in EMOJI_TEST.read_text(encoding="utf-8").splitlines():
        if line.startswith("# subgroup:"):
            family = line.partition(":")[2].strip()
        elif ";" in line and not line.startswith("#"):
            families["".join(chr(int(code, 16)) for code in line.split(";")[0].split())] = family
    return families
