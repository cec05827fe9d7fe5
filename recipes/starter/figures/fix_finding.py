"""Fine-tunes the starter on the generators of an audit's findings, and audits again.

    python -m recipes.starter.figures.fix_finding --work RUNS --modality audio

audio: names spoken by espeak-ng's training voices, in babble of the other clips. image: the artist's drawings on the
backgrounds of training, rotated or under dark lines. The concepts of the gallery, which the audit tests, are left out.
The training is that of `multimodal.adapt.finetune`: replay of the undamaged pairs, and the interpolation
weight with the best validation figure among those that forget nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import multimodal as mm
from multimodal.auditing.checks.common import Subject, clip_item
from multimodal.auditing.checks.corruption import audio_corruption, image_corruption
from multimodal.auditing.generators.audio import RATE_HZ, damage_audio
from multimodal.auditing.generators.images import damage
from multimodal.auditing.material import gallery_material
from multimodal.core.media.audio import resample
from multimodal.core.modality import Waveform
from recipes.starter.data import voices
from recipes.starter.data.concepts import read
from recipes.starter.figures import new_artist

Pairs = list[tuple[Any, Any]]
KINDS = {"audio": ("babble",), "image": ("rotation", "dark lines")}
REFERENCE = 150  # undamaged pairs that measure forgetting
SIDE = 64
SEED = 3


def spoken(names: list[str], count: int) -> Pairs:
    """Names by random training voices."""
    rng, espeak = random.Random(SEED), voices.Espeak()
    pairs = []
    for name in rng.sample(names, count):
        samples = resample(Waveform(espeak.say(name, voices.training_voice(rng)), espeak.rate_hz), RATE_HZ)
        pairs.append((clip_item(samples.samples), mm.Text(name)))
    return pairs


def drawn(work: Path, names: list[str], rows: np.ndarray, count: int) -> Pairs:
    """The first artist's drawings on training backgrounds."""
    chosen = np.random.default_rng(SEED).choice(rows, count, replace=False)
    return new_artist.pairs(new_artist.views(work, "noto", chosen, SEED, count=1), chosen, names)


def damaged(modality: str, pairs: Pairs) -> Pairs:
    """The pairs with damage of a random kind and severity, so that the validation pairs are damaged, too."""
    rng, result = np.random.default_rng(SEED), []
    clips = [item.load(RATE_HZ).samples for item, _ in pairs] if modality == "audio" else []
    for item, text in pairs:
        kind, severity = str(rng.choice(KINDS[modality])), int(rng.integers(1, 6))
        seed = int(rng.integers(2**31))
        if modality == "image":
            result.append((mm.Image(damage(item.load(), kind, severity, seed)), text))
        else:
            others = [clips[row] for row in rng.choice(len(clips), 8, replace=False)]
            samples = item.load(RATE_HZ).samples
            result.append((clip_item(damage_audio(samples, kind, severity, others, seed)), text))
    return result


def audited(space: mm.Space, modality: str) -> dict[str, dict[str, Any]]:
    """The findings of damage to the gallery, at all severities."""
    subject = Subject(space, gallery_material(SIDE), (1, 2, 3, 4, 5), is_full=True)
    findings = audio_corruption(subject) if modality == "audio" else image_corruption(subject)
    return {
        finding.name: {
            "value": round(finding.measured, 3),
            "interval": [round(end, 3) for end in (finding.low or 0.0, finding.high or 1.0)],
            "verdict": finding.verdict,
            **finding.details,
        }
        for finding in findings
    }


def main() -> None:
    """Prints the findings before and after, and the cost."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="where world.jsonl and glyphs.npz are")
    parser.add_argument("--modality", choices=list(KINDS), default="audio")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--method", default="full")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--out", type=Path, help="where the adapter goes")
    given = parser.parse_args()
    torch.set_num_threads(1)
    material = gallery_material(SIDE)
    tested = {*material.image_names, *material.clip_names}
    names = [concept.name for concept in read(given.work / "world.jsonl")]
    rows = np.array([row for row, name in enumerate(names) if name not in tested])
    count = given.pairs + REFERENCE
    clean = (
        spoken([names[row] for row in rows], count)
        if given.modality == "audio"
        else drawn(given.work, names, rows, count)
    )
    reference, known = clean[:REFERENCE], clean[REFERENCE:]
    space = mm.load("starter")
    began = time.process_time()
    tuned, report = mm.adapt.finetune(
        space, damaged(given.modality, known), method=given.method, modality=given.modality,
        replay=known, reference=reference, steps=given.steps, batch_size=given.batch_size,
        eval_every=max(1, given.steps // 4),
        learning_rate=given.learning_rate, out=given.out, seed=SEED,
    )  # fmt: skip
    seconds = round(time.process_time() - began)
    before, after = (audited(model, given.modality) for model in (space, tuned))
    print(
        json.dumps(
            {
                "core seconds of training": seconds,
                "interpolation weight": report.weight,
                "reference set": report.forgetting and report.forgetting.to_dict(),
                "findings": {name: {"before": before[name], "after": after[name]} for name in before},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
