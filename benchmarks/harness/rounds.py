"""Interleaved rounds: every competitor does the same part of the job, in turn, before any does the next part.

So whatever else the machine does meanwhile touches them alike, and a ratio is taken within a round. What is reported is
the median of the rounds.
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
    """One competitor in one round: the things it did, the seconds that passed, those its process computed (on all cores
    together), and the most memory it has had so far."""

    n: int
    seconds: float
    core_s: float
    peak_mb: float

    def rate(self, by: str) -> float:
        """Things by "seconds" or by "core_s"."""
        return self.n / (self.core_s if by == "core_s" else self.seconds)


class CompetitorFailed(RuntimeError):
    """A competitor's process ended before its work was done."""


class Competitor:
    """One competitor in its own process; see _worker.py. missing: the package it lacks, if it cannot take part."""

    def __init__(self, module: str, name: str, cores: int, folder: Path, scratch: Path) -> None:
        self.name, self.missing = name, None
        self._said = scratch / f"{name.replace(' ', '-').replace('/', '-')}.log"
        command = [sys.executable, "-m", "benchmarks.harness.worker", module, name, str(cores), str(folder)]
        with self._said.open("w") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def ready(self) -> None:
        """Waits until it is set up, or tells what it lacks."""
        self.missing = self._answer().get("missing")

    def do(self, inputs: Sequence[Any], out: Path, *, keep: bool) -> Timed:
        """Has it do a part of the job. keep: its vectors are to lie in `out`.npy. Raises CompetitorFailed."""
        task = {"inputs": list(inputs), "out": str(out), "keep": keep}
        print(json.dumps(task), file=self._process.stdin, flush=True)
        found = self._answer()
        return Timed(len(inputs), found["seconds"], found["core_s"], found["peak_mb"])

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if line:
            return dict(json.loads(line))
        code = self._process.wait()
        raise CompetitorFailed(f"{self.name} ended with code {code}; it said:\n{self._said.read_text()}")

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
    """Who goes after whom in a round: another one is first each time."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def parted(inputs: Sequence[Any], n: int) -> list[list[Any]]:
    """n parts of about the same size, each with inputs from everywhere in the list."""
    return [list(inputs[number::n]) for number in range(n)]


def summary(rounds: Sequence[Round], references: Iterable[str], by: str) -> dict[str, dict[str, Any]]:
    """{competitor: its median rates, the slowest and fastest, its peak memory, and the median of its rate by that of
    each reference}. by: the kind of seconds; see Timed."""
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(name for one in rounds for name in one):
        mine = [one[name] for one in rounds if name in one]
        ratios = {other: ratio(rounds, name, other, by) for other in references}
        found[name] = {
            "a second": statistics.median(one.rate("seconds") for one in mine),
            "a core second": statistics.median(one.rate("core_s") for one in mine),
            "slowest round": min(one.rate(by) for one in mine),
            "fastest round": max(one.rate(by) for one in mine),
            "peak_mb": max(one.peak_mb for one in mine),
            "ratios": {other: value for other, value in ratios.items() if value is not None},
        }
    return found


def ratio(rounds: Sequence[Round], name: str, other: str, by: str) -> float | None:
    """The median of name's rate by other's, each taken within one round; None if they were never in one."""
    both = [one[name].rate(by) / one[other].rate(by) for one in rounds if name in one and other in one]
    return statistics.median(both) if both else None
