"""Evaluates the captioner: exact matches on held-out backgrounds, voices and an artist.

Also held-out combinations (colour and object, two objects), the names themselves as text, and the time per caption on
one core.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import multimodal as mm
from multimodal.core.space import Space
from multimodal.pipelines.captioning.backends.space import SpaceCaptioningBackend
from multimodal.pipelines.captioning.options import CaptioningOptions
from recipes.starter.captioner import caption_data, captions
from recipes.starter.data.concepts import read
from recipes.starter.figures import evaluate, evaluation_rows, judges

KINDS = ("clean", "ground", "both", "untouched ground")
TIMED = 20


def names(work: Path) -> list[str]:
    """What the concepts are called."""
    return [concept.name for concept in read(work / "world.jsonl")]


def share(
    captioner: SpaceCaptioningBackend, vectors: Tensor, right: list[str], beams: int | None = None
) -> float:
    """Percent of vectors whose caption is exactly the right one."""
    said = []
    for part in vectors.split(256):
        said += [vector.text for vector in captioner.caption_vectors(part, CaptioningOptions(beams=beams))]
    return round(100 * sum(a == b for a, b in zip(said, right, strict=True)) / len(right), 1)


def exact(
    captioner: SpaceCaptioningBackend, model: evaluate.Shipped, rows: list[evaluation_rows.Row], query: str
) -> float:
    """Percent of items whose caption is exactly the right one."""

    def caption(items: list[Any]) -> list[Any]:
        vectors = torch.from_numpy(model.listener.encode(items))
        return list(captioner.caption_vectors(vectors, CaptioningOptions()))

    result = mm.evaluate(caption, rows, "captioning", query=query)
    return round(100 * result.figures["exact"].value, 1)


def pictures(seen: Tensor, right: list[str]) -> list[evaluation_rows.Row]:
    """uint8 pictures (n, 3, h, w) and their captions."""
    return evaluation_rows.paired(image=evaluation_rows.pictures(seen), text=right)


def texts(said: list[str], right: list[str]) -> list[evaluation_rows.Row]:
    """Texts that are captioned, and their captions."""
    return evaluation_rows.paired(text=said, label=right)


def subjects(captioner: SpaceCaptioningBackend, model: evaluate.Shipped, work: Path) -> dict[str, float]:
    """Single objects: images, speech and names."""
    result = {}
    for kind in KINDS:
        result[f"picture, {kind}"] = exact(
            captioner, model, pictures(judges.images(work, kind), model.names), "image"
        )
    drawn = judges.drawn_by_openmoji(work)
    shown = pictures(judges.images(work, "openmoji")[drawn], [model.names[row] for row in drawn])
    result["picture, OpenMoji"] = exact(captioner, model, shown, "image")
    for title, speakers in evaluate.SPEAKERS.items():
        spoken = [
            {"audio": clip, "text": model.names[concept]}
            for speaker in speakers
            for clip, concept in evaluation_rows.clips(work, speaker)
        ]
        result[f"speech, {title}"] = exact(captioner, model, spoken, "audio")
    forms = {"name": "{x}", "a picture of": "a picture of {a_x}", "unseen form": "look at the {x} over there"}
    for title, form in forms.items():
        said = [form.format(x=name, a_x=captions.with_article(name)) for name in model.names]
        result[f"text, {title}"] = exact(captioner, model, texts(said, model.names), "text")
    return result


def combinations(captioner: SpaceCaptioningBackend, model: evaluate.Shipped, work: Path) -> dict[str, float]:
    """Colours and pairs that were never trained together, as pictures and in words: the whole caption, exactly."""
    known, result = set(model.names), {}
    for title, (shown, said) in evaluate.combined_scenes(model.names).items():
        right = [caption_data.describe(scene, model.names, known) for scene in shown]
        seen = pictures(judges.scenes(work, shown, 17), right)
        result[f"picture, {title} never together"] = exact(captioner, model, seen, "image")
        result[f"text, {title} never together"] = exact(captioner, model, texts(said, right), "text")
    return result


def milliseconds(
    captioner: SpaceCaptioningBackend, model: evaluate.Shipped, beams: int | None = None
) -> float:
    """The median time of one caption of a vector, on one core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    spent = []
    for row in range(TIMED):
        began = time.perf_counter()
        captioner.caption_vectors(model.name_vectors[row : row + 1], CaptioningOptions(beams=beams))
        spent.append(time.perf_counter() - began)
    torch.set_num_threads(threads)
    return round(1000 * sorted(spent)[TIMED // 2], 1)


def run(work: Path, space: Path, folder: Path) -> None:
    """Measure what `export` wrote; caption_figures.json beside it."""
    model = evaluate.Shipped(space, work)
    captioner = SpaceCaptioningBackend(Space.from_pretrained(space, device="cpu"), folder)
    figures = {
        "exact captions, percent": subjects(captioner, model, work) | combinations(captioner, model, work),
        "milliseconds a caption": milliseconds(captioner, model),
        "parameters": sum(parameter.numel() for parameter in captioner.net.parameters()),
    }
    text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    (folder / "caption_figures.json").write_text(text)
    print(text)
