"""Counts for the filters of the page: how many items have each modality, and each value of each metadata key.

The rows of an index are read once for each of its versions, as distinct combinations of modality and metadata with the
number of their items. Filters are then applied to arrays of these: a change of a filter reads nothing.
"""

from __future__ import annotations

import json
import operator
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.core.remote.path import AnyPath
from multimodal.index import Index
from multimodal.index.results import VIDEO_PART, Scalar
from multimodal.index.storage import filters
from multimodal.index.storage.table import ItemTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_VALUES = 40  # of a metadata key, the most frequent first
MAX_KEYS = 20
MAX_CACHED = 8  # indexes
SIGNS: dict[str, Callable[[Any, Any], bool]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip

_cache: dict[AnyPath, tuple[tuple[int, int], Combinations]] = {}
_lock = threading.Lock()


class Column:
    """One metadata key. values: the distinct ones, with their types apart. codes: of each combination, -1 for none."""

    def __init__(self, n_combinations: int) -> None:
        self.values: list[Scalar] = []
        self.codes = np.full(n_combinations, -1, np.int32)
        self._places: dict[tuple[type, Scalar], int] = {}  # 1 == True in Python

    def put(self, combination: int, value: Scalar) -> None:
        place = self._places.setdefault((type(value), value), len(self.values))
        if place == len(self.values):
            self.values.append(value)
        self.codes[combination] = place

    def mask(self, expected: Any) -> NDArray[np.bool_]:
        """Which combinations meet a condition, as `filters` defines it."""
        accepts = _predicate(expected)
        # The last entry is that of code -1: the key is missing, which None matches
        table = np.array([*map(accepts, self.values), accepts(None)], np.bool_)
        return np.asarray(table[self.codes])


class Combinations:
    """The distinct combinations of modality and metadata in one version of an index."""

    def __init__(self, table: ItemTable) -> None:
        groups = _groups(table)
        self.modalities = np.array([name for name, *_ in groups], object)
        self.is_video_part = np.array([is_part for _, is_part, *_ in groups], np.bool_)
        self.counts = np.array([count for *_, count in groups], np.int64)
        self.columns: dict[str, Column] = {}
        for place, (_, _, metadata, _) in enumerate(groups):
            for key, value in json.loads(metadata or "{}").items():
                if value is not None:
                    self.columns.setdefault(key, Column(len(groups))).put(place, value)

    def of_modality(self, index: Index, modality: Sequence[str] | str | None) -> NDArray[np.bool_]:
        """Which combinations have one of these modalities; "video" means the parts of videos too."""
        names, _ = filters.modalities(index.space, modality)
        if names is None:
            return np.ones(len(self.counts), np.bool_)
        own = {modality} if isinstance(modality, str) else set(map(str, modality or ()))
        is_own = np.isin(self.modalities, list(own & set(names)))
        return np.asarray(is_own | (self.is_video_part & np.isin(self.modalities, list(names))))

    def of_metadata(self, where: Mapping[str, Any]) -> NDArray[np.bool_]:
        """Which combinations meet all conditions."""
        chosen = np.ones(len(self.counts), np.bool_)
        for key, expected in where.items():
            column = self.columns.get(key) or Column(len(self.counts))
            chosen &= column.mask(expected)
        return chosen

    def values_of(self, key: str, chosen: NDArray[np.bool_]) -> list[tuple[Scalar, int]]:
        """The values of a key among the chosen combinations, each with the number of its items."""
        column = self.columns.get(key) or Column(len(self.counts))
        has_key = chosen & (column.codes >= 0)
        sums = np.bincount(column.codes[has_key], self.counts[has_key], len(column.values)).astype(np.int64)
        places = np.flatnonzero(sums)
        return [(column.values[place], int(sums[place])) for place in places.tolist()]


def facets(
    index: Index, modality: Sequence[str] | str | None = None, where: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The number of items by modality and by value of each metadata key, for the filters of the page.

    The counts of a key are those of the items that meet all other filters, so that they say what choosing another value
    would find.

    Args:
        index: The index.
        modality: As in `Index.search`.
        where: As in `Index.search`.

    Returns:
        "total", "matching", "modalities": {name: count}, and "keys": [{"key", "distinct", "values": [{"value",
        "count"}]}].

    Raises:
        InvalidInput: A filter is invalid.
    """
    filters.condition(index.space, modality, where)  # checks the filters
    table = ItemTable.open(index.path)
    combinations = _read(table)
    conditions = dict(where or {})
    of_modality = combinations.of_modality(index, modality)
    of_metadata = combinations.of_metadata(conditions)
    matching = of_modality & of_metadata
    keys = {}
    for key in {*combinations.columns, *conditions}:
        chosen = matching
        if key in conditions:
            rest = {other: value for other, value in conditions.items() if other != key}
            chosen = of_modality & combinations.of_metadata(rest)
        if (values := combinations.values_of(key, chosen)) or key in conditions:
            keys[key] = values
    names = _modality_counts(combinations, of_metadata)
    order = dict.fromkeys([*table.index_metadata.modalities, "video"])
    return {
        "total": int(combinations.counts.sum()),
        "matching": int(combinations.counts[matching].sum()),
        "modalities": {name: names[name] for name in order if names.get(name)},
        "keys": [_key_content(key, keys[key]) for key in sorted(keys, key=lambda key: _rank(key, keys[key]))][
            :MAX_KEYS
        ],
    }


def _read(table: ItemTable) -> Combinations:
    """The combinations of the version of a table, kept for the next call."""
    path = table.path
    state = table.version, _folder_number(path)
    with _lock:  # two requests would read the same
        known = _cache.pop(path, None)
        if known is None or known[0] != state:
            known = state, Combinations(table)
        _cache[path] = known
        while len(_cache) > MAX_CACHED:
            del _cache[next(iter(_cache))]
        return known[1]


def _folder_number(path: AnyPath) -> int:
    """Distinguishes an index from one created later at the same path."""
    try:
        return Path(str(path)).stat().st_ino
    except OSError:  # not a folder of this machine
        return 0


def _groups(table: ItemTable) -> list[tuple[str, bool, str, int]]:
    """(modality, whether it is part of a video, metadata as JSON, count) of each combination."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = table.columns(["id", "modality", "metadata", "start_s"])
    metadata = columns["metadata"]
    if isinstance(metadata.type, pa.BaseExtensionType):
        metadata = metadata.cast(pa.string())
    is_part = pc.match_substring_regex(columns["id"], VIDEO_PART.pattern.replace(r"\Z", "$"))
    if "start_s" in columns.column_names:
        is_part = pc.and_(is_part, pc.is_valid(columns["start_s"]))
    small = pa.table({"modality": columns["modality"], "part": is_part, "metadata": metadata})
    grouped = small.group_by(["modality", "part", "metadata"]).aggregate([([], "count_all")])
    names = ("modality", "part", "metadata", "count_all")
    return list(zip(*(grouped[name].to_pylist() for name in names), strict=True))


def _modality_counts(combinations: Combinations, chosen: NDArray[np.bool_]) -> dict[str, int]:
    names: dict[str, int] = {}
    for name in set(combinations.modalities.tolist()):
        names[name] = int(combinations.counts[chosen & (combinations.modalities == name)].sum())
    parts = int(combinations.counts[chosen & combinations.is_video_part].sum())
    return names | {"video": names.get("video", 0) + parts}


def _predicate(expected: Any) -> Callable[[Scalar], bool]:
    """Whether a value meets a condition of `where`, which `filters` has checked."""
    if isinstance(expected, Mapping):
        tests = [(SIGNS[sign], limit) for sign, limit in expected.items()]
        return lambda value: all(_kind(value) is _kind(limit) and sign(value, limit) for sign, limit in tests)
    listed: Iterable[Any] = expected if isinstance(expected, list | tuple | set | frozenset) else [expected]
    known = {(_kind(value), value) for value in listed}
    return lambda value: (_kind(value), value) in known


def _kind(value: object) -> type:
    """What a value may equal: a bool only a bool, a number any number."""
    return float if isinstance(value, int | float) and not isinstance(value, bool) else type(value)


def _rank(key: str, values: Sequence[tuple[Scalar, int]]) -> tuple[bool, str]:
    """Keys with few values first: one that differs for every item is no filter."""
    return len(values) > MAX_VALUES, key


def _key_content(key: str, values: Sequence[tuple[Scalar, int]]) -> dict[str, Any]:
    first = sorted(values, key=lambda pair: (-pair[1], str(pair[0])))[:MAX_VALUES]
    return {
        "key": key,
        "distinct": len(values),
        "values": [{"value": value, "count": count} for value, count in first],
    }
