"""`python -m recipes.pretrain [CONFIG]`: trains the stages of a configuration and saves a space.

    python -m recipes.pretrain                                    # the emoji world
    python -m recipes.pretrain mine.toml --output runs/mine       # your own folder or WebDataset shards
    accelerate launch --num_processes 4 -m recipes.pretrain mine.toml --output runs/mine

An interrupted run goes on where its last checkpoint is. The output folder gets `space/` (for `multimodal.load`),
`events/` (for TensorBoard), `losses.svg`, `figures.json` and `state.pt`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from multimodal.encoders.starter.parameters import SIDE
from recipes.pretrain.config import CONTRASTIVE, read
from recipes.pretrain.result import retrieval, save_space
from recipes.pretrain.trainer import Run

HERE = Path(__file__).parent


def main() -> None:
    """Trains, judges and saves."""
    parser = argparse.ArgumentParser(prog="recipes.pretrain", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, nargs="?", default=HERE / "emoji.toml")
    parser.add_argument("--output", type=Path, default=HERE / "runs" / "emoji")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves them as they are")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    run = Run(read(options.config), options.output)
    if run.resume():
        print(f"going on at stage {run.stage}, step {run.step}")
    run.train()
    if not run.devices.is_main:
        return
    pairs = {stage.pair for stage in run.config.stages if stage.objective in CONTRASTIVE}
    figures = {}
    for pair in sorted(pairs):
        for name, figure in retrieval(run, pair).items():
            figures[f"{pair[0]} to {pair[1]} {name}"] = figure.to_dict()
            print(f"{pair[0]} -> {pair[1]}, held-out samples, {name}: {figure.percent}")
    (options.output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    if "image" not in run.towers or run.config.data.side == SIDE:
        save_space(run, options.output / "space")
        print(f'multimodal.load("./{options.output / "space"}")')


if __name__ == "__main__":
    main()
