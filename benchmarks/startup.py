"""How long until something happens: python -m benchmarks.startup [--small]

Each is a process of its own, from its start to its end, on one core: importing, `multimodal --help`, and the first
vector of a text from the shipped starter; beside the import of the libraries a user would take instead. Nothing of
theirs is downloaded or loaded, so they are told here by their imports alone.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.harness import machine
from benchmarks.harness.benchmark import arguments, keep
from benchmarks.harness.report import draw_bars, machine_line
from benchmarks.harness.rounds import turns

MISSING = 3
PIN = "from benchmarks.harness.worker import pin; pin(1); "
# Ends with MISSING where the package is not installed
WRAPPED = "import sys\ntry:\n    {}\nexcept ModuleNotFoundError:\n    sys.exit(3)"
STARTS = {
    "python, nothing": "pass",
    "import numpy": "import numpy",
    "import torch": "import torch",
    "import multimodal": "import multimodal",
    "multimodal --help": "from multimodal.cli.main import main; sys.argv = ['multimodal', '--help']; main()",
    "multimodal, first answer": "import multimodal; multimodal.load('starter').encode('a red apple')",
    "import open_clip": "import open_clip",
    "import sentence_transformers": "import sentence_transformers",
    "import txtai": "import txtai; from txtai import Embeddings",
    "import transformers' pipeline": "from transformers import pipeline",
    "transformers, first pipeline class": "from transformers import CLIPModel, ZeroShotImageClassificationPipeline",
}


class Start(NamedTuple):
    """One process: the seconds that passed and those it computed, and its memory."""

    seconds: float
    core_s: float
    peak_mb: float


def start(code: str) -> Start | None:
    """Runs code in a new Python on one core -> what it took; None if a package is missing."""
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
        raise RuntimeError(f"{code!r} ended with {code_}:\n{ran.stderr}")
    return Start(float(seconds), float(core_s), int(peak) * (1e-6 if sys.platform == "darwin" else 1024e-6))


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    asked = arguments(__doc__ or "", rounds=7).parse_args(argv)
    names = [
        name for name in STARTS if not asked.small or name.startswith(("python", "import m", "multimodal -"))
    ]
    rounds: list[dict[str, Start]] = []
    left_out: list[str] = []
    for number in range(2 if asked.small else asked.rounds):
        this = {}
        for name in turns(names, number):
            took = start(STARTS[name])
            if took is None:
                left_out += [name] if name not in left_out else []
            else:
                this[name] = took
        rounds.append(this)
    table = {name: figures(rounds, name) for name in names if name not in left_out}
    found = {"benchmark": "startup", "hardware": machine.hardware(), "versions": machine.versions(), "cores": 1,
             "left out": left_out, "summary": table,
             "rounds": [{name: one._asdict() for name, one in each.items()} for each in rounds]}  # fmt: skip
    title = f"startup{'-small' * asked.small}"
    keep(found, asked.results, title)
    print(machine_line(found))
    print(f"medians of {len(rounds)} processes each, files in the system's cache\n")
    print(
        "| | ms | ms computed | net of interpreter start | peak memory, MB |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for name, one in table.items():
        print(f"| {name} | {one['ms']:,.0f} | {one['ms computed']:,.0f} | {one['less python']:,.0f} | "
              f"{one['peak_mb']:,.0f} |")  # fmt: skip
    for name in left_out:
        print(f"Left out: {name}, a package is not installed.")
    draw_bars({name: one["ms computed"] for name, one in reversed(table.items())}, "ms computed until done",
              asked.results / f"{title}.png", log=True)  # fmt: skip
    return found


def figures(rounds: Sequence[dict[str, Start]], name: str) -> dict[str, float]:
    """Medians. less python: of what was computed, beyond what an empty process of the same round did."""
    mine = [one[name] for one in rounds]
    beyond = [one[name].core_s - one["python, nothing"].core_s for one in rounds]
    return {
        "ms": 1000 * statistics.median(one.seconds for one in mine),
        "ms computed": 1000 * statistics.median(one.core_s for one in mine),
        "less python": 1000 * statistics.median(beyond),
        "peak_mb": max(one.peak_mb for one in mine),
    }


if __name__ == "__main__":
    main(sys.argv[1:])
