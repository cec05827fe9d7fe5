"""Encodes items in batches. Interrupted jobs resume; items that fail are skipped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from multimodal.adapt.bridging.checkpoint import BridgeCheckpoint
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput, MediaError, MissingExtra
from multimodal.core.items import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[str, int, int], None]
"""Called with (task, done, total)."""

BATCH_ITEMS = 128
SAVE_EVERY_S = 15.0
ITEM_ERRORS = (MediaError, InvalidInput, MissingExtra)


def encode_all(
    encoder: Encoder, items: Sequence[Item], name: str, checkpoint: BridgeCheckpoint, progress: Progress
) -> NDArray[np.float32]:
    """Encodes items; the rows are saved periodically and an interrupted job resumes from them.

    Args:
        encoder: The encoder.
        items: Items of its modality.
        name: Name of the rows in the checkpoint and in progress reports.
        checkpoint: Where rows are saved.
        progress: Called with (task, done, total).

    Returns:
        Unit rows (n, dim) in order; a row of zeros for an item that cannot be encoded.
    """
    import numpy as np

    done = checkpoint.array(name)
    rows = np.empty((0, encoder.dim), np.float32) if done is None else done
    parts, count, saved_at = [rows], len(rows), time.monotonic()
    progress(f"encoding {name}", count, len(items))
    while count < len(items):
        parts.append(_encode_batch(encoder, items[count : count + BATCH_ITEMS]))
        count += len(parts[-1])
        if count == len(items) or time.monotonic() - saved_at > SAVE_EVERY_S:
            parts, saved_at = [np.concatenate(parts)], time.monotonic()
            checkpoint.save_array(name, parts[0])
        progress(f"encoding {name}", count, len(items))
    return np.concatenate(parts)


def _encode_batch(encoder: Encoder, items: Sequence[Item]) -> NDArray[np.float32]:
    import numpy as np

    try:
        return encoder.encode(items)
    except ITEM_ERRORS:
        rows = np.zeros((len(items), encoder.dim), np.float32)
        for position, item in enumerate(items):
            try:
                rows[position] = encoder.encode([item])[0]
            except ITEM_ERRORS:  # the row stays zero; bridge() removes and reports those
                continue
        return rows
