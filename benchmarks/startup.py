"""Startup times: python -m benchmarks.startup [--small]

Measures separate processes on one core from start to exit: imports, `multimodal --help`, a search in an index of the
gallery, and the first text vector of the starter, beside the imports of comparable libraries. No models are loaded in
the latter, since nothing is downloaded.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.harness import machine
from benchmarks.harness.benchmark import arguments, keep
from benchmarks.harness.report import draw_bars, machine_line
from benchmarks.harness.rounds import turns

MISSING = 3
SEARCH, GALLERY = "multimodal search", "assets/gallery"
PIN = "from benchmarks.harness.worker import pin; pin(1); "
# Ends with MISSING where the package is not installed
WRAPPED = "import sys\ntry:\n    {}\nexcept ModuleNotFoundError:\n    sys.exit(3)"
STARTS = {
    "python, nothing": "pass",
    "import numpy": "import numpy",
    "import torch": "import torch",
    "import multimodal": "import multimodal",
    "multimodal --help": "from multimodal.cli.main import main; sys.argv = ['multimodal', '--help']; main()",
    SEARCH: "from multimodal.__main__ import main; sys.argv = ['multimodal', 'search', {!r}, 'a dog']; main()",
    "multimodal, first answer": "import multimodal; multimodal.load('starter').encode('a red apple')",
    "import open_clip": "import open_clip",
    "import sentence_transformers": "import sentence_transformers",
    "import txtai": "import txtai; from txtai import Embeddings",
    "import transformers' pipeline": "from transformers import pipeline",
    "transformers, first pipeline class": "from transformers import CLIPModel, ZeroShotImageClassificationPipeline",
}


class Start(NamedTuple):
    """A process: wall time, CPU time, and peak memory."""

    seconds: float
    core_s: float
    peak_mb: float


def start(code: str) -> Start | None:
    """Runs code in a new Python process on one core; None if a package is missing."""
    timed = PIN + WRAPPED.format(code)
    report = "import resource as r; u = r.getrusage(r.RUSAGE_CHILDREN); print(u.ru_utime + u.ru_stime, u.ru_maxrss)"
    outer = (
        "import subprocess, sys, time; t = time.perf_counter(); "
        f"c = subprocess.run([sys.executable, '-c', {timed!r}], stdout=subprocess.DEVNULL).returncode; "
        f"print(time.perf_counter() - t, c); {report}"
    )
    ran = subprocess.run([sys.executable, "-c", outer], check=True, capture_output=True, text=True)
    seconds, code_, core_s, peak = ran.stdout.split()
    if int(code_) == MISSING:
        return None
    if int(code_):
        raise RuntimeError(f"{code!r} exited with code {code_}:\n{ran.stderr}")
    return Start(float(seconds), float(core_s), int(peak) * (1e-6 if sys.platform == "darwin" else 1024e-6))


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    args = arguments(__doc__ or "", rounds=7).parse_args(argv)
    names = [
        name for name in STARTS if not args.small or name.startswith(("python", "import m", "multimodal -"))
    ]
    with tempfile.TemporaryDirectory() as folder:
        return measure(args, names, gallery_index(folder) if SEARCH in names else "")


def gallery_index(folder: str) -> str:
    """Makes an index of the gallery with the starter; returns its path."""
    import multimodal as mm

    index = mm.Index.create(f"{folder}/gallery.lance", "starter")
    index.add(GALLERY)
    return str(index.path)


def measure(args: Any, names: Sequence[str], index: str) -> dict[str, Any]:
    """Runs the rounds, and prints and keeps the result. index: that a search is started on."""
    rounds: list[dict[str, Start]] = []
    left_out: list[str] = []
    for number in range(2 if args.small else args.rounds):
        timings = {}
        for name in turns(names, number):
            took = start(STARTS[name].format(index))
            if took is None:
                left_out += [name] if name not in left_out else []
            else:
                timings[name] = took
        rounds.append(timings)
    table = {name: figures(rounds, name) for name in names if name not in left_out}
    result = {"benchmark": "startup", "hardware": machine.hardware(), "versions": machine.versions(), "cores": 1,
             "left out": left_out, "summary": table,
             "rounds": [{name: start._asdict() for name, start in starts.items()} for starts in rounds]}  # fmt: skip
    title = f"startup{'-small' * args.small}"
    keep(result, args.results, title)
    print(machine_line(result))
    print(f"medians of {len(rounds)} processes each, files in the system's cache\n")
    print(
        "| | ms | CPU ms | net of interpreter start | peak memory, MB |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for name, row in table.items():
        print(f"| {name} | {row['ms']:,.0f} | {row['ms computed']:,.0f} | {row['less python']:,.0f} | "
              f"{row['peak_mb']:,.0f} |")  # fmt: skip
    for name in left_out:
        print(f"Left out: {name}, a package is not installed.")
    draw_bars({name: row["ms computed"] for name, row in reversed(table.items())}, "CPU time until exit, ms",
              args.results / f"{title}.png", log=True)  # fmt: skip
    return result


def figures(rounds: Sequence[dict[str, Start]], name: str) -> dict[str, float]:
    """Medians over rounds. "less python": CPU time minus that of an empty process in the same round."""
    starts = [timings[name] for timings in rounds]
    beyond = [timings[name].core_s - timings["python, nothing"].core_s for timings in rounds]
    return {
        "ms": 1000 * statistics.median(timing.seconds for timing in starts),
        "ms computed": 1000 * statistics.median(timing.core_s for timing in starts),
        "less python": 1000 * statistics.median(beyond),
        "peak_mb": max(timing.peak_mb for timing in starts),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
