"""Interleaved rounds: in each round, all competitors process the same part of the inputs in turn.

Other load on the machine thus affects all competitors alike. Ratios are taken within rounds; the median is reported.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

LEAVE_S = 20

Round = dict[str, "Timed"]


class Timed(NamedTuple):
    """A competitor in a round: inputs processed, wall time, CPU time (over all cores), and peak memory so far."""

    n: int
    seconds: float
    core_s: float
    peak_mb: float

    def rate(self, by: str) -> float:
        """Inputs per second of wall time ("seconds") or CPU time ("core_s")."""
        return self.n / (self.core_s if by == "core_s" else self.seconds)


class CompetitorFailed(RuntimeError):
    """The process of a competitor exited early."""


class Competitor:
    """A competitor in a separate process; see worker.py. missing: the package it lacks, if any."""

    def __init__(self, module: str, name: str, cores: int, folder: Path, scratch: Path) -> None:
        self.name, self.missing = name, None
        self._log = scratch / f"{name.replace(' ', '-').replace('/', '-')}.log"
        command = [sys.executable, "-m", "benchmarks.harness.worker", module, name, str(cores), str(folder)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def ready(self) -> None:
        """Waits until the competitor is set up, or sets `missing`."""
        self.missing = self._answer().get("missing")

    def do(self, inputs: Sequence[Any], out: Path, *, keep: bool) -> Timed:
        """Processes inputs. keep: whether vectors are written to `out`.npy. Raises CompetitorFailed."""
        task = {"inputs": list(inputs), "out": str(out), "keep": keep}
        print(json.dumps(task), file=self._process.stdin, flush=True)
        answer = self._answer()
        return Timed(len(inputs), answer["seconds"], answer["core_s"], answer["peak_mb"])

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if line:
            return dict(json.loads(line))
        code = self._process.wait()
        raise CompetitorFailed(f"{self.name} exited with code {code}:\n{self._log.read_text()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def turns(names: Sequence[str], number: int) -> list[str]:
    """The order of competitors in a round, rotated by one per round."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def parted(inputs: Sequence[Any], n: int) -> list[list[Any]]:
    """n parts of about the same size, each with every n-th input."""
    return [list(inputs[number::n]) for number in range(n)]


def summary(rounds: Sequence[Round], references: Iterable[str], by: str) -> dict[str, dict[str, Any]]:
    """{competitor: median, lowest and highest rate, peak memory, and the median ratio to each reference}.

    by: "seconds" or "core_s"; see Timed.
    """
    table: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for timings in rounds for name in timings):
        timings = [timings[name] for timings in rounds if name in timings]
        ratios = {other: ratio(rounds, name, other, by) for other in references}
        table[name] = {
            "a second": statistics.median(timing.rate("seconds") for timing in timings),
            "a core second": statistics.median(timing.rate("core_s") for timing in timings),
            "slowest round": min(timing.rate(by) for timing in timings),
            "fastest round": max(timing.rate(by) for timing in timings),
            "peak_mb": max(timing.peak_mb for timing in timings),
            "ratios": {other: value for other, value in ratios.items() if value is not None},
        }
    return table


def ratio(rounds: Sequence[Round], name: str, other: str, by: str) -> float | None:
    """The median over rounds of the ratio of two rates; None if the two never ran in the same round."""
    shared = [timings for timings in rounds if name in timings and other in timings]
    ratios = [timings[name].rate(by) / timings[other].rate(by) for timings in shared]
    return statistics.median(ratios) if ratios else None
