"""The guard of the system prompt: finds it in what a model writes, so that it is not shown."""

from __future__ import annotations

import re

RUN = 12  # consecutive words of the system prompt that an answer does not contain by chance
WORD = re.compile(r"\w+")


class Guard:
    """Compares an answer with the system prompt while it grows.

    Args:
        system: The system prompt.
        tag: The random name of the fences, which no honest answer contains.
    """

    def __init__(self, system: str, tag: str) -> None:
        words = [word.lower() for word in WORD.findall(system)]
        self._runs = {tuple(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}
        self._tag = tag

    def leaks(self, text: str) -> bool:
        """Whether the text contains RUN consecutive words of the system prompt, or the name of the fences."""
        if self._tag in text:
            return True
        words = [word.lower() for word in WORD.findall(text)]
        return any(tuple(words[start : start + RUN]) in self._runs for start in range(len(words) - RUN + 1))
