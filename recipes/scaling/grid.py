"""The grid of runs, cheapest first, and its table. Each finished run is a line of runs.csv, so a stop loses one run."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes.scaling.corpus import Corpus
from recipes.scaling.model import n_parameters
from recipes.scaling.training import Plan, train

SMALLEST = 100_000  # characters of the smallest run; others have more by half a power of two each
# Widths -> how many amounts of data, from the smallest. Many sizes with one seed narrow the intervals of the law more
# than several seeds of few sizes: the error of the law is larger than the noise of a run.
WIDTHS = dict.fromkeys((16, 18, 20, 22, 24, 28, 32, 36, 40, 44, 48, 56, 64, 72, 80, 88, 96, 112, 128), 11)
WIDTHS |= dict.fromkeys((144, 160, 192, 224, 256), 9) | dict.fromkeys((320, 384, 512), 7)
SEEDS = (0, 1, 2)
REPEATED, REPEATED_AT = (32, 64, 128), (4, 6)  # widths and data sizes in the middle, with all seeds
# Equal compute, as of Chinchilla (70 B parameters, 1.4 T tokens) and Gopher (280 B, 0.3 T): (width of a model that is
# near the best size or too small, characters it is trained on, width of one with three to four times the parameters)
DUELS = ((32, 3_200_000, 96), (96, 847_291, 256), (64, 3_200_000, 160), (160, 918_017, 320))


def plans() -> list[Plan]:
    """All runs, cheapest first."""
    sizes = [round(SMALLEST * 2 ** (power / 2)) for power in range(max(WIDTHS.values()))]
    grid = [Plan(width, d) for width, count in WIDTHS.items() for d in sizes[:count]]
    grid += [Plan(width, sizes[power], seed) for width in REPEATED for power in REPEATED_AT for seed in SEEDS]
    for small, n_characters, large in DUELS:
        compute = n_parameters(small) * n_characters
        for seed in SEEDS:
            grid += [Plan(small, n_characters, seed), Plan(large, compute // n_parameters(large), seed)]
    return sorted(dict.fromkeys(grid), key=lambda plan: (plan.width + 100) * plan.n_characters)


def tiny() -> list[Plan]:
    """A grid of seconds, to try the recipe."""
    return [Plan(width, 10_000 * 2**power) for width in (8, 16, 24, 32) for power in range(4)]


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of runs.csv; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: float(value) if "." in value or "e" in value else int(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


def append(path: Path, row: dict[str, Any]) -> None:
    """Adds a row to runs.csv, and the header to a new file."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(
            {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        )


def run(plans: Sequence[Plan], corpus: Corpus, path: Path) -> None:
    """Trains what is not in the table yet."""
    done = {(row["width"], row["planned"], row["seed"]) for row in read_table(path)}
    for number, plan in enumerate(plans, 1):
        if (plan.width, plan.n_characters, plan.seed) in done:
            continue
        row = train(plan, corpus)
        append(path, {"planned": plan.n_characters, **row})
        print(
            f"{number}/{len(plans)} N={row['N']:,} D={row['D']:,} loss {row['loss']:.4f} ({row['cpu_seconds']} s)",
            flush=True,
        )
