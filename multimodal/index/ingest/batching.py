"""Groups chunks into batches of about equal cost.

A batch holds up to `size` images, or as much audio or text as takes about the same time: short texts form large batches
and long ones small ones. Audio and text are collected for several batches and sorted by length, so that little of a
batch is padding. No batch decodes to more bytes than `batch_bytes`.
"""

from __future__ import annotations

from multimodal.core.modality import Modality
from multimodal.index.ingest.document import Chunk

LENGTH_OF_IMAGE = {
    Modality.AUDIO: 10.0,
    Modality.TEXT: 256.0,
}  # seconds, characters that cost about one image
MIN_COST = {Modality.AUDIO: 0.25, Modality.TEXT: 0.125}
VIDEO_COST = 8.0  # frames
SORTED_BATCHES = {Modality.AUDIO: 6, Modality.TEXT: 12}


def cost(chunk: Chunk) -> float:
    """The cost of encoding a chunk, in images."""
    modality = chunk.item.modality
    if modality in LENGTH_OF_IMAGE:
        return max(MIN_COST[modality], chunk.length / LENGTH_OF_IMAGE[modality])
    return VIDEO_COST if modality is Modality.VIDEO else 1.0


class Batcher:
    """Collects the chunks of one modality. size: images in a batch, whose cost bounds every batch. max_bytes: bytes
    that a batch may decode to; a larger chunk is a batch of its own."""

    def __init__(self, modality: Modality, size: int, max_bytes: int) -> None:
        self.size = size
        self.max_bytes = max_bytes
        self._n_sorted = SORTED_BATCHES.get(modality, 1)
        self._chunks: list[Chunk] = []
        self._cost = 0.0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._chunks)

    def push(self, chunk: Chunk) -> list[list[Chunk]]:
        """Adds a chunk -> the batches that are complete with it, often none."""
        self._add(chunk)
        if self._cost < self._n_sorted * self.size and self._bytes < self._n_sorted * self.max_bytes:
            return []
        batches = self._split()
        if len(batches) > 1:  # the last may be half full, and can wait for more
            for waiting in batches.pop():
                self._add(waiting)
        return batches

    def flush(self) -> list[list[Chunk]]:
        """All chunks that are waiting, as batches."""
        return self._split()

    def _add(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._cost += cost(chunk)
        self._bytes += chunk.decoded_bytes

    def _split(self) -> list[list[Chunk]]:
        """All chunks, longest first, in batches whose cost when padded to the longest chunk is at most `size`."""
        chunks, self._chunks, self._cost, self._bytes = self._chunks, [], 0.0, 0
        if self._n_sorted > 1:
            chunks.sort(key=lambda chunk: chunk.length, reverse=True)
        batches: list[list[Chunk]] = []
        room, room_bytes = 0.0, 0
        for chunk in chunks:
            if not batches or room < 1 or room_bytes < chunk.decoded_bytes:
                batches.append([])
                room, room_bytes = self.size / cost(chunk), self.max_bytes
            batches[-1].append(chunk)
            room -= 1
            room_bytes -= chunk.decoded_bytes
        return batches
