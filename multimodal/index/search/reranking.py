"""Reranking: the first hits of a search, ordered by a model that reads the query and each text together."""

from __future__ import annotations

from dataclasses import replace

from multimodal.core.backends.reranker import Reranker, load_reranker
from multimodal.core.errors import InvalidInput
from multimodal.index.results import Hit, Hits

DEPTH = 50  # hits that are reranked, at least twice the number requested


def resolve(rerank: object) -> Reranker:
    """The reranker that an option names. Raises as `load_reranker`."""
    if isinstance(rerank, Reranker):
        return rerank
    if not isinstance(rerank, str):
        raise InvalidInput(f"rerank must be an address such as 'st/./folder', got {type(rerank).__name__}")
    return load_reranker(rerank)


def rerank(hits: Hits, query: str, reranker: Reranker, offset: int, k: int) -> Hits:
    """The requested page of the hits that have words, by the reranker's score, which becomes `fused_score`."""
    worded = [(hit, words) for hit in hits if (words := words_of(hit))]
    scores = reranker.score(query, [words for _, words in worded])
    scored = [replace(hit, fused_score=score) for (hit, _), score in zip(worded, scores, strict=True)]
    scored.sort(key=lambda hit: (-(hit.fused_score or 0.0), hit.id))
    return Hits(scored[offset : offset + k], hits.method, hits.note)


def words_of(hit: Hit) -> str:
    """The text of a hit, or the strings in its metadata, such as a caption."""
    strings = [value for value in hit.metadata.values() if isinstance(value, str)]
    return hit.text if hit.text is not None else "\n".join(strings)
