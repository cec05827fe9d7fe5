"""Held-out evaluation: galleries of all concepts, one item each; recall at 1, 5 and 10.

Held-out items are of other families than in training (backgrounds, distortions, voices, synthesisers, an artist), or
were removed from the training text as whole strings (keywords, Unicode names, free phrases, combinations).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.evaluation.metrics.retrieval import item_values, rank
from recipes.starter.captioner import captions
from recipes.starter.data import compositor, stress
from recipes.starter.data.concepts import read
from recipes.starter.figures import judges

Recall = dict[str, float]
UNTOUCHED = ("untouched ground", "untouched stress", "untouched both")
SPEAKERS = {
    "unseen voices": ("espeak0", "espeak1", "espeak2"),
    "flite kal16": ("kal16",),
    "flite rms": ("rms",),
    "festival": ("festival",),
    "untouched festival ked": ("ked",),
}


class TextSide(Protocol):
    """The names of all concepts, and vectors of any text."""

    names: list[str]
    name_vectors: Tensor

    def encode(self, texts: list[str]) -> Tensor: ...


def recall(queries: Tensor, gallery: Tensor, right: list[set[int]]) -> Recall:
    """Percent of queries with a right answer among the first 1, 5 and 10, as `multimodal.evaluate` counts them."""
    ranks = rank(queries.numpy(), gallery.numpy(), [sorted(own) for own in right])
    hits = item_values(ranks)
    return {f"R@{k}": round(100 * float(hits[f"hit@{k}"].mean()), 1) for k in (1, 5, 10)}


def each(count: int) -> list[set[int]]:
    """Every query has one right answer, at its own place."""
    return [{row} for row in range(count)]


def quick_image(tower: nn.Module, text: TextSide, work: Path) -> Recall:
    """The figures watched while the image tower trains."""
    results: Recall = {}
    for kind in ("clean", "ground", "stress", "both"):
        vectors = judges.see(tower, judges.images(work, kind))
        results[f"name to {kind} R@1"] = recall(text.name_vectors, vectors, each(len(vectors)))["R@1"]
    rows = judges.drawn_by_openmoji(work)
    vectors = judges.see(tower, judges.images(work, "openmoji")[rows])
    results["openmoji to name R@10"] = recall(vectors, text.name_vectors, [{row} for row in rows])["R@10"]
    return results | {
        f"{name} R@1": figures["R@1"] for name, figures in combinations(tower, text, work).items()
    }


def quick_speech(tower: nn.Module, text: TextSide, work: Path) -> Recall:
    """The figures watched while the speech tower trains."""
    results: Recall = {}
    for speaker in ("espeak0", "kal16", "festival"):
        vectors, own = judges.hear(tower, work, speaker, every=3)
        figures = recall(vectors, text.name_vectors, [{row} for row in own])
        results |= {f"{speaker} to name R@{k}": figures[f"R@{k}"] for k in (1, 10)}
    return results


def quick_joint(eyes: nn.Module, ears: nn.Module, work: Path) -> Recall:
    """Whether speech and pictures know each other, watched while they are trained together."""
    vectors, own = judges.hear(ears, work, "espeak0", every=3)
    images = judges.see(eyes, judges.images(work, "ground"))
    return {"espeak0 to ground R@1": recall(vectors, images, [{row} for row in own])["R@1"]}


def combinations(tower: nn.Module, text: TextSide, work: Path, seed: int = 17) -> dict[str, Recall]:
    """Captions of combinations never trained together -> their scene, among the 200 of the kind."""
    held, rng = captions.held_out(len(text.names)), random.Random(seed)
    result = {}
    kinds: dict[str, list[captions.Scene]] = {
        "colour + thing": [(captions.Subject(subject, colour),) for subject, colour in held.coloured],
        "two things": [(captions.Subject(first), captions.Subject(second)) for first, second in held.pairs],
    }
    for name, shown in kinds.items():
        vectors = judges.see(tower, judges.scenes(work, shown, seed))
        text_vectors = text.encode([captions.caption(scene, text.names, rng) for scene in shown])
        result[name] = recall(text_vectors, vectors, each(len(shown)))
    return result


class Shipped:
    """The finished space as users load it, with the world it was made for."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.space = Space.from_pretrained(folder)
        self.world = read(work / "world.jsonl")
        self.names = [concept.name for concept in self.world]
        self.name_vectors = self.encode(self.names)
        self.image: nn.Module = self.space.encoders[Modality.IMAGE].net  # type: ignore[attr-defined]
        self.audio: nn.Module = self.space.encoders[Modality.AUDIO].net  # type: ignore[attr-defined]

    def encode(self, texts: list[str]) -> Tensor:
        """(n, DIM) unit rows of any texts."""
        return torch.from_numpy(self.space.encode(list(texts), batch_size=256))


def full(folder: Path, work: Path, free: dict[str, list[str]]) -> dict[str, object]:
    """Every figure of the model card, from the weights as shipped. `free`: lists of phrases by title."""
    model = Shipped(folder, work)
    kinds = ("clean", "trained", "ground", "stress", "both", *UNTOUCHED, "twemoji")
    seen = {kind: judges.see(model.image, judges.images(work, kind)) for kind in kinds}
    result = text_figures(model, seen) | speech_figures(model, work, seen)
    rows = judges.drawn_by_openmoji(work)
    judged = judges.see(model.image, judges.images(work, "openmoji")[rows])
    result["picture, OpenMoji -> name"] = recall(judged, model.name_vectors, [{row} for row in rows])
    result["name -> picture, OpenMoji"] = recall(model.name_vectors[rows], judged, each(len(rows)))
    for kind, figures in combinations(model.image, model, work).items():
        result[f"caption -> scene among 200, {kind}"] = figures
    answers = {title: answer(model, phrases, seen["clean"]) for title, phrases in free.items()}
    worn = {
        **by_distortion(model, seen["stress"], compositor.STRESS),
        **by_distortion(model, seen["untouched stress"], stress.NAMES),
    }
    return {"concepts": len(model.names), "recall": result, "by distortion": worn, **answers}


def by_distortion(model: Shipped, images: Tensor, kinds: tuple[str, ...]) -> dict[str, float]:
    """Name -> picture R@1 by the distortion of the right picture; they come in turn."""
    result = (model.name_vectors @ images.T).argmax(1) == torch.arange(len(images))
    turns = {kind: result[turn :: len(kinds)].float().mean().item() for turn, kind in enumerate(kinds)}
    return {kind: round(100 * share, 1) for kind, share in turns.items()}


def answer(model: Shipped, phrases: list[str], images: Tensor) -> dict[str, list[str]]:
    """The names of the five pictures nearest to each phrase."""
    top = (model.encode(phrases) @ images.T).topk(5, dim=1).indices.tolist()
    return {phrase: [model.names[row] for row in rows] for phrase, rows in zip(phrases, top, strict=True)}


def text_figures(model: Shipped, seen: dict[str, Tensor]) -> dict[str, Recall]:
    """Names, Unicode names and held-out keywords to pictures."""
    figures = {
        f"name -> picture, {kind}": recall(model.name_vectors, vectors, each(len(vectors)))
        for kind, vectors in seen.items()
    }
    official = {
        concept.unicode_name: {row} for row, concept in enumerate(model.world) if concept.unicode_name
    }
    keywords: dict[str, set[int]] = {}
    for row, concept in enumerate(model.world):
        for word in concept.held_out:
            keywords.setdefault(word, set()).add(row)
    for title, concepts_of in (("Unicode name", official), ("held-out keyword", keywords)):
        vectors = model.encode(list(concepts_of))
        for kind in ("clean", "ground", "both"):
            figures[f"{title} ({len(concepts_of)}) -> picture, {kind}"] = recall(
                vectors, seen[kind], list(concepts_of.values())
            )
    return figures


def speech_figures(model: Shipped, work: Path, seen: dict[str, Tensor]) -> dict[str, Recall]:
    """Speech by voices and synthesisers never trained on, to names and pictures, and pictures to speech."""
    figures = {}
    for title, turns in SPEAKERS.items():
        takes = [judges.hear(model.audio, work, turn) for turn in turns]
        vectors, right = torch.cat([take for take, _ in takes]), [{row} for _, rows in takes for row in rows]
        figures[f"speech, {title} -> name"] = recall(vectors, model.name_vectors, right)
        for kind in ("clean", "ground", "both"):
            figures[f"speech, {title} -> picture, {kind}"] = recall(vectors, seen[kind], right)
        gallery, rows = takes[0]
        for kind in ("clean", "ground", "both"):
            figures[f"picture, {kind} -> speech, {title}"] = recall(
                seen[kind][rows], gallery, each(len(rows))
            )
    return figures
