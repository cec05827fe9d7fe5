"""A batch of parts -> what the model takes; one that cannot be prepared is found and left out.

Runs in threads. The model itself runs in the loop, and comes here too when a batch breaks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from multimodal.core.encoder import Encoder
from multimodal.index.ingest.chunk import Part

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from multimodal.core.encoder import Batch


class Broken(NamedTuple):
    """A part that failed, where, and why."""

    part: Part
    stage: str
    error: Exception


class Prepared(NamedTuple):
    """Parts with the tensors of all of them, and those that were left out."""

    batches: list[tuple[Batch, list[Part]]]
    broken: list[Broken]


def prepare(encoder: Encoder, parts: list[Part]) -> Prepared:
    """Every Exception of one part is kept, also of a codec that raises no MultimodalError: a job of hours must not end
    by one file. What the message of an error names is tried alone first; else the batch is halved until the bad one is
    alone, so that the good ones keep the speed of a batch."""
    if not parts:
        return Prepared([], [])
    try:
        batch = encoder.prepare([part.item for part in parts])
    except Exception as error:
        if len(parts) == 1:
            return Prepared([], [Broken(parts[0], "decode", error)])
        return _joined(*(prepare(encoder, some) for some in _split(parts, str(error))))
    changes = [(part, _changed(part)) for part in parts]
    broken = [Broken(part, "read", change) for part, change in changes if change is not None]
    if not broken:
        return Prepared([(batch, parts)], [])
    left_out = {id(one.part) for one in broken}
    rest = prepare(encoder, [part for part in parts if id(part) not in left_out])
    return Prepared(rest.batches, rest.broken + broken)


def _changed(part: Part) -> Exception | None:
    if not isinstance(part.item.source, Path):
        return None  # what is in memory is what its hash was taken of
    try:
        part.thing.check_state()
    except Exception as error:
        return error
    return None


def _split(parts: list[Part], said: str) -> Sequence[list[Part]]:
    for place, part in enumerate(parts):
        if part.thing.path is not None and said.startswith(f"{part.thing.path}: "):
            return [part], parts[:place] + parts[place + 1 :]
    middle = len(parts) // 2
    return parts[:middle], parts[middle:]


def _joined(*some: Prepared) -> Prepared:
    return Prepared([b for one in some for b in one.batches], [b for one in some for b in one.broken])


def forward(
    encoder: Encoder, batch: Batch, parts: list[Part]
) -> tuple[list[tuple[Part, NDArray[np.float32]]], list[Broken]]:
    """What was prepared -> each part with its vector, and those that have none. A batch that breaks the model (one of
    its vectors is not finite, it is too large for the device) is halved, as in `prepare`."""
    try:
        vectors = encoder.encode_prepared(batch, [part.item for part in parts])
        return list(zip(parts, vectors, strict=True)), []
    except Exception as error:
        if len(parts) == 1:
            return [], [Broken(parts[0], "encode", error)]
    del batch
    middle = len(parts) // 2
    good: list[tuple[Part, NDArray[np.float32]]] = []
    broken: list[Broken] = []
    for some in (parts[:middle], parts[middle:]):
        again = prepare(encoder, some)
        broken += again.broken
        for one, of_parts in again.batches:
            more, bad = forward(encoder, one, of_parts)
            good += more
            broken += bad
    return good, broken
