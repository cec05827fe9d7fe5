"""`python -m recipes.bridge`: align two independently trained spaces through text, and measure speech-image retrieval.

An image-text space and a speech-text space are trained from scratch on separate data, with different seeds and sizes.
For comparison, a third speech tower is trained to match the texts of the image-text space, as for the shipped starter.
The first two spaces are then bridged by each method, and spoken names retrieve their images.

Needs files of `make starter` in its work folder (glyphs.npz, speech.npz, speech_judge.npz, world.jsonl,
vocabulary.json) and half an hour on two cores. Every step resumes; remove `bridge` in the work folder to start over.
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
METHODS = ("kernel", "mlp", "ridge", "procrustes")
SEED = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recipes.bridge", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, default=HERE.parent / "starter" / "runs", help="the starter's work folder"
    )
    parser.add_argument("--output", type=Path, default=HERE, help="folder of results.json")
    parser.add_argument("--steps", type=int, default=700, help="training steps of each of the three spaces")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--choose",
        action="store_true",
        help="evaluate with the voice used to choose settings; write no results",
    )
    return parser.parse_args()


def train(steps: int, work: Path, runs: Path) -> dict[str, Space]:
    """Trains the two spaces, and the speech tower trained to match the first."""
    plan = spaces.Plan
    images = spaces.train(plan("pictures", "image", dim=128, seed=11, steps=steps), work, runs)
    speech = spaces.train(plan("speech", "audio", dim=96, seed=22, steps=steps), work, runs)
    into = plan("trained into one", "audio", dim=128, seed=33, steps=steps, into=images)
    return {"pictures": images, "speech": speech, "trained into one": spaces.train(into, work, runs)}


def unpaired_media(work: Path, world: list[Any]) -> tuple[list[Item], list[Item]]:
    """Unpaired speech and images, none of a held-out concept."""
    small, held = spaces.family(), set(data.held_out_concepts(world))
    speech = data.Speech(work, SEED)
    rows = [
        row
        for row in speech.usable.tolist()
        if speech.concepts[row] >= 0 and speech.concepts[row] not in held
    ]
    heard = [small.as_sound(speech.clip(row)) for row in speech.rng.sample(rows, measure.MEDIA)]  # type: ignore[attr-defined]
    images = data.Pictures(work, world, SEED)
    shown = [row for row in range(len(world)) if row not in held]
    chosen = [(captions.Subject(images.rng.choice(shown)),) for _ in range(measure.MEDIA)]
    return heard, measure.as_images(images.drawn(chosen))


def bridges(
    trained: dict[str, Space], work: Path, questions: measure.Questions, voices: tuple[str, ...], runs: Path
) -> list[dict[str, Any]]:
    """Bridges with every method, with and without unpaired media."""
    world = data.world_of(work)
    texts, (heard, seen) = data.corpus(world), unpaired_media(work, world)
    rows = []
    for title, media in (
        ("texts", []),
        ("texts, speech", heard),
        ("texts, speech, pictures", [*heard, *seen]),
    ):
        for method in METHODS:
            out = runs / f"{method} {title.replace(', ', ' ')}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PoorBridge)  # the printed report includes this
                made = bridge(trained["speech"], trained["pictures"], corpus=texts, media=media, method=method,
                              seed=SEED, out=out)  # fmt: skip
            recall = measure.speech_to_image(questions, made.space, made.space, voices)
            rows.append(
                {
                    "from": title,
                    "method": method,
                    "report": made.report.to_dict(),
                    "speech -> picture": recall,
                }
            )
            print(
                title,
                method,
                made.report,
                {name: figures["all"]["R@10"] for name, figures in recall.items()},
                flush=True,
            )
    return rows


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    runs = options.work / "bridge"
    start = time.time()
    trained = train(options.steps, options.work, runs)
    questions = measure.Questions(options.work)
    voices = (measure.CHOSEN_BY,) if options.choose else measure.JUDGES
    names = [concept.name for concept in data.world_of(options.work)]
    projection = np.random.default_rng(SEED).standard_normal((trained["speech"].dim, trained["pictures"].dim))
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}",
        "steps": options.steps,
        "concepts": len(names),
        "held-out concepts": len(questions.held_out),
        "corpus": len(data.corpus(data.world_of(options.work))),
        "voices": list(voices),
        "each space by itself": {
            name: measure.own_figures(questions, space, names) for name, space in trained.items()
        },
        "trained into one": measure.speech_to_image(
            questions, trained["trained into one"], trained["trained into one"], voices
        ),
        "shipped starter": measure.shipped(questions, voices),
        "before": measure.speech_to_image(
            questions, trained["speech"], trained["pictures"], voices, projection.astype(np.float32)
        ),
        "bridges": bridges(trained, options.work, questions, voices, runs),
        "seconds": round(time.time() - start),
    }
    print(json.dumps(result["each space by itself"], indent=1))
    print(measure.table(result))
    if not options.choose:
        (options.output / "results.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
