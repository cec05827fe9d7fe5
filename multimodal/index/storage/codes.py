"""Binary codes: 512 sign bits of a random projection per vector, which estimate the angle between two vectors.

Each bit is the side of a random plane through the mean of the vectors on which a vector lies. The share of differing
bits estimates the angle as seen from the mean (Charikar 2002, "Similarity Estimation Techniques from Rounding
Algorithms"), with an error that depends only on the number of bits. Without the random rotation, the signs of the
coordinates themselves need about eight times as many candidates on the starter's vectors. Without the mean, the bits
carry no information about vectors that all point one way, as CLIP's do.

The first half of the bits, the coarse code, is compared in every row. Coarse codes of BLOCK rows are stored word by
word, so that numpy counts differing bits at cache speed. The fine code is stored row by row, and compared only in rows
that the coarse code leaves, where the coarse code alone is not selective enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from multimodal.index.storage.parallel import spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BITS, COARSE_BITS = 512, 256
COARSE_WORDS = COARSE_BITS // 64  # the coarse codes of a million rows are compared in 2.3 ms on one core
THREAD_BLOCKS = 12  # blocks from which comparing them is worth another thread: 0.5 ms
BLOCK = 16384  # rows per block; their differing words (512 KiB) fit the cache of a core
# Between two calls a thread needs the interpreter's lock, and may have to wait for it until it is woken. Of a single
# thread, two blocks in a call would take 6 % more time.
SHARED_BLOCKS_PER_CALL = 2
SEED = 0


@dataclass(frozen=True, eq=False)
class Projection:
    """What all comparable codes share.

    mean: (dim,) float32, the origin. planes: (dim, BITS) float32, the normals of the planes.
    """

    mean: NDArray[np.float32]
    planes: NDArray[np.float32]

    @classmethod
    def around(cls, mean: NDArray[np.float32]) -> Projection:
        """Planes through a mean (dim,)."""
        return cls(mean, random_planes(len(mean)))

    @classmethod
    def read(cls, folder: Path) -> Projection:
        """Reads what `write` stored, planes included: another machine might draw others. Raises OSError, ValueError."""
        import numpy as np

        return cls(np.load(folder / "mean.npy"), np.load(folder / "planes.npy"))

    def write(self, folder: Path) -> None:
        import numpy as np

        np.save(folder / "mean.npy", self.mean)
        np.save(folder / "planes.npy", self.planes)

    def angles(
        self, query: NDArray[np.float32], cosines: NDArray[np.float32], dots_with_mean: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Angles (n,) between a unit query (dim,) and n unit rows as seen from the mean, as shares of half a turn.

        Computed from each row's cosine with the query (n,) and its dot product with the mean (n,).
        """
        import numpy as np

        mean, wide = self.mean.astype(np.float64), query.astype(np.float64)
        dots = dots_with_mean.astype(np.float64)
        mean_squared = float(mean @ mean)
        lengths = np.linalg.norm(wide - mean) * np.sqrt(np.maximum(1 - 2 * dots + mean_squared, 1e-12))
        inner = cosines.astype(np.float64) - float(wide @ mean) - dots + mean_squared
        return np.asarray(np.arccos(np.clip(inner / np.maximum(lengths, 1e-12), -1, 1)) / np.pi)

    def encode(self, vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
        """Codes (n, BITS / 64) of vectors (n, dim)."""
        import numpy as np

        return _packed(np.subtract(vectors, self.mean) @ self.planes)

    def encode_fast(self, vectors: NDArray[np.float32]) -> NDArray[np.uint64]:
        """As `encode`, in the machine's fastest arithmetic: bits of vectors close to a plane may differ."""
        import torch

        from multimodal.core.backends.runtime import Runtime

        dtype = Runtime("cpu", "auto").dtype
        centred = torch.from_numpy(vectors) - torch.from_numpy(self.mean)
        return _packed((centred.to(dtype) @ torch.from_numpy(self.planes).to(dtype)).float().numpy())


def random_planes(dim: int) -> NDArray[np.float32]:
    """(dim, BITS) random unit directions, orthogonal in groups of dim."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    rotations = [np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(0, BITS, dim)]
    return np.concatenate(rotations, axis=1)[:, :BITS].astype(np.float32)


def _packed(sides: NDArray[np.float32]) -> NDArray[np.uint64]:
    import numpy as np

    return np.packbits(sides > 0, axis=1).view(np.uint64)


def n_blocks(n_rows: int) -> int:
    return -(-n_rows // BLOCK)


class BlockBuilder:
    """Groups coarse codes into blocks (COARSE_WORDS, BLOCK); yields each block when it is full."""

    def __init__(self) -> None:
        import numpy as np

        self._block = np.zeros((COARSE_WORDS, BLOCK), np.uint64)
        self._filled = 0

    def add(self, codes: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
        """Adds codes (n, COARSE_WORDS). A block is valid only until the next one is requested."""
        done = 0
        while done < len(codes):
            taken = codes[done : done + BLOCK - self._filled]
            self._block[:, self._filled : self._filled + len(taken)] = taken.T
            self._filled, done = self._filled + len(taken), done + len(taken)
            if self._filled == BLOCK:
                yield self._block
                self._filled = 0

    def finish(self) -> Iterator[NDArray[np.uint64]]:
        """The last block, if it is partly filled; the columns behind its rows are undefined."""
        if self._filled:
            yield self._block
            self._filled = 0


def coarse_distances(
    blocks: NDArray[np.uint64], query: NDArray[np.uint64], out: NDArray[np.uint8], threads: int = 1
) -> None:
    """Hamming distances of coarse codes: blocks (b, COARSE_WORDS, BLOCK), query (COARSE_WORDS,) -> out (b, BLOCK).

    A distance of 256 wraps to 0: the row then becomes a candidate, and the exact comparison rejects it.
    """
    import numpy as np

    column = query[:, None]

    def compare(part: slice) -> None:
        is_alone = part.stop - part.start == len(blocks)
        per_call = 1 if is_alone else SHARED_BLOCKS_PER_CALL
        differing = np.empty((per_call, COARSE_WORDS, BLOCK), np.uint64)
        counts = np.empty((per_call, COARSE_WORDS, BLOCK), np.uint8)
        for start in range(part.start, part.stop, per_call):
            some = slice(start, min(start + per_call, part.stop))
            n = some.stop - some.start
            np.bitwise_xor(blocks[some], column, out=differing[:n])
            np.bitwise_count(differing[:n], out=counts[:n])
            np.add.reduce(counts[:n], axis=1, dtype=np.uint8, out=out[some])

    spread(compare, len(blocks), threads=threads, least=THREAD_BLOCKS)


def fine_distances(codes: NDArray[np.uint64], query: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Hamming distances (n,) of fine codes (n, w) from a query (w,)."""
    import numpy as np

    return np.bitwise_count(codes ^ query).sum(axis=1, dtype=np.int64)  # type: ignore[no-any-return]


def tail_probabilities(distance: int, angles: Sequence[float], bits: int) -> list[float]:
    """The probability, for each angle, that a vector at that angle differs in more than `distance` of `bits` bits.

    Each bit differs with a probability equal to the angle (a share of half a turn), so this is the tail of a binomial,
    approximated by a normal distribution. Orthogonal planes scatter less than independent ones, not more.
    """
    probabilities = []
    for angle in angles:
        share = min(max(angle, 1e-6), 1 - 1e-6)
        deviation = math.sqrt(2 * bits * share * (1 - share))
        probabilities.append(0.5 * math.erfc((distance + 0.5 - bits * share) / deviation))
    return probabilities
