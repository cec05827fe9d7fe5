"""Whether quoted sentences answer a question: a logistic regression over a few features.

Words alone do not tell: a note about a boiler that lacks its price shares most words with a question about the price.
So the sentences must also contain what is asked for, an amount of money (answer_types.py), count the noun that is to be
counted, and hold the numbers of the question; and the chunk must cover the question better than all others. Words that
the chunk lacks count less if the question is hardly more similar to it with them (semantics.py). The coefficients are
those of coefficients.py, which differ between spaces that understand other words and all others.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from multimodal.core.space import Space
from multimodal.index.search.terms import words_in
from multimodal.pipelines.answering.evidence.answer_types import (
    answer_type,
    counts_the_noun,
    has_answer_type,
)
from multimodal.pipelines.answering.evidence.coefficients import LEXICAL, SEMANTIC
from multimodal.pipelines.answering.evidence.semantics import semantics_of, similarity_lost
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
UNCOVERED = -4.0  # the coefficient of `Evidence.uncovered`
# A chunk below both is uncovered; the coefficient is set by hand, since the questions for tuning are near misses
MIN_COVERAGE, ENOUGH_AFFINITY = 0.35, 6.0
UNTYPED_COVERAGE = 0.4  # the typed coverage of a question without an answer type
MAX_AFFINITY_MARGIN = 3.0
MAX_MATCHED = 6
MAX_LOSS = 5.0
MONEY = re.compile(
    r"[€$£円元]|\b(?:cost\w*|price|pays?|paid|rent\w*|fee|fines?|charges?|euros?|dollars?|pounds?|yen|francs?|cents?|"
    r"free|salary|earn\w*|fare|sold|bought)\b",
    re.IGNORECASE,
)


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
        lacks_first: 1 if a name is asked for and the chunk lacks the first content word, as in "who repaired".
        lacks_two: 1 if the chunk lacks at least two words of the question.
        states_money: 1 if money is asked for, and a quote says that a number is money.
        loss: How much less similar to the quotes the question is without the words that the chunk lacks, see
            `similarity_lost`; at most MAX_LOSS in either direction.
        is_semantic: Whether the space of the hits understands other words, and the affinity is measured.
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
    lacks_first: float
    lacks_two: float
    states_money: float
    loss: float
    is_semantic: bool


def is_question(text: str) -> bool:
    """Whether a text has enough words to ask something."""
    return len(words_in(text)) >= MIN_WORDS


def gather_evidence(
    question: str,
    quotes: Sequence[str],
    chunk: RankedChunk,
    idf: Mapping[str, float],
    text: str | None = None,
    space: Space | None = None,
) -> Evidence:
    """What speaks for the quoted sentences of a chunk as the answer to a question.

    Args:
        question: The question.
        quotes: The quoted sentences.
        chunk: The rank of the chunk.
        idf: Weights of the terms, from the ranking of the chunks.
        text: The text of the chunk; None for the quotes alone.
        space: The space of the chunk's affinity; None for none.
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
    loss, understands = 0.0, False
    if is_unspaced(question):
        is_uncovered |= lacks_content(question, passage)
    else:
        kept = _without(question, missing, language)
        loss = similarity_lost(space, question, kept, " ".join(quotes))
        understands = semantics_of(space).is_semantic
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
        lacks_first=float(kind == "name" and bool(asked) and asked[0] in missing),
        lacks_two=float(len(missing) >= 2),
        states_money=float(kind == "money" and any(MONEY.search(quote) for quote in quotes)),
        loss=max(-MAX_LOSS, min(MAX_LOSS, loss)),
        is_semantic=understands,
    )


def _without(question: str, missing: Collection[str], language: str) -> str:
    """A question without the words that begin with a missing term."""
    words = question.split()
    terms = tokenise_all(words, language)
    return " ".join(word for word, own in zip(words, terms, strict=True) if not own or own[0] not in missing)


def _counts_noun(question: str, quotes: Sequence[str]) -> float:
    counts = [counts_the_noun(quote, question) for quote in quotes]
    if True in counts:
        return 1.0
    return -1.0 if False in counts else 0.0


def relevance(evidence: Evidence) -> float:
    """How likely the quoted sentences answer the question, 0 to 1: from 0.5 on they are taken to.

    0.5 stands for the threshold of coefficients.py, so that it means the same in spaces of both kinds.
    """
    fit = SEMANTIC if evidence.is_semantic else LEXICAL
    values = evidence._asdict()
    logit = fit.intercept + sum(weight * values[name] for name, weight in fit.coefficients.items())
    return 1 / (1 + math.exp(-(logit + UNCOVERED * evidence.uncovered - fit.threshold)))
