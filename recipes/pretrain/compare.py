"""`python -m recipes.pretrain.compare`: does a self-supervised start help, at equal compute, with few pairs?

One start is trained without labels on all samples. Then image and text are aligned with 1 %, 10 % and 100 % of the
pairs, once from that start and once from random weights. The latter gets as many more steps as the start took of the
image tower, so that both arms push the same number of images through it. Repeated for several seeds, which draw other
weights, masks, orders and shares of pairs. Writes comparison.json, and prints a table of means over the seeds.
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
    """Trains both arms for each loss and share of the pairs. What is in comparison.json already is not repeated.

    Args:
        config: One seed's configuration.
        folder: Where comparison.json lies; the runs of this seed go into its subfolder "seed-N".
        losses: "clip", "siglip".
        shares: Shares of the pairs, above 0 and at most 1.

    Returns:
        All rows of comparison.json, other seeds' included.
    """
    start, align = arms(config)
    source = open_source(config.data)
    path, runs = folder / "comparison.json", folder / f"seed-{config.seed}"
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    pretrained = Run(dataclasses.replace(config, stages=start), runs / "start", source)
    pretrained.resume()
    pretrained.train()
    extra = max(stage.steps for stage in start)
    for loss in losses:
        for share in shares:
            for is_pretrained in (True, False):
                key = {"loss": loss, "share": share, "self_supervised": is_pretrained, "seed": config.seed}
                if any(key.items() <= row.items() for row in rows):
                    continue
                steps = align.steps + (0 if is_pretrained else extra)
                stage = dataclasses.replace(align, objective=loss, share=share, steps=steps)
                name = f"{loss}-{share:g}-{'start' if is_pretrained else 'scratch'}"
                run = Run(dataclasses.replace(config, stages=(stage,)), runs / name, source)
                run.collate = pretrained.collate
                if is_pretrained:
                    for modality, tower in pretrained.towers.items():
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


def table(rows: list[dict[str, Any]], metric: str = "R@1") -> str:
    """Percent found first: the mean over seeds, and the lowest and highest seed, as Markdown."""
    arms_of: dict[tuple[str, float], dict[bool, list[float]]] = {}
    for row in rows:
        both = arms_of.setdefault((row["loss"], row["share"]), {True: [], False: []})
        both[row["self_supervised"]].append(100 * row[metric]["value"])
    lines = ["| loss | pairs | from a self-supervised start | from random weights |", "|---|--:|--:|--:|"]
    for (loss, share), both in sorted(arms_of.items()):
        cells = [
            f"{sum(values) / len(values):.1f} ({min(values):.1f} – {max(values):.1f})" if values else "–"
            for values in (both[True], both[False])
        ]
        lines.append(f"| {loss} | {100 * share:g} % | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Reads the options and compares."""
    parser = argparse.ArgumentParser(prog="recipes.pretrain.compare", description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path, nargs="?", default=HERE / "compare.toml")
    parser.add_argument("--output", type=Path, default=HERE / "runs" / "compare")
    parser.add_argument("--losses", default="clip,siglip")
    parser.add_argument("--seeds", default="0", help="numbers with commas")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed in map(int, options.seeds.split(",")):
        config = dataclasses.replace(read(options.config), seed=seed)
        rows = compare(config, options.output, tuple(options.losses.split(",")), SHARES)
    print(table(rows))


if __name__ == "__main__":
    main()
