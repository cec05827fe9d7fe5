"""`python -m recipes.bridge`: two spaces trained apart, joined through text alone, measured against the truth.

An image-text space and a speech-text space are trained from nothing, each on its own data, with another seed and
another size. To compare with, a third speech tower is trained into the image-text space, toward its texts, which is how
the shipped starter came about. Then the first two are bridged by each method, and spoken names look for their
pictures.

Needs what `make starter` puts into its work folder (glyphs.npz, speech.npz, speech_judge.npz, world.jsonl,
vocabulary.json) and half an hour on two cores. Every step resumes; remove the work folder's `bridge` to begin anew.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multimodal.adapt import PoorBridge, bridge
from multimodal.core.items import Item
from multimodal.core.space import Space
from recipes.bridge import data, measure, spaces
from recipes.starter.captioner import captions

HERE = Path(__file__).parent
METHODS = ("memory", "mlp", "ridge", "procrustes")
SEED = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recipes.bridge", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, default=HERE.parent / "starter" / "runs", help="the starter's work folder"
    )
    parser.add_argument("--output", type=Path, default=HERE, help="where results.json goes")
    parser.add_argument("--steps", type=int, default=700, help="of training, for each of the three spaces")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--choose", action="store_true", help="ask the voice that settings were chosen by; write nothing"
    )
    return parser.parse_args()


def train(steps: int, work: Path, runs: Path) -> dict[str, Space]:
    """The two spaces, and the one with speech trained into it."""
    plan = spaces.Plan
    pictures = spaces.train(plan("pictures", "image", dim=128, seed=11, steps=steps), work, runs)
    speech = spaces.train(plan("speech", "audio", dim=96, seed=22, steps=steps), work, runs)
    into = plan("trained into one", "audio", dim=128, seed=33, steps=steps, into=pictures)
    return {"pictures": pictures, "speech": speech, "trained into one": spaces.train(into, work, runs)}


def loose_media(work: Path, world: list[Any]) -> tuple[list[Item], list[Item]]:
    """Speech and pictures in no order and without pairs, none of a held-out concept."""
    small, held = spaces.family(), set(data.held_out_concepts(world))
    speech = data.Speech(work, SEED)
    rows = [
        row
        for row in speech.usable.tolist()
        if speech.concepts[row] >= 0 and speech.concepts[row] not in held
    ]
    heard = [small.as_sound(speech.clip(row)) for row in speech.rng.sample(rows, measure.MEDIA)]  # type: ignore[attr-defined]
    pictures = data.Pictures(work, world, SEED)
    shown = [row for row in range(len(world)) if row not in held]
    chosen = [(captions.Thing(pictures.rng.choice(shown)),) for _ in range(measure.MEDIA)]
    return heard, measure.as_images(pictures.drawn(chosen))


def bridges(
    trained: dict[str, Space], work: Path, questions: measure.Questions, voices: tuple[str, ...], runs: Path
) -> list[dict[str, Any]]:
    """Every method, from texts alone and with media besides."""
    world = data.world_of(work)
    texts, (heard, seen) = data.corpus(world), loose_media(work, world)
    rows = []
    for title, media in (
        ("texts", []),
        ("texts, speech", heard),
        ("texts, speech, pictures", [*heard, *seen]),
    ):
        for method in METHODS:
            out = runs / f"{method} {title.replace(', ', ' ')}"
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", PoorBridge
                )  # the report says so, and the report is what is printed
                made = bridge(trained["speech"], trained["pictures"], corpus=texts, media=media, method=method,
                              seed=SEED, out=out)  # fmt: skip
            found = measure.speech_to_picture(questions, made.space, made.space, voices)
            rows.append(
                {"from": title, "method": method, "report": made.report.to_dict(), "speech -> picture": found}
            )
            print(
                title,
                method,
                made.report,
                {name: one["all"]["R@10"] for name, one in found.items()},
                flush=True,
            )
    return rows


def main() -> None:
    asked = arguments()
    torch.set_num_threads(asked.threads)
    runs = asked.work / "bridge"
    began = time.time()
    trained = train(asked.steps, asked.work, runs)
    questions = measure.Questions(asked.work)
    voices = (measure.CHOSEN_BY,) if asked.choose else measure.JUDGES
    names = [concept.name for concept in data.world_of(asked.work)]
    turned = np.random.default_rng(SEED).standard_normal((trained["speech"].dim, trained["pictures"].dim))
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {asked.threads} threads, torch {torch.__version__}",
        "steps": asked.steps,
        "concepts": len(names),
        "held-out concepts": len(questions.held_out),
        "corpus": len(data.corpus(data.world_of(asked.work))),
        "voices": list(voices),
        "each space by itself": {
            name: measure.own_figures(questions, one, names) for name, one in trained.items()
        },
        "trained into one": measure.speech_to_picture(
            questions, trained["trained into one"], trained["trained into one"], voices
        ),
        "shipped starter": measure.shipped(questions, voices),
        "before": measure.speech_to_picture(
            questions, trained["speech"], trained["pictures"], voices, turned.astype(np.float32)
        ),
        "bridges": bridges(trained, asked.work, questions, voices, runs),
        "seconds": round(time.time() - began),
    }
    print(json.dumps(result["each space by itself"], indent=1))
    print(measure.table(result))
    if not asked.choose:
        (asked.output / "results.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
