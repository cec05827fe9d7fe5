"""Languages of an index: which they are, and which words share a stem.

The language of a text is that of its metadata (`language: "de"`), or else that whose function words it contains. Stems
are Snowball's. The detector `lingua` was evaluated and rejected: it takes ten seconds to load, and the rows that a
keyword search finds should not depend on an optional package.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multimodal.index.search.stop_words import STOP_WORDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_LANGUAGE = "english"
METADATA_KEYS = ("language", "lang")
# ISO 639-1 -> Snowball's name; languages that inflect at the end of a word, as `InvertedIndex.same_stem` assumes
CODES = {
    "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "hu": "hungarian", "it": "italian",
    "lt": "lithuanian", "nl": "dutch", "no": "norwegian", "nb": "norwegian", "nn": "norwegian", "pl": "polish",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sv": "swedish", "tr": "turkish",
}  # fmt: skip
MIN_FUNCTION_WORDS = 2  # different ones in a text, from which its language is known
MIN_SHARE = 0.05  # of the texts of known language, from which a language counts as one of the index


def language_of(metadata: Mapping[str, object]) -> str | None:
    """The language that metadata state, as Snowball calls it; None if they do not, or it has no stems."""
    for key in METADATA_KEYS:
        value = metadata.get(key)
        if isinstance(value, str):
            name = value.strip().lower()
            name = CODES.get(name.replace("_", "-").partition("-")[0], name)
            if name in CODES.values():
                return name
    return None


def main_languages(counts: Mapping[str, int]) -> tuple[str, ...]:
    """The languages of an index, the most frequent first; English if none is known."""
    total = sum(counts.values())
    names = sorted(
        (name for name in counts if counts[name] >= MIN_SHARE * total), key=lambda name: -counts[name]
    )
    return tuple(names) or (DEFAULT_LANGUAGE,)


def query_language(words: Sequence[str], languages: Sequence[str]) -> str:
    """The language of a query among those of an index: that of most of its function words, or else the first."""
    return max(languages, key=lambda name: sum(word in STOP_WORDS.get(name, ()) for word in words))


def count_languages(
    owners: NDArray[np.intp],
    words: Sequence[str],
    word_of: NDArray[np.intp],
    known: Sequence[str | None],
) -> Counter[str]:
    """How many texts are in each language; those whose language is unknown are not counted.

    Args:
        owners: (t,) the text of each occurrence of a word.
        words: The vocabulary.
        word_of: (t,) the word of each occurrence.
        known: The language of each text, None where the metadata do not state it.
    """
    import numpy as np

    names, sets = list(STOP_WORDS), list(STOP_WORDS.values())
    votes = np.zeros((len(names), len(known)))
    n_words = max(1, len(words))
    distinct = np.unique(owners * n_words + word_of)
    for row, function_words in zip(votes, sets, strict=True):
        is_function_word = np.fromiter((word in function_words for word in words), bool, len(words))
        row += np.bincount(distinct[is_function_word[distinct % n_words]] // n_words, minlength=len(known))
    best, most = votes.argmax(axis=0).tolist(), votes.max(axis=0).tolist()
    languages: list[str | None] = [
        names[index] if count >= MIN_FUNCTION_WORDS else None for index, count in zip(best, most, strict=True)
    ]
    for position, language in enumerate(known):
        languages[position] = language or languages[position]
    return Counter(filter(None, languages))


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str, language: str) -> str:
    """The stem of a word in lower case and without accents; the word itself if it has digits."""
    if not word.isalpha():
        return word
    stemmer = _stemmer(language)
    return word if stemmer is None else str(stemmer.stemWord(word))


@functools.cache
def _stemmer(language: str) -> Any:
    """A stemmer, or None if the installed version of Snowball lacks the language."""
    import snowballstemmer

    return snowballstemmer.stemmer(language) if language in snowballstemmer.algorithms() else None
