"""Whether quoted sentences answer a question: a logistic regression over a few features.

Words alone do not tell: a note about a boiler that lacks its price shares most words with a question about the price.
So the sentences must also contain what is asked for, an amount of money (answer_types.py), count the noun that is to be
counted, and hold the numbers of the question; and the chunk must cover the question better than all others. The
coefficients were fitted to the questions for tuning of benchmarks/answers.py, with the starter and all-MiniLM-L6-v2
together; `python -m benchmarks.answers --fit` repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from multimodal.index.search.terms import words_in
from multimodal.pipelines.answering.evidence.answer_types import (
    answer_type,
    counts_the_noun,
    has_answer_type,
)
from multimodal.pipelines.answering.evidence.unspaced import is_unspaced, lacks_content
from multimodal.pipelines.answering.extractive import (
    RankedChunk,
    coverage,
    language_of,
    tokenise,
    tokenise_all,
)

MIN_WORDS = 2  # of a question, function words included: a single word asks nothing
MIN_RELEVANCE = 0.5  # below which a chunk is taken not to answer
INTERCEPT = -2.3
COEFFICIENTS = {
    "words": 1.246, "typed_coverage": 1.887, "lacks_type": -1.639, "coverage_margin": 1.229, "affinity": 0.022,
    "affinity_margin": 0.178, "uncovered": -4.0, "counts_noun": 1.623, "asks_number": -1.262, "asks_name": -1.045,
    "asks_money": -1.224, "matched": 0.531, "lacks_number": -5.614, "lacks_last": -0.461,
}  # fmt: skip
# A chunk below both is uncovered; its coefficient is set by hand, since the questions for tuning are near misses
MIN_COVERAGE, ENOUGH_AFFINITY = 0.35, 6.0
UNTYPED_COVERAGE = 0.4  # the typed coverage of a question without an answer type
MAX_AFFINITY_MARGIN = 3.0
MAX_MATCHED = 6


class Evidence(NamedTuple):
    """Features of a chosen chunk and its quoted sentences, from which the relevance is computed.

    Attributes:
        words: As of `RankedChunk`, as are affinity and the margins.
        typed_coverage: The coverage of the best quoted sentence that has what the question asks for; 0 if none has.
        lacks_type: 1 if none has, 0 otherwise and for questions that do not say what they ask for.
        coverage_margin: Of the coverage of the chunk.
        affinity: Of question and chunk.
        affinity_margin: Of the affinity, at most MAX_AFFINITY_MARGIN in either direction.
        uncovered: 1 if the chunk has few of the question's words and the space does not see other words for them, or
            in a script without spaces lacks a content word altogether.
        counts_noun: 1 if a quote counts the noun of "how many", -1 if none does, 0 for other questions.
        asks_number: 1 if a number is asked for, as are asks_name and asks_money: most texts hold some of them.
        matched: The number of the question's words in the chunk, at most MAX_MATCHED.
        lacks_number: 1 if the question has digits that the chunk lacks, as in "error 05".
        lacks_last: 1 if the chunk lacks the last content word of the question, often its verb.
    """

    words: float
    typed_coverage: float
    lacks_type: float
    coverage_margin: float
    affinity: float
    affinity_margin: float
    uncovered: float
    counts_noun: float
    asks_number: float
    asks_name: float
    asks_money: float
    matched: float
    lacks_number: float
    lacks_last: float


def is_question(text: str) -> bool:
    """Whether a text has enough words to ask something."""
    return len(words_in(text)) >= MIN_WORDS


def gather_evidence(
    question: str,
    quotes: Sequence[str],
    chunk: RankedChunk,
    idf: Mapping[str, float],
    text: str | None = None,
) -> Evidence:
    """What speaks for the quoted sentences of a chunk as the answer to a question.

    Args:
        question: The question.
        quotes: The quoted sentences.
        chunk: The rank of the chunk.
        idf: Weights of the terms, from the ranking of the chunks.
        text: The text of the chunk; None for the quotes alone.
    """
    language, kind = language_of(question), answer_type(question)
    asked = tokenise(question, language)
    wanted = set(asked)
    passage = " ".join(quotes) if text is None else text
    missing = wanted.difference(tokenise(passage, language))
    typed = [has_answer_type(quote, kind, question) for quote in quotes]
    matching = (
        coverage(wanted, words, idf)
        for words, is_typed in zip(tokenise_all(quotes, language), typed, strict=True)
        if is_typed
    )
    is_uncovered = chunk.coverage < MIN_COVERAGE and chunk.affinity < ENOUGH_AFFINITY
    if is_unspaced(question):
        is_uncovered |= lacks_content(question, passage)
    return Evidence(
        words=chunk.words,
        typed_coverage=UNTYPED_COVERAGE if kind is None else max(matching, default=0.0),
        lacks_type=float(kind is not None and not any(typed)),
        coverage_margin=chunk.coverage_margin,
        affinity=chunk.affinity,
        affinity_margin=max(-MAX_AFFINITY_MARGIN, min(MAX_AFFINITY_MARGIN, chunk.affinity_margin)),
        uncovered=float(is_uncovered),
        counts_noun=_counts_noun(question, quotes),
        asks_number=float(kind == "number"),
        asks_name=float(kind == "name"),
        asks_money=float(kind == "money"),
        matched=min(MAX_MATCHED, chunk.words * len(wanted)),
        lacks_number=float(any(character.isdigit() for term in missing for character in term)),
        lacks_last=float(bool(asked) and asked[-1] in missing),
    )


def _counts_noun(question: str, quotes: Sequence[str]) -> float:
    counts = [counts_the_noun(quote, question) for quote in quotes]
    if True in counts:
        return 1.0
    return -1.0 if False in counts else 0.0


def relevance(evidence: Evidence) -> float:
    """The estimated probability that the quoted sentences answer the question, 0 to 1."""
    logit = INTERCEPT + sum(COEFFICIENTS[name] * value for name, value in evidence._asdict().items())
    return 1 / (1 + math.exp(-logit))
