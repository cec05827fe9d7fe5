"""Rerankers: models that read a query and a text together, and are slower and more exact than comparing vectors."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence

from multimodal.core.catalog import parse_model_name
from multimodal.core.errors import InvalidInput
from multimodal.core.families import families, family_module

CACHED = 2  # rerankers kept loaded


class Reranker(ABC):
    """A model that scores pairs of a query and a text."""

    name: str

    @abstractmethod
    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query; higher is better, and the scale is the model's own."""


@functools.lru_cache(maxsize=CACHED)
def load_reranker(address: str) -> Reranker:
    """Loads a reranker by its address; the last ones stay loaded.

    Args:
        address: As "st/cross-encoder/ms-marco-MiniLM-L6-v2" or "st/./folder": a family with `load_reranker`.

    Raises:
        UnknownModel: There is no such family or model.
        InvalidInput: The family has no rerankers.
        CheckpointError: The folder holds no reranker.
        MissingExtra: The family's library is not installed.
    """
    family, rest, _ = parse_model_name(address)
    if not (family and rest):
        raise InvalidInput(f"a reranker is named by its family, as 'st/./folder', got {address!r}")
    load = getattr(family_module(family), "load_reranker", None)
    if load is None:
        able = [name for name in families() if hasattr(family_module(name), "load_reranker")]
        raise InvalidInput(f"{family!r} has no rerankers; these families have: {', '.join(able)}")
    reranker: Reranker = load(rest)
    return reranker
