"""Edit distance between transcribed and spoken characters."""

from __future__ import annotations

from torch import Tensor, unique_consecutive

from multimodal.encoders.starter.parameters import ALPHABET


def distance(first: str, second: str) -> int:
    """How many letters to insert, take out or replace (Levenshtein 1966)."""
    row = list(range(len(second) + 1))
    for place, letter in enumerate(first, 1):
        before, row[0] = row[0], place
        for at, other in enumerate(second, 1):
            before, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, before + (letter != other))
    return row[-1]


def spelled(classes: Tensor) -> str:
    """What the CTC classes (t,) of a clip's steps write: no repeats, no blanks."""
    return "".join(ALPHABET[item - 1] for item in unique_consecutive(classes).tolist() if item)


def letters_only(text: str) -> str:
    """A text without what the reader cannot write."""
    return "".join(letter for letter in text if letter in ALPHABET)
