"""What the starter's tokenizer makes of each character, as a table for the page.

The tokenizer lower-cases, removes accents and control characters, and splits words, by the Unicode tables of its
library, which are not those of a browser. So it is asked what becomes of every code point. None of this depends on the
characters beside it: marks, the only ones that could change places, are removed or unknown to the vocabulary.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

from multimodal.encoders.starter.tokenizer import Tokenizer

UNKNOWN = "\ufffd"  # a character of no token; the tokenizer removes the real one
SEPARATOR = "ψ"  # in no token; it and its capital are letters, so they need no entry
LEFT_OUT = {ord(SEPARATOR), ord(SEPARATOR.upper())}
SURROGATES = range(0xD800, 0xE000)
CHUNK = 1 << 16


@functools.lru_cache(maxsize=1)
def character_table(vocabulary: tuple[str, ...]) -> dict[str, Any]:
    """The characters that do not stand for themselves.

    Args:
        vocabulary: Of the model.

    Returns:
        removed, spaces and apart: code points as [first, last, first, last, …]. Those apart are unknown words by
        themselves. folded: letters, with spaces around those that are words by themselves -> the characters that
        become them; U+FFFD stands for a letter that no token has. All others are letters, unknown unless a token
        has them.
    """
    tokenizer, letters = Tokenizer(vocabulary), frozenset("".join(vocabulary))
    removed, spaces, apart = list[int](), list[int](), list[int]()
    folded: dict[str, str] = {}  # by effect
    for start in range(0, sys.maxunicode + 1, CHUNK):
        codes = [code for code in range(start, start + CHUNK) if code not in SURROGATES]
        characters = [chr(code) for code in codes if code not in LEFT_OUT]
        parts = _split(tokenizer, characters)
        if not any(parts):  # most of Unicode is not assigned
            removed += map(ord, characters)
            continue
        for character, part in zip(characters, parts, strict=True):
            if part == "":
                removed.append(ord(character))
            elif part == " ":
                spaces.append(ord(character))
            elif len(part) == 1 and part not in letters:
                continue
            elif len(part) == 3 and part[0] == part[2] == " " and part[1] not in letters:
                apart.append(ord(character))
            elif (effect := _effect(part, letters)) != (character if character in letters else UNKNOWN):
                folded[effect] = folded.get(effect, "") + character
    return {
        "removed": _ranges(removed), "spaces": _ranges(spaces), "apart": _ranges(apart), "folded": folded,
    }  # fmt: skip


def _split(tokenizer: Tokenizer, characters: Sequence[str]) -> list[str]:
    """What the tokenizer makes of each character, with spaces between words."""
    normalized = tokenizer.backend.normalizer.normalize_str(SEPARATOR.join(["", *characters, ""]))
    words = [word for word, _ in tokenizer.backend.pre_tokenizer.pre_tokenize_str(normalized)]
    return " ".join(words).split(SEPARATOR)[1:-1]


def _effect(part: str, letters: frozenset[str]) -> str:
    """The part with UNKNOWN for letters of no token; one makes its word unknown as several do."""
    effect = "".join(letter if letter in letters or letter == " " else UNKNOWN for letter in part)
    while UNKNOWN * 2 in effect:
        effect = effect.replace(UNKNOWN * 2, UNKNOWN)
    return effect


def _ranges(codes: Sequence[int]) -> list[int]:
    """Ascending numbers as [first, last, first, last, …]."""
    ranges: list[int] = []
    for code in codes:
        if ranges and ranges[-1] == code - 1:
            ranges[-1] = code
        else:
            ranges += [code, code]
    return ranges
