"""Extractive answers: the chunk that answers a question, and the sentences of it to quote. Nothing is written.

Pure functions over texts, without an index and without a model. The chunk is chosen first: among sentences alone, one
that repeats the question often outranks the one beside it that answers. Then two sentences are chosen that together
contain most words of the question and what it asks for (answer_types.py). Whether they answer it is estimated by
answerability.py.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from multimodal.index.search import languages
from multimodal.index.search.stop_words import STOP_WORDS
from multimodal.index.search.terms import IS_UNSPACED, terms_of, tokenize, words_in
from multimodal.pipelines.answering.evidence.answer_types import answer_type, has_answer_type
from multimodal.pipelines.answering.evidence.irregular import BASE_FORMS
from multimodal.pipelines.answering.evidence.unspaced import content_terms

NEAREST_BONUS = 0.3  # of the nearest chunk in the space beside the coverage, divided by the rank for others
TYPE_BONUS = 0.3  # for sentences that contain what the question asks for, such as a number
# For each unit of affinity (semantics.py) above the least: only spaces that understand other words reach it
AFFINITY_BONUS, MIN_AFFINITY = 0.1, 4.0
ADJACENT_BONUS = 0.05  # for two sentences that follow each other
SINGLE_WEIGHT = 0.2  # of the better of two sentences by itself
MAX_SENTENCES = 2
MAX_COMPARED = 40  # sentences of which pairs are compared; of more, those with most words of the question
CODE_LINES = 12  # quoted of a function

FILLERS = frozenset(["one", "get", "got", "let", "please", "tell", "say", "said", "says", "s", "t"])
UNKNOWN = ""  # the key of the weight of unknown terms
_ABBREVIATIONS = (
    "mr mrs ms dr prof st no nos vs e.g i.e etc fig p pp vol jr sr approx dept inc ltd co a.m p.m"
)
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
BOUNDARY = re.compile(
    r"""(?P<end>[.!?…]+["'”’)\]]*)(?=\s+["'“‘(\[]*[\w#*-])|(?P<wide>[。！？]+[」』”）]*)|(?P<break>\n\s*\n|\n(?=\s*(?:[-*•#]|\d+[.)])\s))"""
)
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class RankedChunk:
    """A chunk and how well it fits a question.

    Attributes:
        position: Of the chunk in the given order.
        score: By which chunks are ordered.
        coverage: The share of the question's words in the chunk, weighted by their rarity; 0 to 1.
        words: The share of the question's words in the chunk, unweighted.
        coverage_margin: How much the coverage exceeds that of any other chunk; negative if another covers more.
        affinity: Of question and chunk in the space, see `Semantics.affinity`.
        affinity_margin: How much the affinity exceeds that of any other chunk.
    """

    position: int
    score: float
    coverage: float
    words: float = 0.0
    coverage_margin: float = 0.0
    affinity: float = 0.0
    affinity_margin: float = 0.0


class Ranking(NamedTuple):
    """Chunks, best first, and the weights of the terms."""

    chunks: list[RankedChunk]
    idf: Mapping[str, float]


def language_of(question: str) -> str:
    """The language whose function words a question holds, or else English."""
    return languages.query_language(words_in(question), [languages.DEFAULT_LANGUAGE, *STOP_WORDS])


def tokenise(text: str, language: str = languages.DEFAULT_LANGUAGE) -> list[str]:
    """The terms of a text: stems without case and accents, without function words; identifiers and their parts.

    >>> tokenise("How many apples did parseHeader count?")
    ['appl', 'parsehead', 'pars', 'header', 'count']
    """
    return tokenise_all([text], language)[0]


def tokenise_all(texts: Sequence[str], language: str) -> list[list[str]]:
    """The terms of each text; see `tokenise`."""
    ignored = STOP_WORDS.get(language, frozenset()) | FILLERS
    base_forms = BASE_FORMS if language == languages.DEFAULT_LANGUAGE else {}

    def terms(token: str) -> list[str]:
        if not token.isascii() and IS_UNSPACED.search(token):
            return content_terms(token)
        words, extra = terms_of(token)
        return [
            languages.stem(base_forms.get(term, term), language)
            for term in (*words, *extra)
            if term not in ignored
        ]

    return [
        [term for token in tokens if token for term in terms(token)] for tokens in tokenize(texts).to_pylist()
    ]


def inverse_frequencies(chunks: Sequence[Iterable[str]]) -> dict[str, float]:
    """The inverse document frequency of each term, as of BM25.

    Args:
        chunks: The terms of each chunk. Terms of none of them have the weight under `UNKNOWN`.
    """
    counts: dict[str, int] = {}
    for chunk in chunks:
        for term in set(chunk):
            counts[term] = counts.get(term, 0) + 1
    n = len(chunks)
    weights = {term: math.log(1 + (n - count + 0.5) / (count + 0.5)) for term, count in counts.items()}
    return weights | {UNKNOWN: math.log(1 + (n + 0.5) / 0.5)}


def coverage(question: Iterable[str], chunk: Iterable[str], idf: Mapping[str, float]) -> float:
    """The share of a question's terms that a chunk contains, weighted by their rarity.

    Args:
        question: The terms of the question.
        chunk: The terms of the chunk.
        idf: From `inverse_frequencies`.

    Returns:
        0 to 1; 0 for a question without terms.
    """
    wanted, present = set(question), set(chunk)
    unknown = idf.get(UNKNOWN, 1.0)
    total = sum(idf.get(term, unknown) for term in wanted)
    return sum(idf.get(term, unknown) for term in wanted & present) / total if total else 0.0


def rank_chunks(
    question: str, chunks: Sequence[str], cosines: Sequence[float], affinities: Sequence[float] | None = None
) -> Ranking:
    """Orders chunks by how well they fit a question.

    Args:
        question: The question.
        chunks: The texts of the candidates.
        cosines: Of the question and each candidate in the space; equal numbers where there are none.
        affinities: Of each candidate, see `Semantics.affinity`; None for none.
    """
    language = language_of(question)
    terms = tokenise_all(chunks, language)
    idf = inverse_frequencies(terms)
    wanted = set(tokenise(question, language))
    shares = [coverage(wanted, chunk, idf) for chunk in terms]
    words = [len(wanted.intersection(chunk)) / max(1, len(wanted)) for chunk in terms]
    near = [0.0] * len(chunks) if affinities is None else affinities
    scores = [
        share + bonus + AFFINITY_BONUS * max(0.0, affinity - MIN_AFFINITY)
        for share, bonus, affinity in zip(shares, _nearest_bonuses(cosines), near, strict=True)
    ]
    order = sorted(range(len(chunks)), key=lambda position: -scores[position])
    share_margins, affinity_margins = _margins(shares), _margins(near)
    ranked = [
        RankedChunk(at, scores[at], shares[at], words[at], share_margins[at], near[at], affinity_margins[at])
        for at in order
    ]
    return Ranking(ranked, idf)


def split_sentences(text: str) -> list[tuple[int, int]]:
    """The (start, end) of each sentence in a text, without surrounding white space."""
    spans, start = [], 0
    for match in BOUNDARY.finditer(text):
        if match["end"] is not None and _is_abbreviation(text[start : match.start()], match["end"]):
            continue
        spans.append((start, match.start() if match["break"] is not None else match.end()))
        start = match.end()
    spans.append((start, len(text)))
    return [trimmed for span in spans if (trimmed := _trim(text, *span)) is not None]


def choose_sentences(question: str, chunk: str, idf: Mapping[str, float]) -> list[tuple[int, int]]:
    """The spans of at most two sentences of a chunk to quote, in their order in the text.

    Args:
        question: The question.
        chunk: The text of the chunk.
        idf: Weights of the terms, from the ranking of the chunks.
    """
    spans = split_sentences(chunk)
    if len(spans) <= MAX_SENTENCES:
        return spans
    language, kind = language_of(question), answer_type(question)
    wanted = set(tokenise(question, language))
    terms = [set(words) for words in tokenise_all([chunk[start:end] for start, end in spans], language)]
    weights = _weights_within(terms, idf)
    alone = [coverage(wanted, words, weights) for words in terms]
    typed = [has_answer_type(chunk[start:end], kind, question) for start, end in spans]

    def score(pair: tuple[int, int]) -> float:
        first, second = pair
        together = coverage(wanted, terms[first] | terms[second], weights)
        bonus = TYPE_BONUS * (typed[first] or typed[second]) + ADJACENT_BONUS * (second == first + 1)
        return together + bonus + SINGLE_WEIGHT * max(alone[first], alone[second])

    by_words = sorted(range(len(spans)), key=lambda at: (-alone[at] - TYPE_BONUS * typed[at], at))
    compared = sorted(by_words[:MAX_COMPARED])
    best = max(itertools.combinations(compared, 2), key=lambda pair: round(score(pair), 9))
    return [spans[at] for at in best]


def code_lines(code: str) -> tuple[int, int]:
    """The span of the first lines of a function, which are quoted instead of sentences."""
    lines = code.splitlines(keepends=True)
    shown = "".join(lines[:CODE_LINES]).rstrip()
    start = len(shown) - len(shown.lstrip("\n"))
    return start, len(shown)


def _is_abbreviation(before: str, end: str) -> bool:
    if end != ".":
        return False
    word = before.rpartition(" ")[2].lstrip("(\"'“").lower()
    return word in ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i")


def _trim(text: str, start: int, end: int) -> tuple[int, int] | None:
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    end -= len(part) - len(part.rstrip())
    return (start, end) if start < end else None


def _nearest_bonuses(cosines: Sequence[float]) -> list[float]:
    """NEAREST_BONUS / rank of each; zeros if all are equal."""
    if len(set(cosines)) <= 1:
        return [0.0] * len(cosines)
    order = sorted(range(len(cosines)), key=lambda position: -cosines[position])
    bonuses = [0.0] * len(cosines)
    for rank, position in enumerate(order, 1):
        bonuses[position] = NEAREST_BONUS / rank
    return bonuses


def _weights_within(sentences: Sequence[Iterable[str]], idf: Mapping[str, float]) -> dict[str, float]:
    """Weights of the terms of a chunk: those of few of its sentences count more. Other terms do not count."""
    counts: dict[str, int] = {}
    for sentence in sentences:
        for term in set(sentence):
            counts[term] = counts.get(term, 0) + 1
    weights = {
        term: math.log(1 + len(sentences) / count) * idf.get(term, idf.get(UNKNOWN, 1.0))
        for term, count in counts.items()
    }
    return weights | {UNKNOWN: 0.0}


def _margins(values: Sequence[float]) -> list[float]:
    """How much each value exceeds the greatest of the others; the value itself if there are none."""
    first, second = ([*sorted(values, reverse=True)[:2], 0.0, 0.0])[:2]
    return [value - (second if value == first else first) for value in values]
