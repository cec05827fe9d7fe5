"""TextQuery: what a keyword query asks for.

    red apple       either word or another form of it, also as a part of an identifier
    "red apple"     both words as they stand, side by side
    app*            every word that begins with "app"

Function words ("the", "how") do not count beside others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from multimodal.core.errors import InvalidInput
from multimodal.index.search import languages
from multimodal.index.search.compounds import compound_parts
from multimodal.index.search.stop_words import STOP_WORDS
from multimodal.index.search.terms import query_terms_of, tokens_in, words_in
from multimodal.index.storage.schema import Row

PHRASE = re.compile(r'"([^"]*)"')
# How often the name of a function counts. Chosen on functions that benchmarks/code_search.py leaves out
SYMBOL_WEIGHT = 5
PREFIX = re.compile(r"(\w{2,})\*(?!\w)")


def searchable_text(row: Row) -> str:
    """All text of a row in which terms are searched; each source on its own line."""
    strings = [value for value in row.metadata.values() if isinstance(value, str)]
    path = PurePath(row.uri or "")
    return "\n".join([row.text or "", path.stem, path.parent.name, *strings])


def indexed_text(row: Row) -> str:
    """The text of a row whose terms are counted: the name of a function, and the words in it, count several times."""
    symbol = row.metadata.get("symbol")
    if not isinstance(symbol, str):
        return searchable_text(row)
    parts = [part for name in tokens_in(symbol) if name.islower() for part in compound_parts(name)]
    within = f"\n{' '.join(parts)}" * SYMBOL_WEIGHT if parts else ""
    return searchable_text(row) + f"\n{symbol}" * (SYMBOL_WEIGHT - 1) + within


@dataclass(frozen=True)
class TextQuery:
    """A keyword query. terms and prefixes: unique, any of them may match. phrases: words that must be adjacent."""

    terms: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...] = ()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: object) -> TextQuery:
        """Raises InvalidInput if the text contains no term."""
        if not isinstance(text, str):
            raise InvalidInput(f"text must be a str, got {type(text).__name__}")
        without_phrases = PHRASE.sub(" ", text)
        starts = (words_in(start) for start in PREFIX.findall(without_phrases))
        prefixes = [words[0] for words in starts if len(words) == 1]
        unprefixed = PREFIX.sub(" ", text) if prefixes else text
        terms = [term for token in tokens_in(unprefixed) for term in query_terms_of(token)]
        if not terms and not prefixes:
            raise InvalidInput(f"text={text!r} contains no search term; give at least one letter or digit")
        phrases = (tuple(words_in(phrase)) for phrase in PHRASE.findall(text))
        return cls(
            tuple(dict.fromkeys(terms)),
            tuple(phrase for phrase in phrases if phrase),
            tuple(dict.fromkeys(prefixes)),
        )

    def significant_terms(self, known_languages: Sequence[str]) -> tuple[str, ...]:
        """The terms without function words of the query's language, except those in phrases; all if none is left."""
        function_words = STOP_WORDS.get(languages.query_language(self.terms, known_languages), frozenset())
        quoted = {word for phrase in self.phrases for word in phrase}
        kept = tuple(term for term in self.terms if term in quoted or term not in function_words)
        return kept if kept or self.prefixes else self.terms

    def phrases_match(self, row: Row) -> bool:
        """Whether each phrase occurs within one source of the row's text."""
        lines = [f" {' '.join(words_in(line))} " for line in searchable_text(row).splitlines()]
        return all(any(f" {' '.join(phrase)} " in line for line in lines) for phrase in self.phrases)
