"""Sketches: a vector as 512 bits, which tell roughly how near two vectors are, and fast.

Each bit says on which side of a plane through the vectors' mean a vector lies; the planes are random. The share of
bits in which two vectors differ estimates the angle between them as seen from the mean (Charikar 2002, "Similarity
Estimation Techniques from Rounding Algorithms"), with an error that depends on the number of bits and on nothing else.
Without the random turn the signs of the coordinates themselves need some eight times as many candidates on the
starter's vectors, and without the mean they tell nothing of vectors that all point one way, as CLIP's do.

The first half of the bits, the coarse ones, are looked at in every row: those of BLOCK rows stand together, word by
word, so that numpy counts differing bits at the speed of the cache. The fine ones stand row by row, and are looked at
in the rows that the coarse ones leave, where these alone do not tell enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BITS, COARSE_BITS = 512, 256
COARSE_WORDS = COARSE_BITS // 64  # the coarse bits of a million rows are looked at in 2.3 ms on one core
BLOCK = 16384  # rows whose differing words (512 KiB) stay in the cache of a core
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

    def angles(
        self, query: NDArray[np.float32], cosines: NDArray[np.float32], along_mean: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Between a query (dim,) and rows as seen from the mean, as shares of half a turn, (n,).

        Of each row, its cosine with the query and its product with the mean; all have length one.
        """
        import numpy as np

        mean, one, u = self.mean.astype(np.float64), query.astype(np.float64), along_mean.astype(np.float64)
        square = float(mean @ mean)
        lengths = np.linalg.norm(one - mean) * np.sqrt(np.maximum(1 - 2 * u + square, 1e-12))
        inner = cosines.astype(np.float64) - float(one @ mean) - u + square
        return np.asarray(np.arccos(np.clip(inner / np.maximum(lengths, 1e-12), -1, 1)) / np.pi)

    def bits(self, vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
        """(n, dim) -> (n, BITS / 64)."""
        import numpy as np

        return _packed(np.subtract(vectors, self.mean) @ self.planes)

    def bits_of_many(self, vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
        """The same in the machine's fastest arithmetic: a vector that lies on a plane may fall on its other side."""
        import torch

        from multimodal.core.backends.runtime import Runtime

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
    """Coarse bits of rows, as they come, -> blocks (COARSE_WORDS, BLOCK), each as soon as it is full."""

    def __init__(self) -> None:
        import numpy as np

        self._block = np.zeros((COARSE_WORDS, BLOCK), np.uint64)
        self._filled = 0

    def add(self, bits: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
        """bits: (n, COARSE_WORDS). Each block is only good until the next one is asked for."""
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
    """In how many coarse bits rows differ from a query (COARSE_WORDS,): (b, COARSE_WORDS, BLOCK) -> out (b, BLOCK).

    Where all 256 differ it is 0: as far off as can be, which is then seen when it is compared.
    """
    import numpy as np

    differing = np.empty((COARSE_WORDS, BLOCK), np.uint64)
    counts = np.empty((COARSE_WORDS, BLOCK), np.uint8)
    wanted = query[:, None]
    for block, row in zip(blocks, out, strict=True):
        np.bitwise_xor(block, wanted, out=differing)
        np.bitwise_count(differing, out=counts)
        np.add.reduce(counts, axis=0, dtype=np.uint8, out=row)


def more_distances(fine: NDArray[np.uint64], query: NDArray[np.uint64]) -> NDArray[np.int64]:
    """In how many fine bits some rows (n, w) differ from a query (w,)."""
    import numpy as np

    return np.bitwise_count(fine ^ query).sum(axis=1, dtype=np.int64)  # type: ignore[no-any-return]


def beyond(d: int, angles: Sequence[float], bits: int) -> list[float]:
    """How likely a vector at each of some angles differs in more than d of so many bits.

    Each bit differs with the angle as its chance (a share of half a turn), so it is the tail of a binomial, here as a
    normal distribution. Planes at right angles to each other scatter less than that, not more.
    """
    found = []
    for angle in angles:
        share = min(max(angle, 1e-6), 1 - 1e-6)
        found.append(0.5 * math.erfc((d + 0.5 - bits * share) / math.sqrt(2 * bits * share * (1 - share))))
    return found
