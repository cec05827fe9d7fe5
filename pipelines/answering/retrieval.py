"""Retrieval for answering: the sources for a question, from an index or from what the caller gives.

Texts are ranked by word coverage and cosine (`extractive`), media by the index's calibrated probability; the two lists
are merged by rank.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from multimodal.core.errors import InvalidInput, MultimodalError
from multimodal.core.items import Item, Text, as_item
from multimodal.core.modality import Modality
from multimodal.core.space import Space
from multimodal.index import Hit, Hits, Index
from multimodal.pipelines.answering import extractive
from multimodal.pipelines.answering.evidence.semantics import semantics_of
from multimodal.pipelines.answering.evidence.unspaced import is_unspaced
from multimodal.pipelines.answering.options import AnsweringOptions, Question

POOL = 200  # candidates among which texts are ranked, and from which the rarity of words is estimated
MIN_COVERAGE = 0.15  # of a text that is sent to a model: far below the threshold of extractive answers
MIN_PROBABILITY = 0.5  # of an image, audio or video that is sent to a model
CAPTION_KEYS = ("caption", "transcript", "description", "alt", "title", "text", "words")


@dataclass(frozen=True)
class Retrieved:
    """The sources for a question.

    Attributes:
        texts: Hits with words, best first.
        ranks: The rank of each of them, in the same order.
        media: Hits without words, most probable first.
        items: The items of hits that are no files, by id.
        is_given: Whether the caller gave the sources, so that all of them are relevant.
        idf: The weights of the words of the texts.
        space: The space in which they were compared; None for none.
    """

    texts: tuple[Hit, ...] = ()
    ranks: tuple[extractive.RankedChunk, ...] = ()
    media: tuple[Hit, ...] = ()
    items: Mapping[str, Item] = field(default_factory=dict)
    is_given: bool = False
    idf: Mapping[str, float] = field(default_factory=dict)
    space: Space | None = None

    def merged(self, k: int) -> list[Hit]:
        """The k best, texts and media by turns."""
        pairs = itertools.zip_longest(self.texts, self.media)
        return [hit for pair in pairs for hit in pair if hit is not None][:k]

    def relevant(self, k: int) -> list[Hit]:
        """Those of the k best that may answer the question, for a model that judges by itself."""
        if self.is_given:
            return self.merged(k)
        coverages = {hit.id: rank.coverage for hit, rank in zip(self.texts, self.ranks, strict=True)}
        return [hit for hit in self.merged(k) if self._may_answer(hit, coverages.get(hit.id))]

    @staticmethod
    def _may_answer(hit: Hit, coverage: float | None) -> bool:
        is_probable = hit.probability is None or hit.probability >= MIN_PROBABILITY
        return is_probable or (coverage is not None and coverage >= MIN_COVERAGE)


def hit_text(hit: Hit) -> str:
    """The words of a hit: its text, or the caption or transcript in its metadata; "" if it has none."""
    if hit.text is not None:
        return hit.text
    words = (hit.metadata.get(key) for key in CAPTION_KEYS)
    return "\n".join(word for word in words if isinstance(word, str) and word.strip())


def retrieve(index: Index, question: Question, options: AnsweringOptions) -> Retrieved:
    """Searches an index for the sources of a question. Raises as `Index.search`."""
    found: dict[str, Hit] = {}
    wanted = _modalities(options.modality)
    size = max(POOL, options.k)
    filters: dict[str, Any] = {"where": options.where}
    if wanted is None or Modality.TEXT in wanted:
        if Modality.TEXT in index.space.modalities:
            found |= {hit.id: hit for hit in _search(index, question, size, filters | {"modality": "text"})}
        elif wanted is not None:
            index.search(question.query, 1, modality="text", **filters)  # raises
    others = [str(modality) for modality in index.space.modalities if modality is not Modality.TEXT]
    chosen = others if wanted is None else [name for name in wanted if name != Modality.TEXT]
    if chosen:
        found |= {hit.id: hit for hit in _search(index, question, size, filters | {"modality": chosen})}
    return rank(question.text, list(found.values()), options.k, index.space)


def rank(question: str, hits: Sequence[Hit], k: int, space: Space | None) -> Retrieved:
    """Ranks hits, those with words by coverage and cosine in the space, the others by probability."""
    texts = [hit for hit in hits if hit_text(hit)]
    media = [hit for hit in hits if not hit_text(hit)]
    words = [f"{_name(hit)}\n{hit_text(hit)}" for hit in texts]
    affinities = _affinities(question, texts, space)
    ranks, idf = extractive.rank_chunks(question, words, [hit.score for hit in texts], affinities)
    ranks = ranks[: max(k, 1)]
    media.sort(key=lambda hit: -(hit.score if hit.probability is None else hit.probability))
    best = tuple(texts[chunk.position] for chunk in ranks)
    return Retrieved(best, tuple(ranks), tuple(media[:k]), idf=idf, space=space)


def _affinities(question: str, texts: Sequence[Hit], space: Space | None) -> list[float]:
    """The affinity of the question and each text; 0 of captions, whose cosine is that of an image."""
    if not texts or is_unspaced(question):  # the pairs of semantics.py are English
        return [0.0] * len(texts)
    semantics = semantics_of(space)
    return [semantics.affinity(hit.score) if hit.text is not None else 0.0 for hit in texts]


def from_context(question: Question, context: Any, space: Space | None, k: int) -> Retrieved:
    """Ranks sources that the caller gives instead of an index: a text, an item, or a list of them."""
    values = context if isinstance(context, list | tuple) else [context]
    if not values:
        raise InvalidInput("context is empty; give a text, an item or a list of them")
    items = [Text(value) if isinstance(value, str) else as_item(value) for value in values]
    hits = []
    for number, item in enumerate(items, 1):
        text = item.load() if isinstance(item, Text) else None
        cosine = _cosine(space, question, item)
        hits.append(Hit(item.uri or f"context-{number}", item.uri, cosine, item.modality, text=text))
    by_id = {hit.id: item for hit, item in zip(hits, items, strict=True)}
    return replace(rank(question.text, hits, k, space), items=by_id, is_given=True)


def as_hits(retrieved: Retrieved) -> Hits:
    """All that was found, best first."""
    return Hits(retrieved.merged(len(retrieved.texts) + len(retrieved.media)))


def _name(hit: Hit) -> str:
    """The name of the file, whose words often say what it is about."""
    return PurePath(hit.uri).stem if hit.uri else ""


def _cosine(space: Space | None, question: Question, item: Any) -> float:
    if space is None:
        return 0.0
    try:
        vectors = space.encode([Text(question.text), item])
    except MultimodalError:  # a modality that the space lacks: words alone decide
        return 0.0
    return float(vectors[0] @ vectors[1])


def _search(index: Index, question: Question, n: int, options: dict[str, Any]) -> Hits:
    """Vector and keyword search together, where the question has words to search for."""
    keywords = " ".join(extractive.WORD.findall(question.text))
    if keywords:
        options = options | {"mode": "hybrid", "text": keywords}
    hits: Hits = index.search(question.query, n, **options)
    return hits


def _modalities(value: Any) -> list[str] | None:
    if value is None:
        return None
    listed: Iterable[Any] = [value] if isinstance(value, str) else value
    return [str(modality) for modality in listed]
