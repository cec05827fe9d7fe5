"""Fine-tunes the starter's image tower to an artist it never saw, and measures what it gains and forgets.

    python -m recipes.starter.figures.new_artist WORK --method lora --seed 0

WORK is the folder of `prepare_world`. OpenMoji's drawings of 30 % of the things are trained, and those of the other
70 % judge; the starter's own world is replayed and is the reference.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import multimodal as mm
from multimodal.adapt import finetune
from multimodal.adapt.finetuning.judge import change, share
from recipes.starter.captioner.captions import Subject
from recipes.starter.data import backgrounds, compositor
from recipes.starter.figures import judges

TRAINED = 0.3  # share of the things whose drawings by the new artist are trained
VIEWS = 10  # of each trained drawing, on backgrounds of the kinds that the starter was trained on
SIDE = 64
OLD = ("clean", "ground", "both")


def main() -> None:
    """Prints the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--report", type=Path, help="where the page is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(run(given), indent=1))


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Trains and judges."""
    names = [json.loads(line)["name"] for line in (given.work / "world.jsonl").open(encoding="utf-8")]
    drawn = np.array(judges.drawn_by_openmoji(given.work))
    order = np.random.default_rng(given.seed).permutation(drawn)
    trained, judged = np.split(order, [round(TRAINED * len(order))])
    space = mm.load("starter")
    ground = judged_images(given.work, "ground")
    start, cpu = time.monotonic(), time.process_time()
    adapted, report = finetune(
        space,
        pairs(views(given.work, "openmoji", trained, given.seed), np.tile(trained, VIEWS), names),
        method=given.method,
        modality="image",
        held_out=pairs(judged_images(given.work, "openmoji")[judged], judged, names),
        replay=pairs(*old_world(given.work, len(names), given.seed), names),
        reference=pairs(ground, np.arange(len(names)), names),
        steps=given.steps,
        batch_size=96,
        learning_rate=given.learning_rate,
        seed=given.seed,
    )
    spent = {"seconds": round(time.monotonic() - start), "core seconds": round(time.process_time() - cpu)}
    if given.report is not None:
        report.save(given.report)
    name_rows = space.encode(names, batch_size=256)
    figures = {}
    for kind, rows in (("openmoji", judged), *((kind, np.arange(len(names))) for kind in OLD)):
        shown = [mm.Image(pixels) for pixels in judged_images(given.work, kind)[rows]]
        before, after = (hits(model, shown, rows, name_rows) for model in (space, adapted))
        figures[f"{kind}, picture -> name R@1"] = {
            "before": share(before).to_dict(),
            "after": share(after).to_dict(),
            "change": change(before, after).to_dict(),
        }
    return {
        "method": given.method,
        "seed": given.seed,
        "weight": report.weight,
        "held-out gain": report.gain.to_dict(),
        "held-out before": report.before.to_dict(),
        "held-out after": report.after.to_dict(),
        "forgetting": report.forgetting and report.forgetting.to_dict(),
        "curve": [(p.weight, p.validation.value, p.new.value, p.old and p.old.value) for p in report.curve],
        "validation": report.validation,
        "parameters": report.n_parameters,
        **spent,
        **figures,
    }


def pairs(pictures: np.ndarray, rows: np.ndarray, names: list[str]) -> list[tuple[Any, Any]]:
    """uint8 (n, SIDE, SIDE, 3) and the thing that each shows."""
    return [
        (mm.Image(np.ascontiguousarray(picture)), mm.Text(names[row]))
        for picture, row in zip(pictures, rows, strict=True)
    ]


def views(work: Path, artist: str, rows: np.ndarray, seed: int, count: int = VIEWS) -> np.ndarray:
    """Drawings of an artist on training backgrounds, uint8 (count * len(rows), SIDE, SIDE, 3), view after view."""
    file = "openmoji.npz" if artist == "openmoji" else "glyphs.npz"
    drawings = np.load(work / file)[artist][rows]
    scene = judges.make_compositor(drawings[None], backgrounds.TRAINED, seed)
    shown = [(Subject(row),) for row in range(len(rows))] * count
    drawn = compositor.augment(scene.draw(shown, SIDE, jitter=0.6), scene.generator)
    return compositor.as_bytes(drawn).permute(0, 2, 3, 1).numpy()


def old_world(work: Path, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(pictures of what the starter was trained on, the thing each shows)."""
    rows = np.arange(count)
    return views(work, "noto", rows, seed + 1, count=2), np.tile(rows, 2)


def judged_images(work: Path, kind: str) -> np.ndarray:
    """uint8 (concepts, SIDE, SIDE, 3)."""
    return np.ascontiguousarray(judges.images(work, kind).permute(0, 2, 3, 1).numpy())


def hits(space: mm.Space, shown: list[mm.Image], rows: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Whether the nearest of all names is the picture's own (n)."""
    nearest = (space.encode(shown, batch_size=128) @ names.T).argmax(axis=1)
    return (nearest == rows).astype(np.float64)


if __name__ == "__main__":
    main()
