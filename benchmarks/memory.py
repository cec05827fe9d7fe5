"""Whether the memory of indexing grows with the number of files: python -m benchmarks.memory [--small]

The starter indexes 1,000, 5,000 and 20,000 small files, texts and pictures, each number in a process of its own. What
each file adds is the slope of the straight line through the peaks.
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
        for one in folders:
            added.append(index.add(one).added)
        return lambda: np.array(added)

    return work


COMPETITORS: dict[str, Callable[[Path], Work]] = {"multimodal": starter}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    asked = parser.parse_args(argv)
    sizes = [50, 200] if asked.small else sorted(asked.sizes)
    table: dict[int, dict[str, float]] = {}
    for size in sizes:
        files = many_small_files(asked.data / ("small" if asked.small else "full"), size)
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "index"
            with Competitor("benchmarks.memory", "multimodal", 1, files, Path(scratch)) as one:
                one.ready()
                took = one.do([str(files)], out, keep=True)
            if (n := int(np.load(out.with_suffix(".npy"))[0])) != size:
                raise RuntimeError(f"{n} of {size} files were added")
        table[size] = {
            "peak_mb": took.peak_mb,
            "files a core second": size / took.core_s,
            "seconds": took.seconds,
        }
    slope = float(np.polyfit(list(table), [one["peak_mb"] for one in table.values()], 1)[0])
    found = {"benchmark": "memory", "hardware": machine.hardware(), "versions": machine.versions(), "cores": 1,
             "summary": table, "kB a file": 1000 * slope}  # fmt: skip
    title = f"memory{'-small' * asked.small}"
    keep(found, asked.results, title)
    print(machine_line(found))
    print("\n| files | peak memory, MB | files a core second |\n| ---: | ---: | ---: |")
    for size, row in table.items():
        print(f"| {size:,} | {row['peak_mb']:,.0f} | {row['files a core second']:,.0f} |")
    print(f"\n{1000 * slope:.2f} kB a file")
    draw_bars({f"multimodal, {size:,} files": row["peak_mb"] for size, row in table.items()},
              "peak memory of indexing, MB", asked.results / f"{title}.png")  # fmt: skip
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
