"""Figures of an aligned captioner, before and after, on what no training has seen.

Backgrounds, distortions, voices, an artist and combinations of the starter's model card. A figure falls if it is below
the 95 % interval of the captioner before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multimodal.adapt.finetuning.judge import change, share
from multimodal.pipelines.captioning.options import CaptioningOptions
from recipes.starter.captioner import caption_data
from recipes.starter.figures import evaluate, judges

IMAGES = ("clean", "ground", "both", "untouched ground")
PAIRS = "two things, images: both said"
UNSEEN_FORM = "look at the {x} over there"


@dataclass(frozen=True)
class Judged:
    """Vectors (n, dim) with the right caption of each."""

    vectors: Tensor
    right: list[str]


def judged_sets(model: evaluate.Shipped, work: Path, every: int) -> dict[str, Judged]:
    """All sets by name. every: one of so many single things."""
    names = model.names
    sets = {
        kind: Judged(judges.see(model.image, judges.images(work, kind)[::every]), names[::every])
        for kind in IMAGES
    }
    rows = judges.drawn_by_openmoji(work)[::every]
    drawn = judges.images(work, "openmoji")[rows]
    sets["OpenMoji"] = Judged(judges.see(model.image, drawn), [names[row] for row in rows])
    for title, speakers in evaluate.SPEAKERS.items():
        heard = [judges.hear(model.audio, work, speaker, every) for speaker in speakers]
        vectors = torch.cat([vectors for vectors, _ in heard])
        sets[f"speech, {title}"] = Judged(vectors, [names[row] for _, own in heard for row in own])
    said = [UNSEEN_FORM.format(x=name) for name in names[::every]]
    sets["text, unseen form"] = Judged(model.encode(said), names[::every])
    for title, (shown, texts) in evaluate.combined_scenes(names).items():
        right = [caption_data.describe(scene, names, set(names)) for scene in shown]
        sets[f"{title}, images"] = Judged(judges.see(model.image, judges.scenes(work, shown, 17)), right)
        sets[f"{title}, text"] = Judged(model.encode(texts), right)
    return sets


def hits(backend: Any, sets: dict[str, Judged]) -> dict[str, np.ndarray]:
    """For each set whether a caption is exactly right (n), and for images of pairs whether two things are named."""
    result = {}
    for title, judged in sets.items():
        written = [
            output.text
            for part in judged.vectors.split(256)
            for output in backend.caption_vectors(part, CaptioningOptions())
        ]
        result[title] = np.array([a == b for a, b in zip(written, judged.right, strict=True)], float)
        if title == "two things, images":
            result[PAIRS] = np.array([" and " in text for text in written], float)
    return result


def compared(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Percent before with its interval, percent after, the change of the same items with its interval."""
    rows = {}
    for title, old in before.items():
        figure, moved = share(old), change(old, after[title])
        value = float(after[title].mean())
        rows[title] = {
            "before": _percent(figure.value),
            "interval": [_percent(figure.low), _percent(figure.high)],
            "after": _percent(value),
            "change": [_percent(number) for number in (moved.value, moved.low, moved.high)],
            "n": figure.n,
            "falls": value < figure.low,
        }
    return rows


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| percent of captions | before (95 % interval) | after | falls |", "|---|--:|--:|---|"]
    for title, row in rows.items():
        low, high = row["interval"]
        falls = "yes" if row["falls"] else ""
        lines.append(f"| {title} | {row['before']} ({low}–{high}) | {row['after']} | {falls} |")
    return "\n".join(lines)


def _percent(value: float) -> float:
    return round(100 * value, 1)
