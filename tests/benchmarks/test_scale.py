"""The plan for larger indexes: what it reckons from unit costs."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import pytest

from benchmarks import scale

PRICES = Namespace(items=1_000_000, core_hour=0.05, gpu_hour=4.0, gpu_rate=1000.0, gb_month=0.02)
COSTS = {
    "write, us": 20.0, "B-tree, us": 1.0, "prepare, us": 15.0, "table, bytes": 2000.0, "search folder, bytes": 1000.0,
    "vector index, bytes": 100.0, "vector index, us": 36.0, "look up 1,000 known, ms": 9.0, "query, ms": 6.0,
    "query among a tenth, ms": 1.5, "approximate query, ms": 16.0, "decode, ms": 7.2, "encode, ms": 72.0,
}  # fmt: skip


def test_a_plan_multiplies_what_one_item_costs() -> None:
    table = scale.plan(COSTS, PRICES)
    assert table["table, GB"] == [2.0, 20.0, 200.0, 2000.0]
    assert table["write and prepare, core hours"] == [0.01, 0.1, 1.0, 10.0]
    assert table["encode on CPUs, core hours"][0] == 20.0 and table["encode on CPUs, $"][0] == 1.0
    assert table["encode on GPUs, GPU hours"][0] == pytest.approx(0.278, abs=0.001)
    assert table["encode on GPUs, with decoding, $"][0] == pytest.approx(1.11 + 0.1, abs=0.01)
    assert table["storage, $ a month"][1] == pytest.approx(0.62)


def test_a_query_costs_something_for_itself_and_for_each_item() -> None:
    fixed, per_item = scale.query_costs(COSTS, 1_000_000)
    assert (fixed, per_item) == (pytest.approx(1.0), pytest.approx(5e-6))
    assert scale.plan(COSTS, PRICES)["query by codes, one core, ms"] == [6.0, 51.0, 501.0, 5000.0]


def test_vectors_come_in_batches_and_are_the_same_again() -> None:
    first, again = (list(scale.batches(25, 8, 10)) for _ in range(2))
    assert [len(ids) for ids, _ in first] == [10, 10, 5] and len(
        {id_ for ids, _ in first for id_ in ids}
    ) == 25
    assert all(np.array_equal(one[1], other[1]) for one, other in zip(first, again, strict=True))
    assert np.allclose(np.linalg.norm(first[0][1], axis=1), 1, atol=1e-6)
