"""Facets: which metadata keys the items of an index have, and which values, so that filters can be found."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multimodal.index import Index

MAX_ROWS = 50_000  # read; an index with more is sampled from its beginning
MAX_VALUES = 20  # listed for one key, the most frequent first
MAX_CHARS = 100  # of a listed value


def facets(index: Index, max_rows: int = MAX_ROWS) -> dict[str, Any]:
    """Reads the metadata of an index.

    Args:
        index: The index.
        max_rows: The most rows that are read.

    Returns:
        {"metadata": {key: {"items", "types", "distinct", "values": {value: items}, "min", "max"}}, "rows_read"};
        min and max only for numbers.
    """
    counters: dict[str, Counter[Any]] = {}
    n_rows = 0
    for row in itertools.islice(index.rows(), max_rows):
        n_rows += 1
        for key, value in row["metadata"].items():
            # True == 1 in Python: the type keeps them apart
            counters.setdefault(key, Counter())[type(value).__name__, value] += 1
    return {"metadata": {key: _facet(counters[key]) for key in sorted(counters)}, "rows_read": n_rows}


def _facet(counter: Counter[Any]) -> dict[str, Any]:
    values = {_shown(value): count for (_, value), count in counter.most_common(MAX_VALUES)}
    facet = {
        "items": counter.total(),
        "types": sorted({kind for kind, _ in counter}),
        "distinct": len(counter),
        "values": values,
    }
    numbers = [value for kind, value in counter if kind in ("int", "float")]
    return facet | ({"min": min(numbers), "max": max(numbers)} if numbers else {})


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_CHARS else text[: MAX_CHARS - 1] + "…"
