"""Which letter follows which, in the phrases that the starter was trained on: counts of runs of up to six letters.

Likelihoods are interpolated as by Witten and Bell 1991: a run that went on in many ways leaves more to what shorter
runs say. Made by `recipes/starter/data/letters.py`; in assets/starter/letters.safetensors runs are numbers to
base 39, and
counts are eighths of a power of two, so that a run takes five bytes.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.paths import assets
from multimodal.encoders.starter.networks import ALPHABET

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ORDER = 6  # six letters to base 39 are the most that fit 32 bits
BASE = 1 + len(ALPHABET)
SPACE = 1 + ALPHABET.index(" ")
EIGHTHS = 8
RUNS, COUNTS = "runs_of_{}", "counts_of_{}"
FILE = Path("starter") / "letters.safetensors"
# Found on festival and flite rms, with an earlier speech tower: how much the letters weigh beside
# the sound, and what a letter earns, since each makes a reading less likely
WEIGHT, EARNED = 0.8, 2.5
KEPT = 1 << 18

Run = tuple[int, ...]


class CharacterLM:
    """counts: how often each run of 1 to ORDER classes was seen."""

    def __init__(self, counts: Mapping[Run, float]) -> None:
        self.counts = counts
        self.seen: Counter[Run] = Counter()  # how often a run went on
        self.ways: Counter[Run] = Counter()  # and in how many ways
        for run, count in counts.items():
            self.seen[run[:-1]] += count  # type: ignore[assignment]
            self.ways[run[:-1]] += 1
        self._kept = functools.lru_cache(maxsize=KEPT)(self._log)

    def likelihood(self, before: Run, letter: int) -> float:
        """Of a letter after a run of at most ORDER - 1; of all letters, they sum to one."""
        if not before:
            return (self.counts.get((letter,), 0) + 0.5) / (self.seen[()] + 0.5 * (BASE - 1))
        shorter = self.likelihood(before[1:], letter)
        if not (seen := self.seen.get(before, 0)):
            return shorter
        ways = self.ways[before]
        return (self.counts.get((*before, letter), 0) + ways * shorter) / (seen + ways)

    def __call__(self, prefix: Run, letter: int) -> float:
        """What a letter adds to the log-probability of a reading that began with `prefix`."""
        return self._kept((SPACE, *prefix)[1 - ORDER :], letter)

    def _log(self, before: Run, letter: int) -> float:
        return WEIGHT * math.log(self.likelihood(before, letter)) + EARNED


def pack_counts(counts: Mapping[Run, int]) -> dict[str, NDArray[Any]]:
    """Counts as arrays, by name, for a file."""
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {}
    for size in range(1, ORDER + 1):
        rows = sorted((_number(run), count) for run, count in counts.items() if len(run) == size)
        arrays[RUNS.format(size)] = np.array([number for number, _ in rows], dtype=np.uint32)
        eighths = [round(EIGHTHS * math.log2(count)) for _, count in rows]
        arrays[COUNTS.format(size)] = np.array(eighths, dtype=np.uint8)
    return arrays


def unpack_counts(arrays: Mapping[str, NDArray[Any]]) -> dict[Run, float]:
    """What `pack_counts` made, with counts to 4 %."""
    counts: dict[Run, float] = {}
    for size in range(1, ORDER + 1):
        runs, eighths = arrays[RUNS.format(size)].tolist(), arrays[COUNTS.format(size)].tolist()
        for number, eighth in zip(runs, eighths, strict=True):
            counts[_run(number, size)] = 2.0 ** (eighth / EIGHTHS)
    return counts


def _number(run: Run) -> int:
    return functools.reduce(lambda number, one: number * BASE + one, run, 0)


def _run(number: int, size: int) -> Run:
    run = []
    for _ in range(size):
        number, one = divmod(number, BASE)
        run.append(one)
    return tuple(reversed(run))


@functools.cache
def shipped_char_lm() -> CharacterLM:
    """The letters of the starter."""
    from safetensors.numpy import load_file

    arrays: dict[str, np.ndarray[Any, Any]] = load_file(assets() / FILE)
    return CharacterLM(unpack_counts(arrays))
