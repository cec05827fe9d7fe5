"""Parts -> batches of about the same cost, whatever is in them.

A batch holds as many pictures as it may, or as much sound or text as takes about as long: short texts come in large
batches and long ones in small ones. Sounds and texts wait until there are several batches of them, and are then sorted
by length, so that little of a batch is padding. No batch decodes to more bytes than it may.
"""

from __future__ import annotations

from multimodal.core.modality import Modality
from multimodal.index.ingest.chunk import Part

LENGTH_OF_ONE = {
    Modality.AUDIO: 10.0,
    Modality.TEXT: 256.0,
}  # seconds, characters that cost about as a picture
LEAST_COST = {Modality.AUDIO: 0.25, Modality.TEXT: 0.125}
VIDEO_COST = 8.0  # frames
SORTED_TOGETHER = {Modality.AUDIO: 6, Modality.TEXT: 12}  # batches
BATCH_BYTES = 512 << 20  # decoded: 14 photographs of 12 megapixels


def cost(part: Part) -> float:
    """Of a part, in pictures."""
    modality = part.item.modality
    if modality in LENGTH_OF_ONE:
        return max(LEAST_COST[modality], part.length / LENGTH_OF_ONE[modality])
    return VIDEO_COST if modality is Modality.VIDEO else 1.0


class Batcher:
    """Collects the parts of one modality. size: the pictures in a batch, to whose cost every batch is held."""

    def __init__(self, modality: Modality, size: int) -> None:
        self.size = size
        self._together = SORTED_TOGETHER.get(modality, 1)
        self._parts: list[Part] = []
        self._cost = 0.0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._parts)

    def push(self, part: Part) -> list[list[Part]]:
        """Takes a part in -> the batches that are full with it, often none."""
        self._parts.append(part)
        self._cost += cost(part)
        self._bytes += part.decoded
        if self._cost < self._together * self.size and self._bytes < self._together * BATCH_BYTES:
            return []
        batches = self._cut()
        rest = batches.pop() if len(batches) > 1 else []
        for one in rest:  # the last may be half full, and can wait for more
            self._cost += cost(one)
            self._bytes += one.decoded
        self._parts = rest
        return batches

    def flush(self) -> list[list[Part]]:
        """Everything that still waits, as batches."""
        return self._cut()

    def _cut(self) -> list[list[Part]]:
        """All parts, the longest first, in batches whose cost, padded to their longest, is no more than `size`."""
        parts, self._parts, self._cost, self._bytes = self._parts, [], 0.0, 0
        if self._together > 1:
            parts.sort(key=lambda part: part.length, reverse=True)
        batches: list[list[Part]] = []
        room, room_bytes = 0.0, 0
        for part in parts:
            if not batches or room < 1 or room_bytes < part.decoded:
                batches.append([])
                room, room_bytes = self.size / cost(part), BATCH_BYTES
            batches[-1].append(part)
            room -= 1
            room_bytes -= part.decoded
        return batches
