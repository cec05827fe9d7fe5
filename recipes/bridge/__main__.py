"""`python -m recipes.bridge`: two spaces trained apart, joined through text alone, measured against the truth.

An image-text space and a speech-text space are trained from nothing, each on its own data, with another seed and
another size; a third is trained jointly on pictures, speech and their pairs, as long as both together, to compare with.
Then the first two are bridged, by each method, and spoken names look for their pictures. Needs what `make starter` puts
into its work folder (glyphs.npz, speech.npz, speech_judge.npz, world.jsonl, vocabulary.json) and half an hour on
two cores. Every step resumes; remove runs/bridge in the work folder to begin anew.
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
from multimodal.core.space import Space
from multimodal.core.types import Item
from recipes.bridge import data, measure, spaces

HERE = Path(__file__).parent
METHODS = ("mlp", "ridge", "procrustes")
SEED = 5


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recipes.bridge", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--work", type=Path, default=HERE.parent / "starter" / "runs", help="the starter's work folder"
    )
    parser.add_argument("--output", type=Path, default=HERE, help="where results.json and the table go")
    parser.add_argument(
        "--minutes", type=float, default=3.5, help="of training for each space, twice for the joint one"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--choose", action="store_true", help="ask the voice that settings were chosen by; write nothing"
    )
    return parser.parse_args()


def plans(minutes: float) -> dict[str, spaces.Plan]:
    return {
        "pictures": spaces.Plan("pictures", images=True, speech=False, dim=128, seed=11, minutes=minutes),
        "speech": spaces.Plan("speech", images=False, speech=True, dim=96, seed=22, minutes=minutes),
        "jointly": spaces.Plan("jointly", images=True, speech=True, dim=128, seed=33, minutes=2 * minutes),
    }


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
    pictures, seen = data.Pictures(work, world, SEED), []
    while len(seen) < measure.MEDIA:
        drawn, _, concepts = pictures.batch(256)
        kept = [row for row, concept in enumerate(concepts) if concept >= 0 and concept not in held]
        seen += measure.as_images(drawn[kept])
    return heard, seen[: measure.MEDIA]


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
    trained = {name: spaces.train(plan, asked.work, runs) for name, plan in plans(asked.minutes).items()}
    questions = measure.Questions(asked.work)
    voices = (measure.CHOSEN_BY,) if asked.choose else measure.JUDGES
    names = [concept.name for concept in data.world_of(asked.work)]
    turned = np.random.default_rng(SEED).standard_normal((trained["speech"].dim, trained["pictures"].dim))
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {asked.threads} threads, torch {torch.__version__}",
        "minutes": asked.minutes,
        "concepts": len(names),
        "held-out concepts": len(questions.held_out),
        "corpus": len(data.corpus(data.world_of(asked.work))),
        "voices": list(voices),
        "each space by itself": {
            name: measure.own_figures(questions, one, names) for name, one in trained.items()
        },
        "jointly trained": measure.speech_to_picture(
            questions, trained["jointly"], trained["jointly"], voices
        ),
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
        (asked.output / "table.md").write_text(measure.table(result) + "\n")


if __name__ == "__main__":
    main()
