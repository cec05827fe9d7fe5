"""Speech finds pictures: what is asked, of which space, and the table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multimodal.core.items import Image, Item
from multimodal.core.modality import Modality
from multimodal.core.paths import assets
from multimodal.core.space import Space
from recipes.bridge import data, spaces
from recipes.starter.captioner import captions
from recipes.starter.data import compositor
from recipes.starter.figures import evaluate, judges
from recipes.starter.figures.evaluate import Recall

CHOSEN_BY, JUDGES = "espeak0", ("espeak1", "espeak2")  # settings were chosen by the first; the others judge
GALLERIES = ("clean", "moved")
MEDIA = 2000  # of each kind, without pairs, where any are given


@dataclass
class Questions:
    """Spoken names by voices never trained on, and galleries of every concept once: on white, and turned and moved on
    plain grounds."""

    work: Path

    def speech(self, voice: str) -> tuple[list[Item], list[int]]:
        """Clips of one voice and the concept each names."""
        small, found = spaces.family(), judges.clips(self.work)
        rows = np.flatnonzero(found["speakers"] == voice)
        mels, starts = torch.from_numpy(found["mels"]), found["starts"]
        clips = [mels[starts[row] : starts[row + 1]].float() / 127.5 - 1 for row in rows]
        return [small.as_sound(clip) for clip in clips], found["concepts"][rows].tolist()  # type: ignore[attr-defined]

    @cached_property
    def galleries(self) -> dict[str, list[Item]]:
        noto = np.load(self.work / "glyphs.npz")["noto"]
        moved = judges.theatre(noto[None], judges.QUIET, 99)
        drawn = moved.draw([(captions.Thing(row),) for row in range(len(noto))], judges.SIDE, jitter=0.7)
        found = {"clean": judges.pictures(self.work, "clean"), "moved": compositor.as_bytes(drawn)}
        return {name: as_images(pictures) for name, pictures in found.items()}

    @cached_property
    def held_out(self) -> set[int]:
        return set(data.held_out_concepts(data.world_of(self.work)))


def as_images(pictures: torch.Tensor) -> list[Item]:
    """uint8 (n, 3, h, w) as items."""
    return [Image(one.permute(1, 2, 0).contiguous().numpy()) for one in pictures]


def speech_to_picture(
    questions: Questions,
    hears: Space,
    sees: Space,
    voices: tuple[str, ...] = JUDGES,
    turned: np.ndarray | None = None,
) -> dict[str, dict[str, Recall]]:
    """{gallery: {"all" | "named" | "held out": recall}}; named are the concepts that the bridging corpus names.

    turned: a map (from, to) for vectors of speech where the two are spaces of different size.
    """
    takes = [questions.speech(voice) for voice in voices]
    spoken = hears.encode([clip for clips, _ in takes for clip in clips], batch_size=64)
    spoken = spoken if turned is None else spoken @ turned
    return among_pictures(questions, spoken, [concept for _, found in takes for concept in found], sees)


def shipped(questions: Questions, voices: tuple[str, ...] = JUDGES) -> dict[str, dict[str, Recall]]:
    """The same of the starter that ships, which is larger and was trained on pictures and speech together for hours."""
    space = Space.from_pretrained(assets() / "starter", device="cpu")
    tower = space.encoders[Modality.AUDIO].net  # type: ignore[attr-defined]
    takes = [judges.hear(tower, questions.work, voice) for voice in voices]
    spoken = torch.cat([vectors for vectors, _ in takes]).float().numpy()
    return among_pictures(questions, spoken, [concept for _, found in takes for concept in found], space)


def among_pictures(
    questions: Questions, spoken: np.ndarray, named: list[int], sees: Space
) -> dict[str, dict[str, Recall]]:
    """Vectors of speech, each of which names a concept, look for its picture in each gallery."""
    concepts = np.array(named)
    held = np.isin(concepts, list(questions.held_out))
    found: dict[str, dict[str, Recall]] = {}
    for name, gallery in questions.galleries.items():
        pictures = torch.from_numpy(sees.encode(gallery, batch_size=128))
        found[name] = {
            title: evaluate.recall(
                torch.from_numpy(spoken[rows]), pictures, [{c} for c in concepts[rows].tolist()]
            )
            for title, rows in (("all", held | True), ("named", ~held), ("held out", held))
        }
    return found


def own_figures(questions: Questions, space: Space, world_names: list[str]) -> dict[str, Recall]:
    """What each space knows by itself: speech -> name, name -> picture."""
    names, found = torch.from_numpy(space.encode(list(world_names), batch_size=256)), {}
    if "audio" in space.modalities:
        takes = [questions.speech(voice) for voice in JUDGES]
        spoken = torch.from_numpy(space.encode([clip for clips, _ in takes for clip in clips], batch_size=64))
        found["speech -> name"] = evaluate.recall(spoken, names, [{c} for _, cs in takes for c in cs])
    if "image" in space.modalities:
        for title, gallery in questions.galleries.items():
            pictures = torch.from_numpy(space.encode(gallery, batch_size=128))
            found[f"name -> picture, {title}"] = evaluate.recall(names, pictures, evaluate.each(len(names)))
    return found


def table(result: dict[str, Any]) -> str:
    """Markdown: R@10 of speech -> picture for each bridge, and its share of the shipped starter's."""
    best = result["shipped starter"]["clean"]["all"]["R@10"]
    lines = [
        "| learned from | method | held-out texts | clean: all | named | held out | moved: all | named | held out "
        "| of the starter |",
        "|---|---|" + "---:|" * 8,
    ]

    def cells(found: dict[str, dict[str, Recall]]) -> str:
        return " | ".join(
            f"{found[gallery][title]['R@10']}"
            for gallery in GALLERIES
            for title in ("all", "named", "held out")
        )

    for row in result["bridges"]:
        found = row["speech -> picture"]
        text, share = 100 * row["report"]["recall"]["R@10"], found["clean"]["all"]["R@10"] / best
        lines.append(f"| {row['from']} | {row['method']} | {text:.1f} | {cells(found)} | {share:.0%} |")
    lines.append(f"| nothing (before) | – | – | {cells(result['before'])} | |")
    lines.append(f"| pairs, as many steps | trained into one | – | {cells(result['trained into one'])} | |")
    lines.append(f"| pairs, hours | shipped starter | – | {cells(result['shipped starter'])} | 100% |")
    return "\n".join(lines)
