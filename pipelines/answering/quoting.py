"""The extractive answer: at most two sentences of the best source, quoted. It needs neither a model nor a network."""

from __future__ import annotations

from collections.abc import Mapping

from multimodal.index import Hit
from multimodal.pipelines.answering import extractive
from multimodal.pipelines.answering.evidence import answerability
from multimodal.pipelines.answering.options import Question
from multimodal.pipelines.answering.result import Answer, Citation, Sent
from multimodal.pipelines.answering.retrieval import Retrieved, as_hits, hit_text
from multimodal.pipelines.answering.safety import Moderate

NAME = "extractive"
FILTERED = "The answer was withheld by a filter."
QUESTION_FILTERED = "The question was withheld by a filter."
NOT_FOUND = "The sources do not answer the question."


def quote(
    question: Question, retrieved: Retrieved, min_relevance: float, moderate: Moderate | None = None
) -> Answer:
    """The answer from the best source with words, or a refusal.

    Args:
        question: The question.
        retrieved: Its sources.
        min_relevance: The relevance below which the best source is taken not to answer.
        moderate: The moderation of questions and answers; None for none.
    """
    hits = as_hits(retrieved)
    if moderate is not None and moderate(question.text):
        return Answer(question.text, QUESTION_FILTERED, refused=True, reason="filter", hits=hits)
    if not retrieved.ranks or not answerability.is_question(question.text):
        return Answer(question.text, NOT_FOUND, refused=True, reason="not found", hits=hits)
    hit, spans, evidence = choose(question.text, retrieved)
    if answerability.relevance(evidence) < min_relevance:
        return Answer(question.text, NOT_FOUND, refused=True, reason="not found", hits=hits)
    words = hit_text(hit)
    text, citations = "", []
    for start, end in spans:
        text += " " if text else ""
        part = words[start:end]
        citations.append(Citation(hit, part, len(text), len(text) + len(part), True, 1))
        text += part
    if moderate is not None and moderate(text):
        return Answer(question.text, FILTERED, refused=True, reason="filter", hits=hits)
    sent = (Sent(1, hit, "text", words),)
    return Answer(question.text, text, tuple(citations), sent=sent, hits=hits)


def choose(question: str, retrieved: Retrieved) -> tuple[Hit, list[tuple[int, int]], answerability.Evidence]:
    """The best source with words, the spans of it to quote, and what speaks for them."""
    hit = retrieved.texts[0]
    words = hit_text(hit)
    spans = _spans(question, hit, words, retrieved.idf)
    quotes = [words[start:end] for start, end in spans]
    evidence = answerability.gather_evidence(
        question, quotes, retrieved.ranks[0], retrieved.idf, words, retrieved.space
    )
    if hit.text is None:  # a caption has no affinity: its cosine is that of an image
        evidence = evidence._replace(is_semantic=False)
    return hit, spans, evidence


def _spans(question: str, hit: Hit, words: str, idf: Mapping[str, float]) -> list[tuple[int, int]]:
    if "start_line" in hit.metadata:
        return [extractive.code_lines(words)]
    return extractive.choose_sentences(question, words, idf)
