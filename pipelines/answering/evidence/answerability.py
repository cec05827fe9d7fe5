"""Whether quoted sentences answer a question: a logistic regression over seven features.

Words alone do not tell: a note about a boiler that lacks its price shares most words with a question about the price.
So the sentences must also contain what is asked for, an amount of money (answer_types.py), and the chunk must cover the
question better than all others. The coefficients were fitted to the questions for tuning of benchmarks/answers.py, with
the starter and all-MiniLM-L6-v2 together: `python -m benchmarks.answers --fit`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from multimodal.index.search.terms import words_in
from multimodal.pipelines.answering.evidence.answer_types import answer_type, has_answer_type
from multimodal.pipelines.answering.extractive import (
    RankedChunk,
    coverage,
    language_of,
    tokenise,
    tokenise_all,
)

MIN_WORDS = 2  # of a question, function words included: a single word asks nothing
MIN_RELEVANCE = 0.5  # below which a chunk is taken not to answer
INTERCEPT = -1.484
COEFFICIENTS = {
    "words": -0.1, "typed_coverage": 3.368, "lacks_type": -2.052, "coverage_margin": 3.611, "affinity": -0.056,
    "affinity_margin": 0.384, "uncovered": -4.0,
}  # fmt: skip
# A chunk below both is uncovered; its coefficient is set by hand, since the questions for tuning are near misses
MIN_COVERAGE, ENOUGH_AFFINITY = 0.35, 6.0
UNTYPED_COVERAGE = 0.4  # the typed coverage of a question without an answer type
MAX_AFFINITY_MARGIN = 3.0


class Evidence(NamedTuple):
    """Features of a chosen chunk and its quoted sentences, from which the relevance is computed.

    Attributes:
        words: As of `RankedChunk`, as are affinity and the margins.
        typed_coverage: The coverage of the best quoted sentence that has what the question asks for; 0 if none has.
        lacks_type: 1 if none has, 0 otherwise and for questions that do not say what they ask for.
        coverage_margin: Of the coverage of the chunk.
        affinity: Of question and chunk.
        affinity_margin: Of the affinity, at most MAX_AFFINITY_MARGIN in either direction.
        uncovered: 1 if the chunk has few of the question's words and the space does not see other words for them.
    """

    words: float
    typed_coverage: float
    lacks_type: float
    coverage_margin: float
    affinity: float
    affinity_margin: float
    uncovered: float


def is_question(text: str) -> bool:
    """Whether a text has enough words to ask something."""
    return len(words_in(text)) >= MIN_WORDS


def gather_evidence(
    question: str, quotes: Sequence[str], chunk: RankedChunk, idf: Mapping[str, float]
) -> Evidence:
    """What speaks for the quoted sentences of a chunk as the answer to a question."""
    language, kind = language_of(question), answer_type(question)
    wanted = set(tokenise(question, language))
    typed = [has_answer_type(quote, kind, question) for quote in quotes]
    matching = (
        coverage(wanted, words, idf)
        for words, is_typed in zip(tokenise_all(quotes, language), typed, strict=True)
        if is_typed
    )
    return Evidence(
        chunk.words,
        UNTYPED_COVERAGE if kind is None else max(matching, default=0.0),
        float(kind is not None and not any(typed)),
        chunk.coverage_margin,
        chunk.affinity,
        max(-MAX_AFFINITY_MARGIN, min(MAX_AFFINITY_MARGIN, chunk.affinity_margin)),
        float(chunk.coverage < MIN_COVERAGE and chunk.affinity < ENOUGH_AFFINITY),
    )


def relevance(evidence: Evidence) -> float:
    """The estimated probability that the quoted sentences answer the question, 0 to 1."""
    logit = INTERCEPT + sum(COEFFICIENTS[name] * value for name, value in evidence._asdict().items())
    return 1 / (1 + math.exp(-logit))
