"""Latencies of the starter on one core: python -m benchmarks.starter

Prints the time of `import multimodal`, of loading the space after importing torch, and of encoding a text, an image and
a second of speech, each the median of many single calls of `space.encode`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

ROUNDS = 60


def median_ms(call: Callable[[], object]) -> float:
    """The median milliseconds of a call, after three warm-up calls."""
    times = []
    for turn in range(ROUNDS + 3):
        started = time.perf_counter()
        call()
        if turn >= 3:
            times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def import_ms() -> float:
    """Milliseconds of `import multimodal` in a new process, without the start of the process."""
    code = "import time; t = time.perf_counter(); import multimodal; print(1000 * (time.perf_counter() - t))"
    runs = [
        float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(5)
    ]
    return statistics.median(runs)


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, and prints a table and a line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    figures = {"import multimodal, ms": import_ms()}
    import torch

    torch.set_num_threads(1)
    import multimodal as mm

    started = time.perf_counter()
    space = mm.load("starter")
    figures["load beyond torch, s"] = time.perf_counter() - started
    rng = np.random.default_rng(0)
    image = mm.Image(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8))
    second = mm.Audio({"array": rng.standard_normal(16_000).astype(np.float32) / 9, "sampling_rate": 16_000})
    figures["one text, ms"] = median_ms(lambda: space.encode("a small blue strawberry"))
    figures["one image 640x480, ms"] = median_ms(lambda: space.encode(image))
    figures["one second of speech, ms"] = median_ms(lambda: space.encode(second))
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    for title, value in figures.items():
        print(f"{title:28} {value:8.2f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
