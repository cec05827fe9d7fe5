"""Items -> unit vectors through one encoder, in chunks. A stopped job goes on; a bad item is left out, not fatal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from multimodal.adapt.bridging.checkpoint import Kept
from multimodal.core.encoder import Encoder
from multimodal.core.errors import InvalidInput, MediaError, MissingExtra
from multimodal.core.items import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

CHUNK = 128
SAVE_EVERY_S = 15.0
FAULTS_OF_AN_ITEM = (MediaError, InvalidInput, MissingExtra)


def encode_all(
    encoder: Encoder, items: Sequence[Item], name: str, kept: Kept, progress: Progress
) -> NDArray[np.float32]:
    """(n, dim) unit rows, in order; a row of zeros for an item that cannot be encoded.

    name: of the rows in `kept`, where they are saved now and then, and where what an earlier run saved is found.
    """
    import numpy as np

    done = kept.array(name)
    rows = np.empty((0, encoder.dim), np.float32) if done is None else done
    parts, count, saved_at = [rows], len(rows), time.monotonic()
    progress(f"encoding {name}", count, len(items))
    while count < len(items):
        parts.append(_chunk(encoder, items[count : count + CHUNK]))
        count += len(parts[-1])
        if count == len(items) or time.monotonic() - saved_at > SAVE_EVERY_S:
            parts, saved_at = [np.concatenate(parts)], time.monotonic()
            kept.keep_array(name, parts[0])
        progress(f"encoding {name}", count, len(items))
    return np.concatenate(parts)


def _chunk(encoder: Encoder, items: Sequence[Item]) -> NDArray[np.float32]:
    import numpy as np

    try:
        return encoder.encode(items)
    except FAULTS_OF_AN_ITEM:
        rows = np.zeros((len(items), encoder.dim), np.float32)
        for position, item in enumerate(items):
            try:
                rows[position] = encoder.encode([item])[0]
            except FAULTS_OF_AN_ITEM:  # stays zero: bridge() counts those, leaves them out and says how many
                continue
        return rows
