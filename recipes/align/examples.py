"""`python -m recipes.align.examples --work …`: the starter's captioner with examples of an artist that it never saw.

Two drawings of each of 30 % of the things by OpenMoji are examples, on backgrounds, with their names. Percent of exact
captions of the same things drawn clean, of other things by the artist, and of the starter's own world.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import multimodal as mm
from recipes.starter.figures import judges
from recipes.starter.figures.new_artist import TRAINED, judged_images, views


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.align.examples", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="the work folder of recipes/starter")
    parser.add_argument("--every", type=int, default=1, help="judge one of so many images")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = [json.loads(line)["name"] for line in (args.work / "world.jsonl").open(encoding="utf-8")]
    drawn = np.array(judges.drawn_by_openmoji(args.work))
    shown, others = np.split(
        np.random.default_rng(args.seed).permutation(drawn), [round(TRAINED * len(drawn))]
    )
    drawings = views(args.work, "openmoji", shown, args.seed, count=2)
    examples = [
        (mm.Image(np.ascontiguousarray(pixels)), names[row])
        for pixels, row in zip(drawings, np.tile(shown, 2), strict=True)
    ]
    artist = judged_images(args.work, "openmoji")
    judged = {
        "same things": (artist, shown), "other things": (artist, others),
        "own world": (judged_images(args.work, "ground"), np.arange(len(names))),
    }  # fmt: skip
    caption = mm.pipeline("captioning", model="starter", device="cpu")
    for title, (pictures, rows) in judged.items():
        rows = rows[:: args.every]
        items = [mm.Image(np.ascontiguousarray(pictures[row])) for row in rows]
        right = [names[row] for row in rows]
        shares = [
            round(100 * float(np.mean([c.text == name for c, name in zip(written, right, strict=True)])), 1)
            for written in (caption(items, batch_size=256), caption(items, batch_size=256, examples=examples))
        ]
        print(
            json.dumps({"judged": title, "n": len(rows), "without": shares[0], "with": shares[1]}), flush=True
        )


if __name__ == "__main__":
    main()
