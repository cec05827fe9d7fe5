"""Memory while one job adds many small items: python -m benchmarks.memory_curve [--items 200000]

The encoder is a fake one, so that 200,000 items take a minute and all that grows is the index's own. Anonymous
memory is read every thousand items; lookups and commits are under way then, so single readings differ by some MB.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import machine
from benchmarks.harness.benchmark import arguments, keep

ITEMS, DIM, STEP = 200_000, 256, 1000
SETTLED = 4000  # items after which memory should be flat
WINDOW = 3000  # readings this near are averaged


def resident_mb() -> float:
    """Anonymous memory of this process in MB. Linux only."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("this system does not say how much anonymous memory a process has")


def measure(n: int, folder: Path) -> dict[str, Any]:
    """Adds n texts to a new index in the folder, and reads memory meanwhile."""
    import multimodal as mm
    from multimodal.index import Progress
    from multimodal.testing import FakeEncoder

    class Forgetful(FakeEncoder):
        """Does not keep the items that it has seen."""

        def prepare(self, items: Sequence[Any]) -> Any:
            prepared = super().prepare(items)
            self.seen.clear()
            return prepared

    curve: list[tuple[int, float]] = []

    def read(state: Progress) -> None:
        if state.done >= (curve[-1][0] if curve else 0) + STEP:
            curve.append((state.done, round(resident_mb(), 1)))

    def items() -> Iterator[mm.Text]:
        for number in range(n):
            yield mm.Text(f"note {number} about things", uri=f"note:{number}")

    index = mm.Index.create(folder / "index", mm.Space([Forgetful("text", DIM)], name="curve"))
    began, computed = time.perf_counter(), time.process_time()
    report = index.add(items(), progress=read)
    if report.added != n:
        raise RuntimeError(f"{report.added:,} of {n:,} items were added")
    files = [file for file in index.path.rglob("*") if file.is_file()]
    return {
        "items": n,
        "dim": DIM,
        "seconds": round(time.perf_counter() - began, 1),
        "core seconds": round(time.process_time() - computed, 1),
        "MB after search is prepared": round(resident_mb(), 1),
        "index bytes": sum(file.stat().st_size for file in files),
        "index files": len(files),
        "curve": curve,
    }


def near(curve: Sequence[tuple[int, float]], n: int) -> float:
    """The mean of the readings near a number of items."""
    readings = [mb for done, mb in curve if abs(done - n) <= WINDOW]
    return round(sum(readings) / len(readings), 1) if readings else float("nan")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--items", type=int, default=ITEMS)
    options = parser.parse_args(argv)
    n = 2 * SETTLED if options.small else options.items
    with tempfile.TemporaryDirectory() as folder:
        found = measure(n, Path(folder))
    points = [point for point in (1000, SETTLED, 20_000, 50_000, 100_000, 200_000) if point <= n]
    found |= {
        "benchmark": "memory-curve",
        "hardware": machine.hardware(),
        "versions": machine.versions(),
        "summary": {point: near(found["curve"], point) for point in points},
    }
    keep(found, options.results, f"memory-curve{'-small' * options.small}")
    print("| items | anonymous memory, MB | against 4,000 |\n| ---: | ---: | ---: |")
    for point, mb in found["summary"].items():
        print(f"| {point:,} | {mb:,.1f} | {mb / found['summary'][SETTLED] - 1:+.1%} |")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
