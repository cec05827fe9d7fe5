"""`python -m recipes.omni`: records speech, trains one network on scenes, charts and speech, evaluates and exports it.

Needs what `make starter` needs, and the world and drawings of its first step (`--work`, made if missing). The shipped
weights took the minutes given in their card on one core. Every step resumes.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from multimodal.encoders.starter.omni.model import OmniModel
from multimodal.encoders.starter.omni.networks import OmniNet
from recipes.omni import card, judge, speech, train
from recipes.starter.data import prepare_world

HERE = Path(__file__).parent
ASSETS = HERE.parent.parent / "assets" / "starter" / "omni"


def main() -> None:
    """Runs all steps in order; steps whose output exists are skipped."""
    parser = argparse.ArgumentParser(prog="recipes.omni", description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=HERE.parent / "starter" / "runs")
    parser.add_argument("--output", type=Path, default=ASSETS, help="folder of the exported network")
    parser.add_argument("--minutes", type=float, default=240, help="of training, in all runs together")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data-core", type=int, help="the processor core that draws the data, of several")
    parser.add_argument("--step", choices=("record", "train", "judge"), help="only this step")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    if not (args.work / "glyphs.npz").exists():
        from recipes.starter.__main__ import fetch_npm

        fetch_npm(args.work / "npm")
        prepare_world.run(args.work / "npm" / "node_modules", args.work)
    if args.step in (None, "record") and not (args.work / "omni_speech.npz").exists():
        speech.record(args.work)
    if args.step in (None, "train"):
        cores = None if args.data_core is None else {args.data_core} & os.sched_getaffinity(0)
        train.run(args.work, minutes=args.minutes, cores=cores)
    if args.step in (None, "judge"):
        net = judge.load_net(args.work / "omni_state.pt")
        export(net, judge.full(net, args.work), args.work, args.output)


def export(net: OmniNet, figures: dict[str, Any], work: Path, output: Path) -> None:
    """Writes weights, figures and the card."""
    OmniModel(net, judge.good_tasks(figures)).save(output)
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    tasks = judge.good_tasks(figures)
    parts: dict[str, Any] = {
        "chart": net.chart_eye, "scene": net.image, "speech": net.audio, "memory": net.memory, "decoder": net.decoder,
    }  # fmt: skip
    state = torch.load(work / "omni_state.pt", weights_only=True)
    left_out = {part for task, part in (("describe", "scene"), ("transcribe", "speech")) if task not in tasks}
    sizes = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in parts.items()
        if name not in left_out
    }
    card.run(output, sizes, {"steps": state["step"], "minutes": state["spent"] / 60} | state["batches"])


if __name__ == "__main__":
    main()
