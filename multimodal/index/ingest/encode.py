"""Prepares and encodes a batch of chunks; chunks that fail are isolated and the others go on.

`prepare` runs in worker threads. `forward` runs in the job's loop, and prepares the halves of a batch that broke the
model again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.encoder import Encoder
from multimodal.index.ingest.document import Chunk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.encoder import Batch


class FailedChunk(NamedTuple):
    """A chunk that failed, with the stage and the error."""

    chunk: Chunk
    stage: str
    error: Exception


class Prepared(NamedTuple):
    """Tensors with the chunks they hold, and the chunks that could not be prepared."""

    batches: list[tuple[Batch, list[Chunk]]]
    failed: list[FailedChunk]


def prepare(encoder: Encoder, chunks: list[Chunk]) -> Prepared:
    """Prepares a batch, without the chunks that cannot be prepared.

    Catches every Exception, also those of codecs that raise no MultimodalError: one file must not end a job of hours.
    The chunk whose file the error names is tried alone first; otherwise the batch is halved until the bad chunk is
    alone, so that the good ones keep the speed of a batch.
    """
    if not chunks:
        return Prepared([], [])
    try:
        batch = encoder.prepare([chunk.item for chunk in chunks])
    except Exception as error:
        if len(chunks) == 1:
            return Prepared([], [FailedChunk(chunks[0], "decode", error)])
        first, second = (prepare(encoder, half) for half in _split(chunks, str(error)))
        return Prepared(first.batches + second.batches, first.failed + second.failed)
    changes = [(chunk, _change_on_disk(chunk)) for chunk in chunks]
    changed = [FailedChunk(chunk, "read", error) for chunk, error in changes if error is not None]
    if not changed:
        return Prepared([(batch, chunks)], [])
    excluded = {id(failure.chunk) for failure in changed}
    rest = prepare(encoder, [chunk for chunk in chunks if id(chunk) not in excluded])
    return Prepared(rest.batches, rest.failed + changed)


def _change_on_disk(chunk: Chunk) -> Exception | None:
    if not isinstance(chunk.item.source, Path):
        return None  # what was hashed is what is in memory
    try:
        chunk.document.check_state()
    except Exception as error:
        return error
    return None


def _split(chunks: list[Chunk], message: str) -> Sequence[list[Chunk]]:
    for position, chunk in enumerate(chunks):
        if chunk.document.path is not None and message.startswith(f"{chunk.document.path}: "):
            return [chunk], chunks[:position] + chunks[position + 1 :]
    middle = len(chunks) // 2
    return chunks[:middle], chunks[middle:]


def forward(
    encoder: Encoder, batch: Batch, chunks: list[Chunk]
) -> tuple[list[tuple[Chunk, NDArray[np.float32]]], list[FailedChunk]]:
    """Encodes a prepared batch -> each chunk with its vector (dim,), and the chunks that failed.

    A batch that breaks the model (a vector is not finite, the device runs out of memory) is halved, as in `prepare`.
    """
    try:
        vectors = encoder.encode_prepared(batch, [chunk.item for chunk in chunks])
        return list(zip(chunks, vectors, strict=True)), []
    except Exception as error:
        if len(chunks) == 1:
            return [], [FailedChunk(chunks[0], "encode", error)]
    del batch
    middle = len(chunks) // 2
    encoded: list[tuple[Chunk, NDArray[np.float32]]] = []
    failed: list[FailedChunk] = []
    for half in (chunks[:middle], chunks[middle:]):
        prepared = prepare(encoder, half)
        failed += prepared.failed
        for smaller, in_batch in prepared.batches:
            more, more_failed = forward(encoder, smaller, in_batch)
            encoded += more
            failed += more_failed
    return encoded, failed
