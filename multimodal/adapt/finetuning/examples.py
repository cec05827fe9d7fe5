"""Pairs with the vectors that the space gave them before training, and the batches that are drawn from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multimodal.adapt.finetuning.data import Pair
from multimodal.adapt.finetuning.split import content_hash
from multimodal.core.errors import InvalidInput, MediaError, MissingExtra
from multimodal.core.items import Item
from multimodal.core.modality import Modality
from multimodal.core.space import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]
    Ids = NDArray[np.int64]

Progress = Callable[[str, int, int], None]
"""Called with (task, done, total)."""

BATCH_ITEMS = 128
ITEM_ERRORS = (MediaError, InvalidInput, MissingExtra)


@dataclass(frozen=True)
class Examples:
    """Pairs, encoded by the space before training.

    Attributes:
        firsts: The first items (n).
        seconds: The second items (n).
        negatives: Hard negatives (n), None where a pair has none.
        first_rows: Unit rows (n, dim) of the first items.
        second_rows: Unit rows (n, dim) of the second items.
        negative_rows: Unit rows (n, dim) of the hard negatives; zeros where there is none.
        first_ids: Number of each first item's content (n).
        second_ids: Number of each second item's content (n).
        labelled: Whether the second items are classes.
    """

    firsts: list[Item]
    seconds: list[Item]
    negatives: list[Item | None]
    first_rows: Rows
    second_rows: Rows
    negative_rows: Rows
    first_ids: Ids
    second_ids: Ids
    labelled: bool

    def __len__(self) -> int:
        return len(self.firsts)

    @property
    def modalities(self) -> tuple[Modality, Modality]:
        """Of the first and the second items."""
        return self.firsts[0].modality, self.seconds[0].modality

    def positives(self, indices: Sequence[int], negatives: Sequence[int] = ()) -> NDArray[np.bool_]:
        """Which pairs of rows belong together.

        Args:
            indices: Of the rows (b).
            negatives: Of the rows whose hard negatives are appended as columns (c).

        Returns:
            Boolean (b, b + c): equal first or equal second items; False for hard negatives.
        """
        import numpy as np

        first, second = self.first_ids[list(indices)], self.second_ids[list(indices)]
        own = (first[:, None] == first) | (second[:, None] == second)
        return np.concatenate([own, np.zeros((len(own), len(negatives)), bool)], axis=1)

    def take(self, n: int, seed: int) -> Examples:
        """At most n pairs, chosen at random."""
        import numpy as np

        if len(self) <= n:
            return self
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:n])
        return self.rows(rows.tolist())

    def rows(self, indices: Sequence[int]) -> Examples:
        """Some of the pairs."""
        chosen = list(indices)
        return Examples(
            [self.firsts[i] for i in chosen],
            [self.seconds[i] for i in chosen],
            [self.negatives[i] for i in chosen],
            self.first_rows[chosen],
            self.second_rows[chosen],
            self.negative_rows[chosen],
            self.first_ids[chosen],
            self.second_ids[chosen],
            self.labelled,
        )


def encode_pairs(
    space: Space, pairs: Sequence[Pair], name: str, progress: Progress
) -> tuple[Examples, list[str]]:
    """Encodes pairs with the space as it is.

    Args:
        space: The space.
        pairs: The pairs; those with an item that cannot be read are left out.
        name: Of the set, for progress and messages.
        progress: Called with (task, done, total).

    Returns:
        The examples, and a message for each pair that was left out.

    Raises:
        InvalidInput: If no pair can be read, or the pairs mix modalities.
        UnsupportedModality: If the space does not encode a modality.
    """
    import numpy as np

    kinds = {(pair.first.modality, pair.second.modality) for pair in pairs}
    if len(kinds) != 1:
        raise InvalidInput(
            f"the {name} pairs mix {' and '.join(sorted('–'.join(kind) for kind in kinds)) or 'nothing'}; train on "
            "one pair of modalities at a time"
        )
    for modality in next(iter(kinds)):
        space.encoder_for(modality)
    items: dict[str, Item] = {}
    keys = [
        tuple("" if item is None else _key(item) for item in (pair.first, pair.second, pair.negative))
        for pair in pairs
    ]
    for pair, names in zip(pairs, keys, strict=True):
        for key, item in zip(names, (pair.first, pair.second, pair.negative), strict=True):
            if item is not None:
                items.setdefault(key, item)
    rows, failures = encode_items(space, items, name, progress)
    kept = [i for i, names in enumerate(keys) if all(not key or key in rows for key in names)]
    if not kept:
        raise InvalidInput(
            f"none of the {len(pairs)} {name} pairs can be read: {failures[0] if failures else 'no items'}"
        )
    blank = np.zeros(space.dim, np.float32)
    columns = [[keys[i][part] for i in kept] for part in range(3)]
    first, second, negative = (np.stack([rows.get(key, blank) for key in column]) for column in columns)
    numbers = {key: number for number, key in enumerate(items)}
    examples = Examples(
        [pairs[i].first for i in kept],
        [pairs[i].second for i in kept],
        [pairs[i].negative for i in kept],
        first,
        second,
        negative,
        np.array([numbers[key] for key in columns[0]]),
        np.array([numbers[key] for key in columns[1]]),
        pairs[kept[0]].label,
    )
    return examples, failures


def _key(item: Item) -> str:
    return f"{item.modality} {content_hash(item)}"


def encode_items(
    space: Space, items: dict[str, Item], name: str, progress: Progress
) -> tuple[dict[str, Rows], list[str]]:
    """Encodes items by key -> (unit row by key, a message for each item that cannot be read)."""
    rows: dict[str, Rows] = {}
    failures: list[str] = []
    keys, done = list(items), 0
    for start in range(0, len(keys), BATCH_ITEMS):
        part = keys[start : start + BATCH_ITEMS]
        try:
            rows |= dict(zip(part, space.encode([items[key] for key in part]), strict=True))
        except ITEM_ERRORS:
            for key in part:
                try:
                    rows[key] = space.encode([items[key]])[0]
                except ITEM_ERRORS as error:
                    failures.append(f"{items[key]!r}: {error}")
        done += len(part)
        progress(f"encoding {name} items", done, len(keys))
    return rows, failures
