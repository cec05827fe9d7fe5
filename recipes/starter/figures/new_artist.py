"""Fine-tunes the starter's image tower to an artist it never saw, and measures what it gains and forgets.

    python -m recipes.starter.figures.new_artist WORK --methods lora,last,full --seeds 0,1,2

WORK is the folder of `prepare_world`. OpenMoji's drawings of 30 % of the things are trained, and those of the other
70 % judge; the starter's own world is replayed and is the reference. Another seed is another choice of the things.
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
    """Prints the figures of each run as a line of JSON, and a table of all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--methods", default="lora", help="of lora, dora, last, full, probe")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--targets", help="a regular expression of the layers that get adapters")
    parser.add_argument("--white", type=int, default=0, help="views on white, of ten of each trained drawing")
    parser.add_argument("--mixed-precision", action="store_true")
    parser.add_argument("--report", type=Path, help="where the page of the last run is written")
    given = parser.parse_args()
    torch.set_num_threads(1)
    judge, rows = Judge(given.work), []
    for seed in map(int, given.seeds.split(",")):
        for method in given.methods.split(","):
            rows.append(run(judge, method, seed, given))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


class Judge:
    """The starter, and its hits on each kind of image before any training."""

    def __init__(self, work: Path) -> None:
        self.names = [json.loads(line)["name"] for line in (work / "world.jsonl").open(encoding="utf-8")]
        self.drawn = np.array(judges.drawn_by_openmoji(work))
        self.space = mm.load("starter")
        self.name_rows = self.space.encode(self.names, batch_size=256)
        everything = np.arange(len(self.names))
        self.shown = {
            kind: (judged_images(work, kind)[rows], rows)
            for kind, rows in (("openmoji", self.drawn), *((kind, everything) for kind in OLD))
        }
        self.before = {kind: self.hits(self.space, kind) for kind in self.shown}

    def hits(self, space: mm.Space, kind: str) -> np.ndarray:
        """Whether the nearest of all names is the image's own (n)."""
        pixels, rows = self.shown[kind]
        vectors = space.encode([mm.Image(picture) for picture in pixels], batch_size=128)
        return ((vectors @ self.name_rows.T).argmax(axis=1) == rows).astype(np.float64)

    def figures(self, space: mm.Space, judged: np.ndarray) -> dict[str, Any]:
        """Shares before and after, and the change, of the artist's judged things and of the own world."""
        result = {}
        for kind, before in self.before.items():
            chosen = np.isin(self.shown[kind][1], judged) if kind == "openmoji" else slice(None)
            old, new = before[chosen], self.hits(space, kind)[chosen]
            result[kind] = {
                "before": share(old).to_dict(),
                "after": share(new).to_dict(),
                "change": change(old, new).to_dict(),
            }
        return result


def run(judge: Judge, method: str, seed: int, given: argparse.Namespace) -> dict[str, Any]:
    """Trains and judges."""
    names, work = judge.names, given.work
    order = np.random.default_rng(seed).permutation(judge.drawn)
    trained, judged = np.split(order, [round(TRAINED * len(order))])
    start, cpu = time.monotonic(), time.process_time()
    pixels, _ = judge.shown["ground"]
    adapted, report = finetune(
        judge.space,
        pairs(artist_views(work, trained, seed, given.white), np.tile(trained, VIEWS), names),
        method=method,
        modality="image",
        held_out=pairs(judged_images(work, "openmoji")[judged], judged, names),
        replay=pairs(*old_world(work, len(names), seed), names),
        reference=pairs(pixels, np.arange(len(names)), names),
        steps=given.steps,
        batch_size=96,
        learning_rate=given.learning_rate,
        rank=given.rank,
        targets=given.targets,
        mixed_precision=given.mixed_precision,
        seed=seed,
    )
    spent = {"seconds": round(time.monotonic() - start), "core seconds": round(time.process_time() - cpu)}
    if given.report is not None:
        report.save(given.report)
    return {
        "method": method,
        "seed": seed,
        "rank": given.rank,
        "white": given.white,
        "weight": report.weight,
        "curve": [(p.weight, p.validation.value, p.new.value, p.old and p.old.value) for p in report.curve],
        "validation": report.validation,
        "parameters": report.n_parameters,
        **spent,
        "recall@1 image -> name": judge.figures(adapted, judged),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The changes in points with their intervals, in Markdown."""
    lines = [f"| method | seed | weight | new artist | {' | '.join(OLD)} | core s |", "|---|" + "--:|" * 7]
    for row in rows:
        figures = row["recall@1 image -> name"]
        cells = [points(figures[kind]["change"]) for kind in ("openmoji", *OLD)]
        lines.append(
            f"| {row['method']} | {row['seed']} | {row['weight']} | {' | '.join(cells)} | {row['core seconds']} |"
        )
    return "\n".join(lines)


def points(figure: dict[str, float]) -> str:
    """'+0.3 (-1.0 to +1.5)'."""
    value, low, high = (100 * figure[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def artist_views(work: Path, rows: np.ndarray, seed: int, white: int) -> np.ndarray:
    """VIEWS of each trained drawing, view after view; `white` of them as they are judged, on white."""
    shown = [views(work, "openmoji", rows, seed, count=VIEWS - white)] if white < VIEWS else []
    if white:
        shown.append(np.tile(judged_images(work, "openmoji")[rows], (white, 1, 1, 1)))
    return np.concatenate(shown)


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


if __name__ == "__main__":
    main()
