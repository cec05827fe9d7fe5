"""Character n-gram language model of the starter: counts of n-grams up to order 6 in its training phrases.

Probabilities use Witten-Bell interpolation (1991): the more distinct characters follow a prefix, the more weight goes
to the shorter prefix. Written by `recipes/starter/data/letters.py`. assets/starter/letters.safetensors stores n-grams
as numbers to base 39 and counts as eighths of a power of two, five bytes per n-gram.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multimodal.core.paths import assets
from multimodal.encoders.starter.parameters import ALPHABET

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ORDER = 6  # the most characters to base 39 that fit into 32 bits
BASE = 1 + len(ALPHABET)
SPACE = 1 + ALPHABET.index(" ")
EIGHTHS = 8
RUNS, COUNTS = "runs_of_{}", "counts_of_{}"
FILE = Path("starter") / "letters.safetensors"
# Language model weight, and a bonus per character, since each lowers the probability of a text. Tuned on festival and
# flite rms with an earlier speech tower
WEIGHT, EARNED = 0.8, 2.5
KEPT = 1 << 18

Run = tuple[int, ...]


class CharacterLM:
    """counts: the number of occurrences of each n-gram of 1 to ORDER classes."""

    def __init__(self, counts: Mapping[Run, float]) -> None:
        self.counts = counts
        self.seen: Counter[Run] = Counter()  # occurrences of a prefix
        self.ways: Counter[Run] = Counter()  # distinct characters after it
        for run, count in counts.items():
            self.seen[run[:-1]] += count  # type: ignore[assignment]
            self.ways[run[:-1]] += 1
        self._kept = functools.lru_cache(maxsize=KEPT)(self._log)

    def likelihood(self, before: Run, letter: int) -> float:
        """P(letter | the at most ORDER - 1 classes before it); sums to 1 over all letters."""
        if not before:
            return (self.counts.get((letter,), 0) + 0.5) / (self.seen[()] + 0.5 * (BASE - 1))
        shorter = self.likelihood(before[1:], letter)
        if not (seen := self.seen.get(before, 0)):
            return shorter
        ways = self.ways[before]
        return (self.counts.get((*before, letter), 0) + ways * shorter) / (seen + ways)

    def __call__(self, prefix: Run, letter: int) -> float:
        """The weighted log-probability of a letter after `prefix`, plus the bonus."""
        return self._kept((SPACE, *prefix)[1 - ORDER :], letter)

    def _log(self, before: Run, letter: int) -> float:
        return WEIGHT * math.log(self.likelihood(before, letter)) + EARNED


def pack_counts(counts: Mapping[Run, int]) -> dict[str, NDArray[Any]]:
    """Encodes counts as named arrays for a file."""
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {}
    for size in range(1, ORDER + 1):
        rows = sorted((_number(run), count) for run, count in counts.items() if len(run) == size)
        arrays[RUNS.format(size)] = np.array([number for number, _ in rows], dtype=np.uint32)
        eighths = [round(EIGHTHS * math.log2(count)) for _, count in rows]
        arrays[COUNTS.format(size)] = np.array(eighths, dtype=np.uint8)
    return arrays


def unpack_counts(arrays: Mapping[str, NDArray[Any]]) -> dict[Run, float]:
    """Decodes the arrays of `pack_counts`; counts are accurate to 4 %."""
    counts: dict[Run, float] = {}
    for size in range(1, ORDER + 1):
        runs, eighths = arrays[RUNS.format(size)].tolist(), arrays[COUNTS.format(size)].tolist()
        for number, eighth in zip(runs, eighths, strict=True):
            counts[_run(number, size)] = 2.0 ** (eighth / EIGHTHS)
    return counts


def _number(run: Run) -> int:
    return functools.reduce(lambda number, label: number * BASE + label, run, 0)


def _run(number: int, size: int) -> Run:
    run = []
    for _ in range(size):
        number, label = divmod(number, BASE)
        run.append(label)
    return tuple(reversed(run))


@functools.cache
def shipped_char_lm() -> CharacterLM:
    """The language model of the starter."""
    from safetensors.numpy import load_file

    arrays: dict[str, np.ndarray[Any, Any]] = load_file(assets() / FILE)
    return CharacterLM(unpack_counts(arrays))
