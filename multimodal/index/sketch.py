"""Sketches: a vector as 384 bits, which tell roughly how near two vectors are, and fast.

Each bit says on which side of a plane through the vectors' mean a vector lies; the planes are random. The share of
bits in which two vectors differ estimates the angle between them as seen from the mean (Charikar 2002, "Similarity
Estimation Techniques from Rounding Algorithms"), with an error that depends on the number of bits and on nothing else.
Without the random turn the signs of the coordinates themselves need some eight times as many candidates on the
starter's vectors, and without the mean they tell nothing of vectors that all point one way, as CLIP's do.

The bits of BLOCK rows stand together, word by word, so that numpy counts differing bits at the speed of the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BITS = 384  # 3.6 ms for a million rows on one core; 512 took 1.1 ms more, 256 need eight times the candidates
WORDS = BITS // 64
BLOCK = 8192  # rows whose differing words (384 KiB) stay in the cache of a core
SEED = 0


@dataclass(frozen=True, eq=False)
class Basis:
    """What sketches that can be compared have in common. mean: (dim,) float32. planes: (dim, BITS) float32."""

    mean: NDArray[np.float32]
    planes: NDArray[np.float32]

    @classmethod
    def around(cls, mean: NDArray[np.float32]) -> Basis:
        return cls(mean, planes(len(mean)))

    @classmethod
    def read(cls, folder: Path) -> Basis:
        """What `write` wrote, planes too: another machine might draw others. Raises OSError, ValueError."""
        import numpy as np

        return cls(np.load(folder / "mean.npy"), np.load(folder / "planes.npy"))

    def write(self, folder: Path) -> None:
        import numpy as np

        np.save(folder / "mean.npy", self.mean)
        np.save(folder / "planes.npy", self.planes)

    def bits(self, vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
        """(n, dim) -> (n, WORDS)."""
        import numpy as np

        return _packed(np.subtract(vectors, self.mean) @ self.planes)

    def bits_of_many(self, vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
        """The same in the machine's fastest arithmetic: a vector that lies on a plane may fall on its other side."""
        import torch

        from multimodal.core.runtime import Runtime

        dtype = Runtime("cpu", "auto").dtype
        moved = torch.from_numpy(vectors) - torch.from_numpy(self.mean)
        return _packed((moved.to(dtype) @ torch.from_numpy(self.planes).to(dtype)).float().numpy())


def planes(dim: int) -> NDArray[np.float32]:
    """(dim, BITS): random directions, at right angles to each other as far as there is room."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    turns = [np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(0, BITS, dim)]
    return np.concatenate(turns, axis=1)[:, :BITS].astype(np.float32)


def _packed(sides: NDArray[np.float32]) -> NDArray[np.uint64]:
    import numpy as np

    return np.packbits(sides > 0, axis=1).view(np.uint64)


def n_blocks(n: int) -> int:
    return -(-n // BLOCK)


class Blocks:
    """Bits of rows, as they come, -> blocks (WORDS, BLOCK), each as soon as it is full."""

    def __init__(self) -> None:
        import numpy as np

        self._block = np.zeros((WORDS, BLOCK), np.uint64)
        self._filled = 0

    def add(self, bits: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
        """bits: (n, WORDS). Each block is only good until the next one is asked for."""
        done = 0
        while done < len(bits):
            part = bits[done : done + BLOCK - self._filled]
            self._block[:, self._filled : self._filled + len(part)] = part.T
            self._filled, done = self._filled + len(part), done + len(part)
            if self._filled == BLOCK:
                yield self._block
                self._filled = 0

    def rest(self) -> Iterator[NDArray[np.uint64]]:
        """The last block, if it is not full; what stands after its rows means nothing."""
        if self._filled:
            yield self._block
            self._filled = 0


def distances(blocks: NDArray[np.uint64], query: NDArray[np.uint64], out: NDArray[np.uint8]) -> None:
    """How many bits differ from the query's (WORDS,), at most 255: blocks (b, WORDS, BLOCK) -> out (b, BLOCK)."""
    import numpy as np

    differing = np.empty((WORDS, BLOCK), np.uint64)
    counts = np.empty((WORDS, BLOCK), np.uint8)
    first, second = counts[: WORDS // 2], counts[WORDS // 2 :]  # of which each counts less than 256
    more = np.empty(BLOCK, np.uint8)
    room = np.empty(BLOCK, np.uint8)
    wanted = query[:, None]
    for block, row in zip(blocks, out, strict=True):
        np.bitwise_xor(block, wanted, out=differing)
        np.bitwise_count(differing, out=counts)
        np.add.reduce(first, axis=0, dtype=np.uint8, out=row)
        np.add.reduce(second, axis=0, dtype=np.uint8, out=more)
        np.bitwise_not(row, out=room)  # what is left up to 255
        np.minimum(more, room, out=more)
        np.add(row, more, out=row)
