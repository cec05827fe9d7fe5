"""Held-out evaluation: galleries of all concepts, one item each; recall at 1, 5 and 10.

The figures of the card are those of `multimodal.evaluate` (`full`); towers in training are monitored on vectors
(`quick_*`), with the same ranks.

Held-out items are of other families than in training (backgrounds, distortions, voices, synthesisers, an artist), or
were removed from the training text as whole strings (keywords, Unicode names, free phrases, combinations).
"""

from __future__ import annotations

import random
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

import multimodal as mm
from multimodal.core.items import Audio, Image
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.evaluation.metrics.retrieval import item_values, rank
from recipes.starter.captioner import captions
from recipes.starter.data import compositor, stress
from recipes.starter.data.concepts import read
from recipes.starter.figures import evaluation_rows, judges

Recall = dict[str, float]
DRAWN = ("clean", "ground", "both")  # kinds that speech, Unicode names and keywords search, too
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
    result = {}
    for name, (shown, said) in combined_scenes(text.names, seed).items():
        vectors = judges.see(tower, judges.scenes(work, shown, seed))
        result[name] = recall(text.encode(said), vectors, each(len(shown)))
    return result


def combined_scenes(names: list[str], seed: int = 17) -> dict[str, tuple[list[captions.Scene], list[str]]]:
    """Scenes of combinations never trained together, with a caption of each, by kind."""
    held, rng = captions.held_out(len(names)), random.Random(seed)
    kinds: dict[str, list[captions.Scene]] = {
        "colour + thing": [(captions.Subject(subject, colour),) for subject, colour in held.coloured],
        "two things": [(captions.Subject(first), captions.Subject(second)) for first, second in held.pairs],
    }
    return {
        name: (shown, [captions.caption(scene, names, rng) for scene in shown])
        for name, shown in kinds.items()
    }


class Shipped:
    """The finished space as users load it, with the world it was made for."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.space = Space.from_pretrained(folder)
        self.cache = work / "evaluated"
        self.world = read(work / "world.jsonl")
        self.names = [concept.name for concept in self.world]
        self.name_vectors = self.encode(self.names)
        self.image: nn.Module = self.space.encoders[Modality.IMAGE].net  # type: ignore[attr-defined]
        self.audio: nn.Module = self.space.encoders[Modality.AUDIO].net  # type: ignore[attr-defined]

    def encode(self, texts: list[str]) -> Tensor:
        """(n, DIM) unit rows of any texts."""
        return torch.from_numpy(self.space.encode(list(texts), batch_size=256))

    @cached_property
    def listener(self) -> Space:
        """The space for items of `rows`, whose speech is stored as log-mels."""
        return evaluation_rows.for_stored_speech(self.space)

    def retrieval(self, data: list[evaluation_rows.Row], query: str, gallery: str) -> mm.Evaluation:
        """One line of the card; what has been encoded before is read from the work folder."""
        return mm.evaluate(self.listener, data, "retrieval", query=query, gallery=gallery, cache=self.cache)


def recall_of(result: mm.Evaluation) -> Recall:
    """Percent of queries with a right answer among the first 1, 5 and 10, and the 95 % interval of the first."""
    figures = {f"R@{k}": round(100 * result.figures[f"hit@{k}"].value, 1) for k in (1, 5, 10)}
    first = result.figures["hit@1"]
    if first.low is None or first.high is None:
        return figures
    return figures | {"R@1 low": round(100 * first.low, 1), "R@1 high": round(100 * first.high, 1)}


def full(folder: Path, work: Path, free: dict[str, list[str]]) -> dict[str, object]:
    """Every figure of the model card, from the weights as shipped. `free`: lists of phrases by title."""
    model = Shipped(folder, work)
    kinds = ("clean", "trained", "ground", "stress", "both", *UNTOUCHED, "twemoji")
    seen = {kind: evaluation_rows.pictures(judges.images(work, kind)) for kind in kinds}
    results = text_lines(model, seen) | speech_lines(model, work, seen)
    results |= openmoji_lines(model, work) | combination_lines(model, work)
    worn = {
        **by_distortion(results["name -> picture, stress"], compositor.STRESS),
        **by_distortion(results["name -> picture, untouched stress"], stress.NAMES),
    }
    vectors = torch.from_numpy(model.space.encode(seen["clean"], batch_size=256))
    answers = {title: answer(model, phrases, vectors) for title, phrases in free.items()}
    lines = {title: recall_of(result) for title, result in results.items()}
    return {"concepts": len(model.names), "recall": lines, "by distortion": worn, **answers}


def by_distortion(result: mm.Evaluation, kinds: tuple[str, ...]) -> dict[str, float]:
    """Name -> picture R@1 by the distortion of the right picture; they come in turn."""
    hits = result.values["hit@1"]
    return {kind: round(100 * float(hits[turn :: len(kinds)].mean()), 1) for turn, kind in enumerate(kinds)}


def answer(model: Shipped, phrases: list[str], images: Tensor) -> dict[str, list[str]]:
    """The names of the five pictures nearest to each phrase."""
    top = (model.encode(phrases) @ images.T).topk(5, dim=1).indices.tolist()
    return {phrase: [model.names[row] for row in own] for phrase, own in zip(phrases, top, strict=True)}


def text_lines(model: Shipped, seen: dict[str, list[Image]]) -> dict[str, mm.Evaluation]:
    """Names, Unicode names and held-out keywords to pictures."""
    lines = {
        f"name -> picture, {kind}": model.retrieval(
            evaluation_rows.paired(text=model.names, image=pictures), "text", "image"
        )
        for kind, pictures in seen.items()
    }
    official = [
        (concept.unicode_name, row) for row, concept in enumerate(model.world) if concept.unicode_name
    ]
    keywords = [(word, row) for row, concept in enumerate(model.world) for word in concept.held_out]
    for title, pairs in (("Unicode name", official), ("held-out keyword", keywords)):
        texts, concepts = zip(*pairs, strict=True)
        for kind in DRAWN:
            data = evaluation_rows.numbered("text", texts, concepts) + evaluation_rows.numbered(
                "image", seen[kind]
            )
            line = f"{title} ({len(set(texts))}) -> picture, {kind}"
            lines[line] = model.retrieval(data, "text", "image")
    return lines


def speech_lines(model: Shipped, work: Path, seen: dict[str, list[Image]]) -> dict[str, mm.Evaluation]:
    """Speech by voices and synthesisers never trained on, to names and pictures, and pictures to speech."""
    lines = {}
    for title, speakers in SPEAKERS.items():
        takes = [evaluation_rows.clips(work, speaker) for speaker in speakers]
        spoken = spoken_rows([clip for take in takes for clip in take])
        names = evaluation_rows.numbered("text", model.names)
        lines[f"speech, {title} -> name"] = model.retrieval(spoken + names, "audio", "text")
        for kind in DRAWN:
            data = spoken + evaluation_rows.numbered("image", seen[kind])
            lines[f"speech, {title} -> picture, {kind}"] = model.retrieval(data, "audio", "image")
        for kind in DRAWN:
            data = [{"audio": clip, "image": seen[kind][concept]} for clip, concept in takes[0]]
            lines[f"picture, {kind} -> speech, {title}"] = model.retrieval(data, "image", "audio")
    return lines


def spoken_rows(clips: list[tuple[Audio, int]]) -> list[evaluation_rows.Row]:
    """Rows of clips with the concept that each names."""
    return evaluation_rows.numbered("audio", [clip for clip, _ in clips], [concept for _, concept in clips])


def openmoji_lines(model: Shipped, work: Path) -> dict[str, mm.Evaluation]:
    """Pictures by an artist not used in training to names, and back."""
    drawn = judges.drawn_by_openmoji(work)
    pictures = evaluation_rows.pictures(judges.images(work, "openmoji")[drawn])
    every_name = evaluation_rows.numbered("image", pictures, drawn) + evaluation_rows.numbered(
        "text", model.names
    )
    own_names = evaluation_rows.paired(image=pictures, text=[model.names[row] for row in drawn])
    return {
        "picture, OpenMoji -> name": model.retrieval(every_name, "image", "text"),
        "name -> picture, OpenMoji": model.retrieval(own_names, "text", "image"),
    }


def combination_lines(model: Shipped, work: Path, seed: int = 17) -> dict[str, mm.Evaluation]:
    """The lines of `combinations`."""
    lines = {}
    for name, (shown, said) in combined_scenes(model.names, seed).items():
        data = evaluation_rows.paired(
            text=said, image=evaluation_rows.pictures(judges.scenes(work, shown, seed))
        )
        lines[f"caption -> scene among 200, {name}"] = model.retrieval(data, "text", "image")
    return lines
