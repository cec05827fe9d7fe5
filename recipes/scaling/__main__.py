"""`python -m recipes.scaling`: trains the grid, fits the law, and writes runs.csv, results.json and the figures.

Every finished run is kept, so that an interrupted grid continues; remove runs.csv to start over. The text is Debian's
`dict-gcide`, or a file or folder of your own (--text). Needs the extra `recipes` for the figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from recipes.scaling import corpus, figures, findings, grid

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="recipes.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="a text file, or a folder of .txt files")
    parser.add_argument(
        "--output", type=Path, default=HERE, help="folder of runs.csv, results.json and figures"
    )
    parser.add_argument("--tiny", action="store_true", help="a grid of seconds, to try the recipe")
    parser.add_argument("--findings", action="store_true", help="train nothing; evaluate runs.csv again")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    """Runs all steps."""
    options = arguments()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / "runs.csv"
    if not options.findings:
        text = corpus.split(corpus.read(options.text))
        print(f"{len(text.train):,} characters to train on, {len(text.test):,} to judge on")
        grid.run(grid.tiny() if options.tiny else grid.plans(), text, table)
    rows = grid.read_table(table)
    results = findings.results(rows)
    (options.output / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    figures.draw(rows, results, options.output)
    print(json.dumps(results["law"], indent=1))


if __name__ == "__main__":
    main()
