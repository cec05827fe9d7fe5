"""Growth of memory with the number of indexed files: python -m benchmarks.memory [--small]

The starter indexes 1,000, 5,000 and 20,000 small texts and images, each number in a separate process. The growth per
file is the slope of a line fitted to the peaks.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import machine
from benchmarks.harness.benchmark import arguments, keep
from benchmarks.harness.data import many_small_files
from benchmarks.harness.report import draw_bars, machine_line
from benchmarks.harness.rounds import Competitor
from benchmarks.harness.worker import Work

SIZES = (1000, 5000, 20_000)


def starter(folder: Path) -> Work:
    import multimodal as mm

    space = mm.load("starter", device="cpu")

    def work(folders: list[str], out: Path) -> Callable[[], Any]:
        index = mm.Index.create(out, space)
        added: list[int] = []  # files: a long text is several rows
        for files in folders:
            added.append(index.add(files).added)
        return lambda: np.array(added)

    return work


COMPETITORS: dict[str, Callable[[Path], Work]] = {"multimodal": starter}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    args = parser.parse_args(argv)
    sizes = [50, 200] if args.small else sorted(args.sizes)
    table: dict[int, dict[str, float]] = {}
    for size in sizes:
        files = many_small_files(args.data / ("small" if args.small else "full"), size)
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "index"
            with Competitor("benchmarks.memory", "multimodal", 1, files, Path(scratch)) as competitor:
                competitor.ready()
                took = competitor.do([str(files)], out, keep=True)
            if (n := int(np.load(out.with_suffix(".npy"))[0])) != size:
                raise RuntimeError(f"{n} of {size} files were added")
        table[size] = {
            "peak_mb": took.peak_mb,
            "files a core second": size / took.core_s,
            "seconds": took.seconds,
        }
    slope = float(np.polyfit(list(table), [row["peak_mb"] for row in table.values()], 1)[0])
    result = {"benchmark": "memory", "hardware": machine.hardware(), "versions": machine.versions(), "cores": 1,
             "summary": table, "kB a file": 1000 * slope}  # fmt: skip
    title = f"memory{'-small' * args.small}"
    keep(result, args.results, title)
    print(machine_line(result))
    print("\n| files | peak memory, MB | files per core second |\n| ---: | ---: | ---: |")
    for size, row in table.items():
        print(f"| {size:,} | {row['peak_mb']:,.0f} | {row['files a core second']:,.0f} |")
    print(f"\n{1000 * slope:.2f} kB per file")
    draw_bars({f"multimodal, {size:,} files": row["peak_mb"] for size, row in table.items()},
              "peak memory of indexing, MB", args.results / f"{title}.png")  # fmt: skip
    return result


if __name__ == "__main__":
    main(sys.argv[1:])
