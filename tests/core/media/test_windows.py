"""Windows cover everything, evenly, and no more of them than needed."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from multimodal.core.media.windows import windows


def test_windows_of_small_sizes():
    assert windows(9, 10) == [(0, 9)]
    assert windows(10, 10) == [(0, 10)]
    assert windows(11, 10) == [(0, 10), (1, 11)]
    assert windows(25, 10) == [(0, 10), (7, 17), (15, 25)]


@given(st.integers(1, 5_000), st.integers(1, 500))
def test_windows_cover_everything_in_the_fewest_steps(n, length):
    spans = windows(n, length)
    assert spans[0][0] == 0 and spans[-1][1] == n
    assert len(spans) == max(1, -(-n // length))
    assert all(stop - start == min(n, length) for start, stop in spans)
    gaps = [after - start for (start, _), (after, _) in pairwise(spans)]
    assert all(0 < gap <= length for gap in gaps) and (not gaps or max(gaps) - min(gaps) <= 1)
