"""Speech-image retrieval: queries, galleries, recall and the table."""

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

CHOSEN_BY, JUDGES = (
    "espeak0",
    ("espeak1", "espeak2"),
)  # the first is for choosing settings, the others for evaluation
GALLERIES = ("clean", "moved")
MEDIA = 2000  # unpaired items of each modality


@dataclass
class Questions:
    """Spoken names by voices not used in training, and galleries with one image per concept: on white, and rotated and
    shifted on plain backgrounds."""

    work: Path

    def speech(self, voice: str) -> tuple[list[Item], list[int]]:
        """Clips of one voice and the concept each names."""
        small, results = spaces.family(), judges.clips(self.work)
        rows = np.flatnonzero(results["speakers"] == voice)
        mels, starts = torch.from_numpy(results["mels"]), results["starts"]
        clips = [mels[starts[row] : starts[row + 1]].float() / 127.5 - 1 for row in rows]
        return [small.as_sound(clip) for clip in clips], results["concepts"][rows].tolist()  # type: ignore[attr-defined]

    @cached_property
    def galleries(self) -> dict[str, list[Item]]:
        noto = np.load(self.work / "glyphs.npz")["noto"]
        moved = judges.make_compositor(noto[None], judges.QUIET, 99)
        drawn = moved.draw([(captions.Subject(row),) for row in range(len(noto))], judges.SIDE, jitter=0.7)
        results = {"clean": judges.images(self.work, "clean"), "moved": compositor.as_bytes(drawn)}
        return {name: as_images(images) for name, images in results.items()}

    @cached_property
    def held_out(self) -> set[int]:
        return set(data.held_out_concepts(data.world_of(self.work)))


def as_images(images: torch.Tensor) -> list[Item]:
    """Pixels (n, 3, h, w) uint8 as image items."""
    return [Image(pixels.permute(1, 2, 0).contiguous().numpy()) for pixels in images]


def speech_to_image(
    questions: Questions,
    hears: Space,
    sees: Space,
    voices: tuple[str, ...] = JUDGES,
    projection: np.ndarray | None = None,
) -> dict[str, dict[str, Recall]]:
    """{gallery: {"all" | "named" | "held out": recall}}; "named" concepts occur in the bridge's corpus.

    projection: a map (from, to) of speech vectors between spaces of different size.
    """
    takes = [questions.speech(voice) for voice in voices]
    spoken = hears.encode([clip for clips, _ in takes for clip in clips], batch_size=64)
    spoken = spoken if projection is None else spoken @ projection
    return image_recall(questions, spoken, [concept for _, results in takes for concept in results], sees)


def shipped(questions: Questions, voices: tuple[str, ...] = JUDGES) -> dict[str, dict[str, Recall]]:
    """The same for the shipped starter, which is larger and was trained for hours on image and speech together."""
    space = Space.from_pretrained(assets() / "starter", device="cpu")
    tower = space.encoders[Modality.AUDIO].net  # type: ignore[attr-defined]
    takes = [judges.hear(tower, questions.work, voice) for voice in voices]
    spoken = torch.cat([vectors for vectors, _ in takes]).float().numpy()
    return image_recall(questions, spoken, [concept for _, results in takes for concept in results], space)


def image_recall(
    questions: Questions, spoken: np.ndarray, named: list[int], sees: Space
) -> dict[str, dict[str, Recall]]:
    """Recall of images in each gallery by vectors of speech, each of which names a concept."""
    concepts = np.array(named)
    held = np.isin(concepts, list(questions.held_out))
    results: dict[str, dict[str, Recall]] = {}
    for name, gallery in questions.galleries.items():
        images = torch.from_numpy(sees.encode(gallery, batch_size=128))
        results[name] = {
            title: evaluate.recall(
                torch.from_numpy(spoken[rows]), images, [{c} for c in concepts[rows].tolist()]
            )
            for title, rows in (("all", held | True), ("named", ~held), ("held out", held))
        }
    return results


def own_figures(questions: Questions, space: Space, world_names: list[str]) -> dict[str, Recall]:
    """Recall within a space: speech -> name, name -> image."""
    names, figures = torch.from_numpy(space.encode(list(world_names), batch_size=256)), {}
    if "audio" in space.modalities:
        takes = [questions.speech(voice) for voice in JUDGES]
        spoken = torch.from_numpy(space.encode([clip for clips, _ in takes for clip in clips], batch_size=64))
        figures["speech -> name"] = evaluate.recall(spoken, names, [{c} for _, cs in takes for c in cs])
    if "image" in space.modalities:
        for title, gallery in questions.galleries.items():
            images = torch.from_numpy(space.encode(gallery, batch_size=128))
            figures[f"name -> picture, {title}"] = evaluate.recall(names, images, evaluate.each(len(names)))
    return figures


def table(result: dict[str, Any]) -> str:
    """Markdown table: R@10 of speech -> image for each bridge, and relative to the shipped starter."""
    best = result["shipped starter"]["clean"]["all"]["R@10"]
    lines = [
        "| training data | method | held-out texts | clean: all | named | held out | moved: all | named | held out "
        "| of the starter |",
        "|---|---|" + "---:|" * 8,
    ]

    def cells(recalls: dict[str, dict[str, Recall]]) -> str:
        return " | ".join(
            f"{recalls[gallery][title]['R@10']}"
            for gallery in GALLERIES
            for title in ("all", "named", "held out")
        )

    for row in result["bridges"]:
        recalls = row["speech -> picture"]
        text, share = 100 * row["report"]["recall"]["R@10"], recalls["clean"]["all"]["R@10"] / best
        lines.append(f"| {row['from']} | {row['method']} | {text:.1f} | {cells(recalls)} | {share:.0%} |")
    lines.append(f"| nothing (before) | – | – | {cells(result['before'])} | |")
    lines.append(f"| pairs, as many steps | trained jointly | – | {cells(result['trained into one'])} | |")
    lines.append(f"| pairs, hours | shipped starter | – | {cells(result['shipped starter'])} | 100% |")
    return "\n".join(lines)
