"""CTC decoding (Graves et al. 2006): greedy, beam search, scoring and alignment.

Prefix beam search follows Hannun et al. 2014 (https://arxiv.org/abs/1408.2873): each prefix keeps the probability of
its paths that end in a blank apart from the others, because only after a blank can a character repeat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLANK = 0
NEVER = -math.inf
NEGLIGIBLE = math.log(1e-3)  # classes with less probability at a step are skipped there

Prefix = tuple[int, ...]
LanguageModel = Callable[[Prefix, int], float]


def greedy(logs: NDArray[np.float32]) -> list[tuple[int, int, int]]:
    """The most probable path -> (class, first step, one past the last step) of each character.

    logs: (steps, classes) log-probabilities; class 0 is the blank.
    """
    characters: list[tuple[int, int, int]] = []
    before = BLANK
    for step, best in enumerate(logs.argmax(axis=1).tolist()):
        if best != BLANK and best == before:
            characters[-1] = (best, characters[-1][1], step + 1)
        elif best != BLANK:
            characters.append((best, step, step + 1))
        before = best
    return characters


def beam_search(
    logs: NDArray[np.float32], beams: int, model: LanguageModel | None = None
) -> list[tuple[Prefix, float]]:
    """The most probable texts, best first, at most `beams` -> (classes, log-probability) of each.

    logs: (steps, classes). model: the language model score of a class after a prefix (shallow fusion), which is
    added to the log-probabilities.
    """
    # prefix -> [log-probability of the paths that end in a blank, of those that end in its last character]
    kept: dict[Prefix, tuple[float, float]] = {(): (0.0, NEVER)}
    bonus: dict[Prefix, float] = {(): 0.0}
    for row in logs.tolist():
        tried = [(label, log) for label, log in enumerate(row) if log > NEGLIGIBLE or label == BLANK]
        grown: dict[Prefix, tuple[float, float]] = {}
        for prefix, (blank, last) in kept.items():
            both = _add(blank, last)
            for label, log in tried:
                if label == BLANK:
                    _accumulate(grown, prefix, both + log, NEVER)
                    continue
                longer = (*prefix, label)
                if prefix and prefix[-1] == label:
                    _accumulate(grown, prefix, NEVER, last + log)
                    _accumulate(grown, longer, NEVER, blank + log)
                else:
                    _accumulate(grown, longer, NEVER, both + log)
                if longer not in bonus:
                    bonus[longer] = bonus[prefix] + (0.0 if model is None else model(prefix, label))
        best = sorted(grown, key=lambda prefix: -(_add(*grown[prefix]) + bonus[prefix]))[:beams]
        kept = {prefix: grown[prefix] for prefix in best}
        bonus = {prefix: bonus[prefix] for prefix in best}
    return [(prefix, _add(*logs_of) + bonus[prefix]) for prefix, logs_of in kept.items()]


def _accumulate(table: dict[Prefix, tuple[float, float]], prefix: Prefix, blank: float, last: float) -> None:
    old_blank, old_last = table.get(prefix, (NEVER, NEVER))
    table[prefix] = (_add(old_blank, blank), _add(old_last, last))


def _add(first: float, second: float) -> float:
    """log(exp(first) + exp(second))."""
    high, low = (first, second) if first >= second else (second, first)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))


def forward_scores(logs: NDArray[np.float32], readings: Sequence[Sequence[int]]) -> NDArray[np.float64]:
    """log P(text | audio) of each text (classes), over all paths; -inf where there are too few steps for it.

    logs: (steps, classes). The texts are scored together, as states (texts, 2 * longest + 1) with blanks in between.
    """
    longest = max(map(len, readings), default=0)
    labels = np.full((len(readings), 2 * longest + 1), BLANK)
    for place, reading in enumerate(readings):
        labels[place, 1 : 2 * len(reading) : 2] = reading
    # a path may skip a blank only between two different characters
    skip = np.zeros(labels.shape, dtype=bool)
    skip[:, 2:] = (labels[:, 2:] != BLANK) & (labels[:, 2:] != labels[:, :-2])
    at = np.full(labels.shape, -np.inf)
    at[:, 0] = logs[0, BLANK]
    if longest:
        at[:, 1] = logs[0, labels[:, 1]]
    for row in logs[1:].astype(np.float64):
        total = at.copy()
        total[:, 1:] = np.logaddexp(total[:, 1:], at[:, :-1])
        total[:, 2:] = np.where(skip[:, 2:], np.logaddexp(total[:, 2:], at[:, :-2]), total[:, 2:])
        at = total + row[labels]
    last = 2 * np.array([len(reading) for reading in readings])
    rows = np.arange(len(readings))
    scores: NDArray[np.float64] = np.logaddexp(
        at[rows, last], np.where(last > 0, at[rows, np.maximum(last - 1, 0)], -np.inf)
    )
    return scores


def align(logs: NDArray[np.float32], reading: Sequence[int]) -> list[tuple[int, int]]:
    """The most probable path of a text (Viterbi) -> (first step, one past the last) of each character.

    There must be enough steps: one per character, and one more between equal neighbours.
    """
    labels = np.full(2 * len(reading) + 1, BLANK)
    labels[1::2] = reading
    skip = np.zeros(len(labels), dtype=bool)
    skip[2:] = (labels[2:] != BLANK) & (labels[2:] != labels[:-2])
    at = np.full(len(labels), -np.inf)
    at[:2] = logs[0, labels[:2]]
    origin = np.zeros((len(logs), len(labels)), dtype=np.int64)
    for step in range(1, len(logs)):
        previous, before = np.roll(at, 1), np.roll(at, 2)
        previous[:1], before[:2] = -np.inf, -np.inf
        choices = np.stack([at, previous, np.where(skip, before, -np.inf)])
        origin[step] = choices.argmax(axis=0)
        at = choices.max(axis=0) + logs[step, labels]
    state = len(labels) - 1 if len(labels) == 1 or at[-1] >= at[-2] else len(labels) - 2
    spans = [(len(logs), 0)] * len(reading)
    for step in range(len(logs) - 1, -1, -1):
        if state % 2:
            first, last = spans[state // 2]
            spans[state // 2] = (min(first, step), max(last, step + 1))
        state -= int(origin[step, state])
    return spans
