"""Evaluates the captioner: exact matches on held-out backgrounds, voices and an artist.

Also held-out combinations (colour and object, two objects), the names themselves as text, and the time per caption on
one core.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import torch
from torch import Tensor

from multimodal.core.space import Space
from multimodal.pipelines.captioning.backends.space import SpaceCaptioningBackend
from multimodal.pipelines.captioning.options import CaptioningOptions
from recipes.starter.captioner import caption_data, captions
from recipes.starter.data.concepts import read
from recipes.starter.figures import evaluate, judges

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


def subjects(captioner: SpaceCaptioningBackend, model: evaluate.Shipped, work: Path) -> dict[str, float]:
    """Single objects: images, speech and names."""
    result = {}
    for kind in KINDS:
        vectors = judges.see(model.image, judges.images(work, kind))
        result[f"picture, {kind}"] = share(captioner, vectors, model.names)
    rows = judges.drawn_by_openmoji(work)
    vectors = judges.see(model.image, judges.images(work, "openmoji")[rows])
    result["picture, OpenMoji"] = share(captioner, vectors, [model.names[row] for row in rows])
    for title, speakers in evaluate.SPEAKERS.items():
        heard = [judges.hear(model.audio, work, speaker) for speaker in speakers]
        right = [model.names[row] for _, own in heard for row in own]
        result[f"speech, {title}"] = share(captioner, torch.cat([item for item, _ in heard]), right)
    forms = {"name": "{x}", "a picture of": "a picture of {a_x}", "unseen form": "look at the {x} over there"}
    for title, form in forms.items():
        texts = [form.format(x=name, a_x=captions.with_article(name)) for name in model.names]
        result[f"text, {title}"] = share(captioner, model.encode(texts), model.names)
    return result


def combinations(captioner: SpaceCaptioningBackend, model: evaluate.Shipped, work: Path) -> dict[str, float]:
    """Colours and pairs that were never trained together, as pictures and in words: the whole caption, exactly."""
    held, known = captions.held_out(len(model.names)), set(model.names)
    kinds: dict[str, list[captions.Scene]] = {
        "colour + thing": [(captions.Subject(subject, colour),) for subject, colour in held.coloured],
        "two things": [(captions.Subject(first), captions.Subject(second)) for first, second in held.pairs],
    }
    result, rng = {}, random.Random(17)
    for title, shown in kinds.items():
        right = [caption_data.describe(scene, model.names, known) for scene in shown]
        seen = judges.see(model.image, judges.scenes(work, shown, 17))
        result[f"picture, {title} never together"] = share(captioner, seen, right)
        text_vectors = model.encode([captions.caption(scene, model.names, rng) for scene in shown])
        result[f"text, {title} never together"] = share(captioner, text_vectors, right)
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
