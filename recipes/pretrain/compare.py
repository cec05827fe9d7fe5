"""`python -m recipes.pretrain.compare`: does a self-supervised start help, at equal compute, with few pairs?

One start is trained without labels on all samples. Then image and text are aligned with 1 %, 10 % and 100 % of the
pairs, once from that start and once from random weights. The latter gets as many more steps as the start took of the
image tower, so that both arms push the same number of images through it. Writes comparison.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from recipes.pretrain.config import CONTRASTIVE, Config, Stage, read
from recipes.pretrain.result import retrieval
from recipes.pretrain.trainer import Run, open_source

HERE = Path(__file__).parent
SHARES = (0.01, 0.1, 1.0)


def arms(config: Config) -> tuple[tuple[Stage, ...], Stage]:
    """The self-supervised stages of a configuration, and its one contrastive stage.

    Raises:
        ValueError: If there is not exactly one contrastive stage.
    """
    align = [stage for stage in config.stages if stage.objective in CONTRASTIVE]
    if len(align) != 1:
        raise ValueError(f"a comparison has one stage of {' or '.join(CONTRASTIVE)}, got {len(align)}")
    return tuple(stage for stage in config.stages if stage.objective not in CONTRASTIVE), align[0]


def compare(
    config: Config, folder: Path, losses: tuple[str, ...], shares: tuple[float, ...]
) -> list[dict[str, Any]]:
    """Trains both arms for each loss and share of the pairs. What is in comparison.json already is not repeated."""
    start, align = arms(config)
    source = open_source(config.data)
    path = folder / "comparison.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    begun = Run(dataclasses.replace(config, stages=start), folder / "start", source)
    begun.resume()
    begun.train()
    extra = max(stage.steps for stage in start)
    for loss in losses:
        for share in shares:
            for is_begun in (True, False):
                key = {"loss": loss, "share": share, "self_supervised": is_begun, "seed": config.seed}
                if any(key.items() <= row.items() for row in rows):
                    continue
                steps = align.steps + (0 if is_begun else extra)
                stage = dataclasses.replace(align, objective=loss, share=share, steps=steps)
                name = f"{loss}-{share:g}-{'start' if is_begun else 'scratch'}"
                run = Run(dataclasses.replace(config, stages=(stage,)), folder / name, source)
                run.collate = begun.collate
                if is_begun:
                    for modality, tower in begun.towers.items():
                        if modality in run.towers:
                            run.towers[modality].load_state_dict(tower.state_dict())
                run.train()
                figures = {metric: figure.to_dict() for metric, figure in retrieval(run, align.pair).items()}
                rows.append(key | {"steps": steps, "cpu_seconds": round(run.seconds), **figures})
                path.write_text(json.dumps(rows, indent=1) + "\n")
                print(
                    name,
                    {metric: round(figure["value"], 3) for metric, figure in figures.items()},
                    flush=True,
                )
    return rows


def main() -> None:
    """Reads the options and compares."""
    parser = argparse.ArgumentParser(prog="recipes.pretrain.compare", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, nargs="?", default=HERE / "compare.toml")
    parser.add_argument("--output", type=Path, default=HERE / "runs" / "compare")
    parser.add_argument("--losses", default="clip,siglip")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    compare(read(options.config), options.output, tuple(options.losses.split(",")), SHARES)


if __name__ == "__main__":
    main()
