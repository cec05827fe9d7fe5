"""A pass over many rows is the same on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from multimodal.index.storage import codes
from multimodal.index.storage.parallel import spread


@pytest.mark.parametrize("n", [0, 1, 7, 100])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("multiple", [1, 4])
def test_slices_cover_all_rows_in_order(n: int, threads: int, multiple: int) -> None:
    slices = spread(lambda rows: rows, n, threads=threads, least=2, multiple=multiple)
    assert [row for rows in slices for row in range(rows.start, rows.stop)] == list(range(n))
    assert len(slices) <= threads and all(rows.start % multiple == 0 for rows in slices)


def test_an_error_of_another_thread_is_raised() -> None:
    def fail(rows: slice) -> None:
        if rows.start:
            raise ValueError("bad row")

    with pytest.raises(ValueError, match="bad row"):
        spread(fail, 10, threads=2, least=1)


def test_distances_are_the_same_on_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codes, "THREAD_BLOCKS", 1)
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 2**63, (5, codes.COARSE_WORDS, codes.BLOCK), dtype=np.uint64)
    one, several = (np.empty((5, codes.BLOCK), np.uint8) for _ in range(2))
    for threads, out in ((1, one), (2, several)):
        codes.coarse_distances(blocks, blocks[0, :, 0], out, threads)
    assert np.array_equal(one, several) and one[0, 0] == 0
