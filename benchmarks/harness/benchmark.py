"""A benchmark of several libraries on the same task with the same weights. Results are written as JSON.

A long benchmark can be run in parts: the rounds in the JSON are kept if inputs, machine and versions are the same, and
the next run continues after them.
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
    """The definition of a benchmark.

    Attributes:
        name: Used in file names.
        module: The module with COMPETITORS.
        unit: The plural of an input, such as "images".
        n: The number of inputs.
        n_small: The number of inputs with --small.
        inputs: (folder, n, small) -> the inputs.
        gflop: (folder, small) -> GFLOP of the model per input.
        truth: The competitor whose vectors are the reference for accuracy.
        references: The competitors that rates are compared with.
        bfloat16: The competitors that may compute in bfloat16; the others use float32.
        warm: Inputs of the warm-up.
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
        """Parses the command line, measures, and writes the JSON, the table and the plot."""
        args = _parse_arguments(self, names, argv)
        folder = args.data / ("small" if args.small else "full")
        folder.mkdir(parents=True, exist_ok=True)
        inputs = self.inputs(folder, args.n, args.small)
        result = _resume(self, args)
        result["gflop each"] = round(self.gflop(folder, args.small), 3)
        result["gemm gflop/s"].append(_peaks(args.cores))
        left = range(len(result["rounds"]), args.rounds)[: args.at_most]
        result["measured"].append(datetime.date.today().isoformat())
        self._rounds(result, args, folder, [(at, parted(inputs, args.rounds)[at]) for at in left])
        show(result)
        draw(result, args.results / f"{args.title}.png")
        return result

    def _rounds(
        self,
        result: dict[str, Any],
        args: argparse.Namespace,
        folder: Path,
        parts: Sequence[tuple[int, list[Any]]],
    ) -> None:
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            competitors = {
                name: stack.enter_context(Competitor(self.module, name, args.cores, folder, scratch))
                for name in args.only
            }  # started together, since setup may take longer than a round
            for name, competitor in list(competitors.items()):
                competitor.ready()
                if competitor.missing is not None:
                    print(f"{name}: left out, {competitor.missing} is not installed", file=sys.stderr)
                    result["left out"][name] = competitor.missing
                    del competitors[name]
            for number, part in parts:
                if number == parts[0][0]:
                    for place, competitor in enumerate(competitors.values()):
                        competitor.do(part[: self.warm], scratch / f"warm-{place}", keep=False)
                done, similarities = self._round(number, part, competitors, scratch)
                result["rounds"].append({name: timed._asdict() for name, timed in done.items()})
                result["likeness by round"].append(similarities)
                conclude(result, self)  # after each round, so that an interrupted run loses at most one
                keep(result, args.results, args.title)
                rates = (f"{name} {timed.rate(result['rates by']):.1f}/s" for name, timed in done.items())
                print(f"round {number + 1} of {args.rounds}: {', '.join(rates)}", file=sys.stderr)

    def _round(
        self, number: int, part: Sequence[Any], competitors: dict[str, Competitor], scratch: Path
    ) -> tuple[Round, dict[str, dict[str, float]]]:
        done: Round = {}
        vectors: dict[str, Any] = {}
        for name in turns(list(competitors), number):
            out = scratch / f"round-{number}-{list(competitors).index(name)}"
            done[name] = competitors[name].do(part, out, keep=True)
            if (rows := out.with_suffix(".npy")).exists():
                vectors[name] = np.load(rows)
        if self.truth not in vectors:
            return done, {}
        right = vectors.pop(self.truth)
        return done, {name: similarity(rows, right) for name, rows in vectors.items()}


def conclude(result: dict[str, Any], benchmark: Benchmark) -> None:
    """Adds the summary of all rounds: medians, ratios, similarity, and the share of the machine's peak."""
    rounds = [{name: Timed(**timed) for name, timed in values.items()} for values in result["rounds"]]
    table = summary(rounds, benchmark.references, result["rates by"])
    fast = "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(result["hardware"]["flags"]) else "float32"
    peaks = {
        kind: statistics.median(peak[kind] for peak in result["gemm gflop/s"])
        for kind in ("float32", "bfloat16")
    }
    for name, figures in table.items():
        precision = fast if name in benchmark.bfloat16 else "float32"
        figures["precision"] = precision
        rate = figures["a core second" if result["rates by"] == "core_s" else "a second"]
        figures["share of peak"] = rate * result["gflop each"] / peaks[precision]
        several = [similarities[name] for similarities in result["likeness by round"] if name in similarities]
        if several:
            figures["likeness"] = over_rounds(several)
    got = [timed.core_s / timed.seconds for values in rounds for timed in values.values()]
    result["of a core, while it worked"] = round(statistics.median(got), 2)
    result["summary"] = table
    result["roofline"] = {
        f"{kind}, {benchmark.unit} a second": peak / result["gflop each"] for kind, peak in peaks.items()
    }


def arguments(description: str, *, rounds: int) -> argparse.ArgumentParser:
    """A parser with the options of all benchmarks."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--small", action="store_true", help="smoke test with a tiny model, takes seconds")
    parser.add_argument("--rounds", type=int, default=rounds, help="number of rounds (default: %(default)s)")
    parser.add_argument("--data", type=Path, default=usual_folder(), help="folder for inputs and models")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON and the plot")
    return parser


def _parse_arguments(
    benchmark: Benchmark, names: Sequence[str], argv: Sequence[str] | None
) -> argparse.Namespace:
    parser = arguments(f"{benchmark.name}: the same weights in several libraries", rounds=8)
    parser.add_argument("--n", type=int, help=f"{benchmark.unit} in total")
    parser.add_argument("--cores", type=int, default=1, help="cores of each competitor (default: 1)")
    parser.add_argument("--at-most", type=int, help="rounds in this run; the next run continues")
    parser.add_argument("--again", action="store_true", help="discard earlier rounds")
    parser.add_argument(
        "--only", nargs="+", choices=list(names), default=list(names), help="run only these competitors"
    )
    args = parser.parse_args(argv)
    args.n = args.n or (benchmark.n_small if args.small else benchmark.n)
    if args.small:
        args.rounds = min(args.rounds, 2)
    if args.cores > machine.cores():
        parser.error(f"--cores {args.cores}: this process may use {machine.cores()}")
    args.title = f"{benchmark.name}-{args.cores}-core{'s' * (args.cores > 1)}{'-small' * args.small}"
    return args


def _resume(benchmark: Benchmark, args: argparse.Namespace) -> dict[str, Any]:
    """The earlier rounds of the same measurement, or an empty result."""
    same = {
        "benchmark": benchmark.name, "unit": benchmark.unit, "n": args.n, "rounds in all": args.rounds,
        "small": args.small, "cores": args.cores, "contenders": args.only, "versions": machine.versions(),
        "hardware": machine.hardware(), "rates by": "core_s" if args.cores == 1 else "seconds",
    }  # fmt: skip
    path = args.results / f"{args.title}.json"
    if path.exists() and not args.again:
        before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if (
            all(before.get(key) == value for key, value in same.items())
            and len(before["rounds"]) < args.rounds
        ):
            return before
    return same | {"measured": [], "left out": {}, "gemm gflop/s": [], "rounds": [],
                   "likeness by round": []}  # fmt: skip


def _peaks(cores: int) -> dict[str, float]:
    """The GEMM peak, measured in a separate process on as many cores as a competitor uses."""
    code = (
        f"from benchmarks.harness.worker import pin; pin({cores}); import json; from benchmarks.harness.machine import "
        "gemm_gflops; print(json.dumps(gemm_gflops()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return dict(json.loads(ran.stdout))


def keep(result: dict[str, Any], folder: Path, title: str) -> None:
    """Writes the result to `title`.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{title}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
