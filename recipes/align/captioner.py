"""`python -m recipes.align.captioner --work …`: the starter's captioner learns to name both of two things.

Preferences and replay are those of `caption_sets`, figures those of `caption_figures`. DPO with the likelihood of the
chosen caption and replay of images, speech and words is compared with plain DPO. The shipped weights are not touched.

Needs world.jsonl, glyphs.npz, openmoji.npz, speech.npz, accents.npz and speech_judge.npz of `recipes/starter` in the
work folder. What has been encoded is kept there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import multimodal as mm
from multimodal.adapt.alignment.api import align
from recipes.align import caption_figures, caption_sets
from recipes.starter.figures import evaluate

ASSETS = Path(__file__).parents[2] / "assets" / "starter"


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """What `make` returns, from the file if it was made before."""
    if not file.exists():
        scratch = file.with_suffix(".tmp")
        torch.save(make(), scratch)
        scratch.replace(file)
    return torch.load(file, weights_only=False)  # the recipe's own file


def options_of(method: str, args: argparse.Namespace, replay: Any) -> dict[str, Any]:
    """The options of `align` for a method of the command line."""
    if method == "plain":  # neither likelihood nor replay, and the whole change is kept
        return {"method": "dpo", "likelihood": 0.0, "interpolate": 1.0}
    interpolate = args.interpolate if args.interpolate == "auto" else float(args.interpolate)
    return {
        "method": method,
        "replay": replay,
        "replay_share": args.replay_share,
        "interpolate": interpolate,
        "likelihood": args.likelihood,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="recipes.align.captioner", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="the work folder of recipes/starter")
    parser.add_argument("--output", type=Path, help="where the aligned decoders go, a folder for each method")
    parser.add_argument("--methods", default="dpo,plain", help="of dpo, sft, plain (DPO alone)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--likelihood", type=float, default=1.0, help="weight of the chosen caption's")
    parser.add_argument("--replay-share", type=float, default=2.0, help="replayed scenes per preference")
    parser.add_argument("--interpolate", default="auto", help="the share of the change to keep")
    parser.add_argument("--scenes", type=int, default=1500, help="of each kind of preference")
    parser.add_argument("--replayed", type=int, default=3000, help="scenes of each kind of replay")
    parser.add_argument("--every", type=int, default=1, help="judge one of so many single things")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = evaluate.Shipped(ASSETS, args.work)
    caption = mm.pipeline("captioning", model="starter", device="cpu")
    name = f"align_{model.space.fingerprint[:8]}_{args.seed}_{args.scenes}_{args.replayed}.pt"

    def sets() -> tuple[Any, Any]:
        made = caption_sets.CaptionSets(model, args.work, args.seed)
        return made.preferences(caption, args.scenes), made.replay(args.replayed)

    began = time.process_time()
    wanted, replay = kept(args.work / name, sets)
    judged = kept(
        args.work / f"align_judged_{model.space.fingerprint[:8]}_{args.every}.pt",
        lambda: caption_figures.judged_sets(model, args.work, args.every),
    )
    counts = ", ".join(f"{len(items):,} {kind}" for kind, items in replay.items())
    print(
        f"{len(wanted):,} preferences; replay: {counts}; {time.process_time() - began:.0f} core s", flush=True
    )
    before = caption_figures.hits(caption.backend, judged)
    for method in args.methods.split(","):
        began = time.process_time()
        aligned = align(
            caption,
            wanted,
            steps=args.steps,
            batch_size=96,
            learning_rate=args.learning_rate,
            held_out=0.15,
            seed=args.seed,
            **options_of(method, args, replay),
        )
        print(f"{method}: {aligned.report}\n{time.process_time() - began:.0f} core s", flush=True)
        print(json.dumps({str(share): values for share, values in aligned.report.curve.items()}), flush=True)
        if args.output is not None:
            aligned.save(args.output / method)
        rows = caption_figures.compared(before, caption_figures.hits(aligned.pipeline.backend, judged))
        print(caption_figures.table(rows), json.dumps(rows), sep="\n", flush=True)


if __name__ == "__main__":
    main()
