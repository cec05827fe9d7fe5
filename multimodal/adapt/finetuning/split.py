"""Splits pairs into training, validation and held-out sets that share no content.

Two pairs share content if the bytes of their first items are equal. Where the texts are mostly distinct, pairs of the
same text also stay together, so that the held-out figure is that of texts that were never trained. Held-out pairs that
are given decide this themselves: if their texts are new, those of the validation pairs are new as well. Otherwise the
training step and the interpolation would be chosen for memorised texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from multimodal.adapt.finetuning.data import Pair
from multimodal.core.errors import InvalidInput
from multimodal.core.items import Item, Text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_PAIRS = 8
MIN_PART = 2  # pairs of a validation or held-out set
DISTINCT = 0.5  # share of distinct texts above which whole texts are held out
NEW = 0.5  # share of the given held-out pairs with an untrained text, above which validation texts are untrained too


@dataclass(frozen=True)
class Split:
    """Training, validation (for early stopping and interpolation) and held-out pairs (for the report).

    Attributes:
        train: Pairs to train on.
        validation: Pairs that choose when to stop and how far to interpolate.
        held_out: Pairs that only the report uses.
        by_text: Whether no text of the other two sets was trained.
        leaks: Training pairs that were removed because their content is held out.
    """

    train: list[Pair]
    validation: list[Pair]
    held_out: list[Pair]
    by_text: bool
    leaks: int


def content_hash(item: Item) -> str:
    """sha256 (hex) of the content of an item: the text, the bytes of the file, or the samples."""
    if isinstance(item, Text):
        return hashlib.sha256(str(item.load()).encode("utf-8", "surrogatepass")).hexdigest()
    source: Any = item.source
    try:
        data = source if isinstance(source, bytes) else source.read_bytes()
    except (AttributeError, OSError):
        return _decoded_hash(item, source)
    return hashlib.sha256(data).hexdigest()


def _decoded_hash(item: Item, source: Any) -> str:
    """Of samples in memory; of a file that cannot be read, its name: encoding it will report the failure."""
    import numpy as np

    array = source.get("array") if isinstance(source, dict) else source
    try:
        plain = np.ascontiguousarray(np.asarray(array))
    except (TypeError, ValueError):
        return hashlib.sha256(repr(item).encode()).hexdigest()
    if plain.dtype.kind not in "fiub":
        return hashlib.sha256(repr(item).encode()).hexdigest()
    return hashlib.sha256(f"{plain.shape} {plain.dtype}".encode() + plain.tobytes()).hexdigest()


def split_pairs(
    pairs: Sequence[Pair], held_out: Sequence[Pair] | None, *, share: float, validation: float, seed: int
) -> Split:
    """Splits the pairs.

    Args:
        pairs: All pairs.
        held_out: Pairs for the report, if they are given separately.
        share: Share of the pairs to hold out, if they are not.
        validation: Share of the pairs for validation.
        seed: Seed of the split.

    Returns:
        The three sets.

    Raises:
        InvalidInput: If there are too few pairs or too few different ones.
    """
    import numpy as np

    if len(pairs) < MIN_PAIRS:
        raise InvalidInput(
            f"got {len(pairs)} pair{'s' * (len(pairs) != 1)}, and training needs at least {MIN_PAIRS}, of which some "
            "are held out; with fewer, use examples instead: multimodal.adapt.few_shot(space, examples)"
        )
    hashes = [content_hash(pair.first) for pair in pairs]
    given = list(held_out or ()) or [pair for pair in pairs if pair.held_out]
    rest = [position for position, pair in enumerate(pairs) if not (given and not held_out and pair.held_out)]
    leaks = 0
    if given:
        reserved = {content_hash(pair.first) for pair in given}
        clean = [position for position in rest if hashes[position] not in reserved]
        leaks, rest = len(rest) - len(clean), clean
    by_text = _by_text([pairs[position] for position in rest], given)
    groups = _groups([pairs[position] for position in rest], [hashes[position] for position in rest], by_text)
    order = np.random.default_rng(seed).permutation(int(groups.max(initial=-1)) + 1)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    ranks = rank[groups] / max(1, len(order))
    own = 0.0 if given else _part(share, len(order))
    judge = own + _part(validation, len(order))
    parts = [[pairs[rest[i]] for i in np.flatnonzero((ranks >= low) & (ranks < high))]
             for low, high in ((judge, 2.0), (own, judge), (0.0, own))]  # fmt: skip
    train, validating, reported = parts[0], parts[1], given or parts[2]
    for name, part in (("training", train), ("validation", validating), ("held-out", reported)):
        if len(part) < MIN_PART:
            raise InvalidInput(
                f"{len(part)} of {len(pairs)} pairs are left for {name}, since {len(order)} of them differ in content; "
                "give more distinct pairs"
            )
    return Split(train, validating, reported, by_text and _has_new_texts(reported, train, every=True), leaks)


def _part(share: float, n: int) -> float:
    return max(share, MIN_PART / max(1, n))


def _by_text(pairs: Sequence[Pair], given: Sequence[Pair]) -> bool:
    """Whether whole texts go to validation (and to the held-out part, unless it is given)."""
    if any(pair.label for pair in pairs):
        return False
    if given:
        return _has_new_texts(given, pairs)
    return len({content_hash(pair.second) for pair in pairs}) >= DISTINCT * len(pairs)


def _has_new_texts(pairs: Sequence[Pair], trained: Sequence[Pair], *, every: bool = False) -> bool:
    """Whether more than a share NEW of the pairs, or all of them, have a text that is not among those trained."""
    texts = {content_hash(pair.second) for pair in trained}
    n_new = sum(content_hash(pair.second) not in texts for pair in pairs)
    return n_new == len(pairs) if every else n_new > NEW * len(pairs)


def _groups(pairs: Sequence[Pair], hashes: Sequence[str], by_text: bool) -> NDArray[np.int64]:
    """The number of each pair's group: pairs with a first item or, with `by_text`, a second in common share one."""
    import numpy as np

    parents = list(range(len(pairs)))

    def root(position: int) -> int:
        while parents[position] != position:
            parents[position] = parents[parents[position]]
            position = parents[position]
        return position

    seen: dict[str, int] = {}
    for position, pair in enumerate(pairs):
        keys = [f"first {hashes[position]}"]
        if by_text:
            keys.append(f"second {content_hash(pair.second)}")
        for key in keys:
            parents[root(position)] = root(seen.setdefault(key, position))
    roots = [root(position) for position in range(len(pairs))]
    numbers = {found: number for number, found in enumerate(dict.fromkeys(roots))}
    return np.array([numbers[found] for found in roots], dtype=np.int64)
