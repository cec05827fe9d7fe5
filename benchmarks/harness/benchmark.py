"""A benchmark: one job, several libraries, the same weights. Runs the rounds and keeps what it measured in a JSON.

A long benchmark can be run in parts: rounds that are in the JSON already, of the same inputs on the same machine with
the same versions, are kept, and the next run continues after them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import machine
from benchmarks.harness.data import usual_folder
from benchmarks.harness.report import draw, show
from benchmarks.harness.rounds import Competitor, Round, Timed, parted, summary, turns
from benchmarks.harness.similarity import over_rounds, similarity

RESULTS = Path("benchmarks/results")


@dataclass(frozen=True)
class Benchmark:
    """What is measured. module: where COMPETITORS are. unit: what is counted, such as "images".

    inputs(folder, n, small) makes what the competitors are given; gflop(folder, small) tells what one of them costs the
    model. truth: the competitor whose vectors are right. references: whose rate the others are divided by. bfloat16:
    the competitors that may compute in it; the others are float32.
    """

    name: str
    module: str
    unit: str
    n: int
    n_small: int
    inputs: Callable[[Path, int, bool], Sequence[Any]]
    gflop: Callable[[Path, bool], float]
    truth: str
    references: tuple[str, ...]
    bfloat16: tuple[str, ...] = ()
    warm: int = 4

    def run(self, names: Sequence[str], argv: Sequence[str] | None = None) -> dict[str, Any]:
        """From the command line to the JSON, the table and the plot."""
        asked = _asked(self, names, argv)
        folder = asked.data / ("small" if asked.small else "full")
        folder.mkdir(parents=True, exist_ok=True)
        inputs = self.inputs(folder, asked.n, asked.small)
        found = _begun(self, asked)
        found["gflop each"] = round(self.gflop(folder, asked.small), 3)
        found["gemm gflop/s"].append(_peaks(asked.cores))
        left = range(len(found["rounds"]), asked.rounds)[: asked.at_most]
        found["measured"].append(datetime.date.today().isoformat())
        self._rounds(found, asked, folder, [(at, parted(inputs, asked.rounds)[at]) for at in left])
        show(found)
        draw(found, asked.results / f"{asked.title}.png")
        return found

    def _rounds(
        self,
        found: dict[str, Any],
        asked: argparse.Namespace,
        folder: Path,
        parts: Sequence[tuple[int, list[Any]]],
    ) -> None:
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            there = {
                name: stack.enter_context(Competitor(self.module, name, asked.cores, folder, scratch))
                for name in asked.only
            }  # all at once: to import and load takes longer than a round of a small run
            for name, one in list(there.items()):
                one.ready()
                if one.missing is not None:
                    print(f"{name}: left out, {one.missing} is not installed", file=sys.stderr)
                    found["left out"][name] = one.missing
                    del there[name]
            for number, part in parts:
                if number == parts[0][0]:
                    for place, one in enumerate(there.values()):
                        one.do(part[: self.warm], scratch / f"warm-{place}", keep=False)
                done, like = self._round(number, part, there, scratch)
                found["rounds"].append({name: one._asdict() for name, one in done.items()})
                found["likeness by round"].append(like)
                conclude(found, self)  # after each, so that a run that is stopped loses no more than one
                keep(found, asked.results, asked.title)
                rates = (f"{name} {one.rate(found['rates by']):.1f}/s" for name, one in done.items())
                print(f"round {number + 1} of {asked.rounds}: {', '.join(rates)}", file=sys.stderr)

    def _round(
        self, number: int, part: Sequence[Any], there: dict[str, Competitor], scratch: Path
    ) -> tuple[Round, dict[str, dict[str, float]]]:
        done: Round = {}
        vectors: dict[str, Any] = {}
        for name in turns(list(there), number):
            out = scratch / f"round-{number}-{list(there).index(name)}"
            done[name] = there[name].do(part, out, keep=True)
            if (rows := out.with_suffix(".npy")).exists():
                vectors[name] = np.load(rows)
        if self.truth not in vectors:
            return done, {}
        right = vectors.pop(self.truth)
        return done, {name: similarity(rows, right) for name, rows in vectors.items()}


def conclude(found: dict[str, Any], benchmark: Benchmark) -> None:
    """What the kept rounds come to: medians, ratios, similarity, and the share of the machine's peak."""
    rounds = [{name: Timed(**one) for name, one in each.items()} for each in found["rounds"]]
    table = summary(rounds, benchmark.references, found["rates by"])
    fast = "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(found["hardware"]["flags"]) else "float32"
    peaks = {
        kind: statistics.median(one[kind] for one in found["gemm gflop/s"])
        for kind in ("float32", "bfloat16")
    }
    for name, figures in table.items():
        precision = fast if name in benchmark.bfloat16 else "float32"
        figures["precision"] = precision
        rate = figures["a core second" if found["rates by"] == "core_s" else "a second"]
        figures["share of peak"] = rate * found["gflop each"] / peaks[precision]
        several = [one[name] for one in found["likeness by round"] if name in one]
        if several:
            figures["likeness"] = over_rounds(several)
    got = [one.core_s / one.seconds for each in rounds for one in each.values()]
    found["of a core, while it worked"] = round(statistics.median(got), 2)
    found["summary"] = table
    found["roofline"] = {
        f"{kind}, {benchmark.unit} a second": peak / found["gflop each"] for kind, peak in peaks.items()
    }


def arguments(description: str, *, rounds: int) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--small", action="store_true", help="a smoke test of seconds, with a tiny model")
    parser.add_argument("--rounds", type=int, default=rounds, help="in all (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=usual_folder(), help="where inputs and models are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the JSON and the plot go")
    return parser


def _asked(benchmark: Benchmark, names: Sequence[str], argv: Sequence[str] | None) -> argparse.Namespace:
    parser = arguments(f"{benchmark.name}: the same weights in several libraries", rounds=8)
    parser.add_argument("--n", type=int, help=f"{benchmark.unit} in total")
    parser.add_argument("--cores", type=int, default=1, help="cores of each competitor (default: 1)")
    parser.add_argument("--at-most", type=int, help="rounds in this run; the next run goes on")
    parser.add_argument("--again", action="store_true", help="forget what the JSON holds")
    parser.add_argument(
        "--only", nargs="+", choices=list(names), default=list(names), help="run only these competitors"
    )
    asked = parser.parse_args(argv)
    asked.n = asked.n or (benchmark.n_small if asked.small else benchmark.n)
    if asked.small:
        asked.rounds = min(asked.rounds, 2)
    if asked.cores > machine.cores():
        parser.error(f"--cores {asked.cores}: this process may use {machine.cores()}")
    asked.title = f"{benchmark.name}-{asked.cores}-core{'s' * (asked.cores > 1)}{'-small' * asked.small}"
    return asked


def _begun(benchmark: Benchmark, asked: argparse.Namespace) -> dict[str, Any]:
    """What the JSON holds of the same measurement, or an empty one."""
    same = {
        "benchmark": benchmark.name, "unit": benchmark.unit, "n": asked.n, "rounds in all": asked.rounds,
        "small": asked.small, "cores": asked.cores, "contenders": asked.only, "versions": machine.versions(),
        "hardware": machine.hardware(), "rates by": "core_s" if asked.cores == 1 else "seconds",
    }  # fmt: skip
    path = asked.results / f"{asked.title}.json"
    if path.exists() and not asked.again:
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if (
            all(before.get(key) == value for key, value in same.items())
            and len(before["rounds"]) < asked.rounds
        ):
            return before
    return same | {"measured": [], "left out": {}, "gemm gflop/s": [], "rounds": [],
                   "likeness by round": []}  # fmt: skip


def _peaks(cores: int) -> dict[str, float]:
    """In a process of its own, on as many cores as a competitor has."""
    code = (
        f"from benchmarks.harness.worker import pin; pin({cores}); import json; from benchmarks.harness.machine import "
        "gemm_gflops; print(json.dumps(gemm_gflops()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(ran.stdout))


def keep(found: dict[str, Any], folder: Path, title: str) -> None:
    """As JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{title}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
