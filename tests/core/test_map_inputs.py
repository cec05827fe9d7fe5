"""A function of many inputs on a cluster: each input has one outcome, whatever workers die. The pool is simulated."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from multimodal.core.cluster.mapping import _run, _Unit
from multimodal.core.cluster.options import ClusterOptions, cluster_options
from multimodal.core.cluster.pool import Event, Failed, Finished, Lost, Part
from multimodal.core.errors import ClusterError, InvalidInput


class Pool:
    """Two workers that square numbers. dies: whether the worker of these inputs dies."""

    def __init__(self, dies: Callable[[Sequence[int]], bool]) -> None:
        self.dies, self.units, self.n_deaths = dies, [{}, {}], 0  # type: ignore[var-annotated]

    @property
    def room(self) -> int:
        return sum(2 - len(units) for units in self.units)

    def submit(self, number: int, unit: Sequence[int]) -> None:
        min(self.units, key=len)[number] = unit

    def wait(self, timeout_s: float) -> list[Event]:
        events: list[Event] = []
        for units in filter(None, self.units):
            number, unit = next(iter(units.items()))
            if self.dies(unit):
                self.n_deaths += 1
                events += [Lost(other, other == number) for other in units]
                units.clear()
            elif 13 in unit:
                events.append(Failed(number, ZeroDivisionError("thirteen")))
                del units[number]
            else:
                events += [Part(number, [value**2 for value in unit]), Finished(number)]
                del units[number]
        return events


def run(inputs: Sequence[int], dies: Callable[[Sequence[int]], bool]) -> tuple[dict[int, Any], Pool]:
    pool = Pool(dies)
    units = deque(_Unit(start, inputs[start : start + 4]) for start in range(0, len(inputs), 4))
    outcomes: dict[int, Any] = {}
    for start, some in _run(units, pool):  # type: ignore[arg-type]
        for position, outcome in enumerate(some, start):
            assert position not in outcomes, "an input has two outcomes"
            outcomes[position] = outcome
    return outcomes, pool


def test_every_input_has_one_outcome_when_workers_die() -> None:
    chance, struck = random.Random(3), set[int]()

    def dies(unit: Sequence[int]) -> bool:
        if struck & set(unit) or chance.random() < 0.5:
            return False
        struck.update(unit)
        return True

    outcomes, pool = run(range(100, 130), dies)
    assert pool.n_deaths > 2
    assert outcomes == {position: (100 + position) ** 2 for position in range(30)}


def test_an_input_that_kills_its_workers_has_an_error_as_its_outcome() -> None:
    outcomes, _ = run(range(20, 30), lambda unit: 25 in unit)
    error = outcomes.pop(5)
    assert isinstance(error, ClusterError) and "worker ended" in str(error)
    assert outcomes == {position: (20 + position) ** 2 for position in range(10) if position != 5}


def test_an_error_of_the_function_is_raised() -> None:
    with pytest.raises(ZeroDivisionError, match="thirteen"):
        run(range(10, 20), lambda unit: False)


def test_options_of_a_cluster_are_checked() -> None:
    assert cluster_options(None, None, None, None) is None
    assert cluster_options("ray", "host:6379", 2, 0.5) == ClusterOptions("host:6379", 2, 0.5)
    with pytest.raises(InvalidInput, match="gpus_per_worker must be a number of at least 0"):
        ClusterOptions(gpus_per_worker=-1)
    with pytest.raises(InvalidInput, match="workers must be a whole number"):
        ClusterOptions(workers=0)
