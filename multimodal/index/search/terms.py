"""Terms: what a text is cut into for keyword search.

Words are runs of letters and digits, compared without case and accents. In scripts written without spaces (Chinese,
Japanese, Thai) each character is a word, and each pair of neighbours is a further term; pairs are also made of Korean,
whose particles are joined to nouns. Identifiers such as `readFile` and `HTTPServer` are words, and so are their parts;
`_` separates words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

# Accents and marks that words are compared without; those of Indic and Thai scripts carry vowels and are kept.
MARKS = r"[\x{0300}-\x{036F}\x{0591}-\x{05C7}\x{064B}-\x{065F}\x{0670}\x{20D0}-\x{20FF}\x{FE00}-\x{FE0F}]"
SHORT_I = "([иИ])\u0306"  # й is a letter of its own, not an accented и
SEPARATOR = r"[^\p{L}\p{N}\p{M}]+"
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Japanese, Chinese
)
HANGUL = "\uac00-\ud7af"
RUNS = re.compile(f"[{UNSPACED}]+|[{HANGUL}]+|[^{UNSPACED}{HANGUL}]+")
IS_UNSPACED, IS_HANGUL = re.compile(f"[{UNSPACED}]"), re.compile(f"[{HANGUL}]")
PARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # between the parts of an identifier
MIN_PART_CHARS = 2


class Terms(NamedTuple):
    """The terms of one token. words: as they stand. extra: parts of an identifier, pairs of characters."""

    words: list[str]
    extra: list[str]


def tokenize(texts: Sequence[str]) -> Any:
    """An Arrow list array with the tokens of each text, which `terms_of` converts to terms; some may be empty."""
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pc.utf8_normalize(pa.array(texts, pa.large_string()), "NFKD")
    plain = pc.replace_substring_regex(plain, SHORT_I, "й")
    plain = pc.utf8_normalize(pc.replace_substring_regex(plain, MARKS, ""), "NFC")
    plain = pc.utf8_trim(pc.replace_substring_regex(plain, SEPARATOR, " "), " ")
    return pc.split_pattern(plain, " ")


def tokens_in(text: str) -> list[str]:
    """The tokens of one text, in order."""
    return [token for token in tokenize([text])[0].as_py() if token]


def words_in(text: str) -> list[str]:
    """The words of one text, in order."""
    return [word for token in tokens_in(text) for word in terms_of(token).words]


def terms_of(token: str) -> Terms:
    """The terms of a token."""
    if token.isascii():
        return Terms([token.lower()], identifier_parts(token))
    words: list[str] = []
    extra: list[str] = []
    for run in RUNS.findall(token):
        if IS_UNSPACED.match(run):
            words += run
            extra += character_pairs(run)
        else:
            words.append(run.lower())
            extra += character_pairs(run) if IS_HANGUL.match(run) else identifier_parts(run)
    return Terms(words, extra)


def query_terms_of(token: str) -> list[str]:
    """The terms by which a token is searched: pairs of characters instead of single ones where there are any."""
    terms: list[str] = []
    for run in RUNS.findall(token):
        if IS_UNSPACED.match(run) or IS_HANGUL.match(run):
            terms += character_pairs(run) or [run]
        else:
            terms += [run.lower(), *identifier_parts(run)]
    return terms


def identifier_parts(word: str) -> list[str]:
    """The parts of an identifier in lower case: readFile -> read, file; none of another word."""
    if word.islower() or word[1:].islower() or word.isdecimal():
        return []
    parts = PARTS.split(word)
    return [part.lower() for part in parts if len(part) >= MIN_PART_CHARS] if len(parts) > 1 else []


def character_pairs(run: str) -> list[str]:
    """Neighbouring characters of a run, joined; none of a single character."""
    return [run[at : at + 2] for at in range(len(run) - 1)]
